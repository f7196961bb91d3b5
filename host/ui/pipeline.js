// One pipeline: its state and what to do about it, the buttons, and one tab of what there is to see.

import { get, now, seg, send } from './api.js';
import { bar, chart, current, rates } from './chart.js';
import { age, badge, brief, count, facts, failure, h, mark, plural, put, rate, say, span, table, tell, utc } from './dom.js';
import * as store from './store.js';
import { freshness, recordParts, rowParts } from './pipelines.js';
import { commitsTab } from './commits.js';
import { rulesTab } from './rules.js';
import { lettersTab } from './letters.js';
import { zoneTab } from './zone.js';

const TABS = [
  ['now', 'Now', nowTab],
  ['commits', 'Commits', commitsTab],
  ['rules', 'Rules', rulesTab],
  ['letters', 'Dead letters', lettersTab],
  ['zone', 'Zone', zoneTab],
  ['config', 'Config', configTab],
];

/** What a button does: words, method, path, when it makes sense, what is said afterwards. */
const ACTIONS = [
  ['Resume', 'PUT', 'resume', (row) => row.target !== 'RUNNING', 'shall run'],
  ['Pause', 'PUT', 'pause', (row) => row.target === 'RUNNING', 'shall pause: it commits what it has and reads no more'],
  ['Stop', 'PUT', 'stop', (row) => row.target !== 'STOPPED', 'shall stop: it commits what it has and ends'],
  ['Restart', 'POST', 'restart', (row) => row.target === 'RUNNING', 'begins again'],
];

export function pipelineView(main, ctx, name, tab) {
  const [, , body] = TABS.find(([id]) => id === tab) ?? TABS[0];
  const base = `#/p/${seg(name)}`;
  const state = h('span', { class: 'badge' });
  const target = h('span', { class: 'dim' });
  const actions = h('div', { class: 'actions', role: 'group', 'aria-label': 'What it shall do' });
  const trouble = h('div', {});
  const content = h('div', { class: 'content' });
  const tabs = h('nav', { class: 'tabs', 'aria-label': 'Of this pipeline' }, TABS.map(([id, text]) =>
    h('a', { href: id === 'now' ? base : `${base}/${id}`, 'aria-current': id === tab ? 'page' : null }, text)));
  put(main,
    h('div', { class: 'bar-top' }, h('h1', {}, name), state, target, actions),
    trouble, tabs, content);

  const buttons = !ctx.writes ? [] : ACTIONS.map(([words, method, path, fits, said]) => {
    const button = h('button', {
      type: 'button',
      onclick: async () => {
        button.disabled = true;
        try {
          await send(method, `/connectors/${seg(name)}/${path}`);
          tell(`${name} ${said}.`);
          await store.refresh();
        } catch (error) {
          put(trouble, failure(error));
        }
        button.disabled = false;
      },
    }, words);
    return { button, fits };
  });
  put(actions, buttons.map(({ button }) => button));

  let shown = '';
  const draw = () => {
    const row = store.pipelines.get(name);
    if (!row) {
      if (store.heard) {
        put(trouble, failure({ title: 'No such pipeline', message: `this daemon has no pipeline ${name}`, remedy: 'it may have been deleted; the list has those that are there' }));
        content.hidden = true;
        actions.hidden = true;
        shown = '';
      }
      return;
    }
    content.hidden = false;
    actions.hidden = false;
    say(state, row.state);
    mark(state, 'class', `badge ${row.state.toLowerCase()}`);
    say(target, row.state === row.target ? '' : `shall be ${row.target}`);
    for (const { button, fits } of buttons) button.hidden = !fits(row);
    const key = JSON.stringify([row.state, row.target, row.trace, row.alarm, row.live?.closes]);
    if (key !== shown) {
      shown = key;
      put(trouble, troubles(row, ctx));
    }
  };
  draw();
  const unwatch = store.watch(draw);
  const leaves = body(content, { ...ctx, name, base });
  return () => {
    unwatch();
    leaves?.();
  };
}

const goesOn = (row) => row.target === 'RUNNING' && row.state !== 'STOPPED' && row.state !== 'PAUSED';

/** Error, causes and hints of a failure, as a person reads them. */
function troubles(row, ctx) {
  const parts = [];
  if (row.trace) {
    const lines = row.trace.split('\n');
    const hints = lines.filter((line) => line.trim().startsWith('hint: ')).map((line) => line.trim().slice(6));
    const causes = lines.filter((line) => line.trim().startsWith('caused by: ')).map((line) => line.trim().slice(11));
    const again = lines.find((line) => /begins again|stays so until/.test(line))?.trim();
    const where = lines.map((line) => /^ {4}([\w.-]+)=(.*)$/.exec(line)).filter(Boolean);
    const told = /^([a-z_]+): /.exec(lines[0]);
    parts.push(h('section', { class: 'callout bad', 'aria-label': 'Why it failed' },
      h('p', { class: 'strong' }, told ? lines[0].slice(told[0].length) : lines[0], told && h('code', { class: 'tag' }, told[1])),
      causes.length > 0 && h('p', { class: 'lines dim' }, `because: ${causes.at(-1)}`),
      where.length > 0 && facts(...where.map(([, key, value]) => [key, value])),
      h('p', {}, h('b', {}, 'What to do: '), hints.length > 0 ? hints.join('; ') : told ? `weir explain ${told[1]} says more` : 'read the whole text below, mend the config, and restart it',
        ctx.writes ? ', then press Restart.' : ', then have it restarted by somebody who may.'),
      again && h('p', { class: 'dim' }, `It ${again}.`),
      h('details', {}, h('summary', {}, 'The whole text'), h('pre', { tabindex: '0' }, row.trace))));
  }
  if (row.alarm) {
    parts.push(h('section', { class: 'callout warn', 'aria-label': 'Alarm' }, h('p', { class: 'strong' }, goesOn(row) ? 'It goes on, but look at this' : 'Look at this before it goes on'), h('p', { class: 'lines' }, row.alarm)));
  }
  if (row.live?.closes === false) {
    parts.push(h('section', { class: 'callout bad', 'aria-label': 'Ledgers' }, h('p', { class: 'strong' }, 'The ledgers do not close'), h('p', {}, 'What was read is not what was written, refused and filtered together. Stop it, run ', h('code', {}, 'weir log --verify'), ', and report it.')));
  }
  return parts;
}

// ---------------------------------------------------------------------- now

export function ledger(title, total, parts, closes) {
  return h('section', { class: 'card' },
    h('h2', {}, title, closes ? badge('closes', 'good') : badge('does not close', 'failed')),
    h('p', { class: 'big' }, count(total[1]), h('span', { class: 'unit' }, total[0])),
    bar(parts),
    h('ul', { class: 'parts' }, parts.map(([what, n, kind]) => h('li', { class: kind }, h('span', { class: 'amount' }, count(n)), ' ', what))));
}

const COMMITS_SHOWN = 100;

/** Charts of the newest commits, from the daemon's memory, or else from the log. */
async function series(name) {
  try {
    const query = await get(`/pipelines/${seg(name)}/progress`, { limit: COMMITS_SHOWN });
    const all = (query.recentProgress ?? []).filter((one) => one.weir);
    if (all.length > 1) return fromProgress(all);
  } catch (error) {
    if (error.status !== 404) throw error;
  }
  const page = await get(`/pipelines/${seg(name)}/log`, { limit: COMMITS_SHOWN });
  const beats = page.entries.filter((entry) => entry.spans?.length > 0 && ['data', 'batch'].includes(entry.kind)).map((entry) => ({
    time: entry.time,
    read: entry.spans.reduce((sum, one) => sum + one.records.read, 0),
    written: entry.spans.reduce((sum, one) => sum + one.rows.written, 0),
  }));
  return fromBeats(beats);
}

function fromBeats(beats) {
  const input = rates(beats, 'read');
  const output = rates(beats, 'written');
  return [
    { title: 'Input rate', unit: 'records per second', series: [{ name: 'records', points: input }], show: short },
    { title: 'Output rate', unit: 'rows per second', series: [{ name: 'rows', points: output }], show: short },
    { title: 'Records in a commit', unit: 'records', series: [{ name: 'records', points: input.map((p, i) => ({ ...p, value: beats[i].read })) }], show: short },
    { title: 'Between commits', unit: 'time', series: [{ name: 'time', points: input.map((p) => ({ ...p, value: p.wide * 1000 })) }], show: span },
  ];
}

function fromProgress(all) {
  const beats = all.map((one) => ({ time: Date.parse(one.timestamp) * 1000, one }));
  const apart = rates(beats.map((beat) => ({ time: beat.time, read: 0 })));
  const points = (of) => beats.map((beat, i) => ({ time: beat.time, wide: apart[i].wide, value: of(beat.one) ?? 0 }));
  const stages = ['read', 'transform', 'write', 'seal', 'commit'];
  return [
    { title: 'Input rate', unit: 'records per second', series: [{ name: 'records', points: points((one) => one.inputRowsPerSecond) }], show: short },
    { title: 'Process rate', unit: 'records per second of work', series: [{ name: 'records', points: points((one) => one.processedRowsPerSecond) }], show: short },
    { title: 'Records in a commit', unit: 'records', series: [{ name: 'records', points: points((one) => one.numInputRows) }], show: short },
    { title: 'Batch duration', unit: 'work of the tasks together', series: [{ name: 'time', points: points((one) => one.durationMs.triggerExecution) }], show: span },
    { title: 'Operation duration', unit: 'by stage', stacked: true, series: stages.map((stage) => ({ name: stage, points: points((one) => one.weir.stageMs[stage]) })), show: span },
    { title: 'Latency', unit: 'from record to visible row', series: [{ name: 'mean', points: points((one) => one.weir.latency?.mean) }, { name: 'p99', points: points((one) => one.weir.latency?.p99) }], show: span },
  ];
}

const short = (n) => (n < 10 && n > 0 ? n.toFixed(1) : brief(Math.round(n)));
/** Charts are drawn anew at most this often: each asks for a hundred commits. */
const CHARTS_EVERY = 5000;

function nowTab(content, { name }) {
  const tiles = h('div', { class: 'tiles' });
  const tile = {};
  for (const [id, text] of [['lag', 'Lag'], ['fresh', 'Last commit'], ['input', 'Input rate'], ['version', 'Version'], ['generation', 'Rules'], ['letters', 'Dead letters']]) {
    tile[id] = { value: h('span', { class: 'big' }, '–'), note: h('span', { class: 'dim' }) };
    tiles.append(h('div', { class: 'tile' }, h('span', { class: 'name' }, text), tile[id].value, tile[id].note));
  }
  const ledgers = h('div', { class: 'two' });
  const charts = h('div', { class: 'charts' });
  const positions = h('div', {});
  put(content, tiles, ledgers, h('h2', { class: 'part' }, 'Newest commits'), charts, positions);

  let log = null;
  let version = null;
  let due = null;
  let asked = 0;
  const live = () => {
    const row = store.pipelines.get(name);
    return { row, live: row?.live ?? null };
  };
  const ages = () => {
    const { row, live: of } = live();
    const ms = row ? freshness(row) : null;
    say(tile.fresh.value, ms === null ? '–' : age(ms));
    say(tile.fresh.note, of?.last_commit ? utc(of.last_commit) : 'not known: nothing was committed since the daemon began');
    const per = of ? current(of.recent, now()) : null;
    say(tile.input.value, rate(per));
    const lag = of?.lag ?? null;
    say(tile.lag.note, lag > 0 && per > 0 ? `${span((lag / per) * 1000)} at this rate` : lag === 0 ? 'all is read' : lag === null ? (row?.state === 'RUNNING' ? 'the source does not say' : 'known while it runs') : '');
  };
  const draw = () => {
    const { row, live: of } = live();
    if (!row) return;
    const told = of ?? log;
    say(tile.lag.value, of ? brief(of.lag) : '–');
    say(tile.version.value, told ? count(told.version) : '–');
    say(tile.version.note, 'of the commit log');
    say(tile.generation.value, told ? count(told.generation) : '–');
    say(tile.generation.note, 'generation: the version that put them in force');
    say(tile.letters.value, told ? brief(told.dead_letters) : '–');
    say(tile.letters.note, told ? refusedShare(told.records) : '');
    say(tile.input.note, `${plural(row.tasks.length, 'task')}, of the last minute`);
    ages();
    if (told && told.version !== version) {
      version = told.version;
      put(ledgers,
        ledger('Records', ['read', told.records.read], recordParts(told.records), told.closes),
        ledger('Rows', ['made', told.rows.made], rowParts(told.rows), told.closes));
      if (due === null) due = setTimeout(ask, Math.max(CHARTS_EVERY - (Date.now() - asked), 0));
    }
  };
  async function ask() {
    asked = Date.now();
    try {
      const [all, one] = await Promise.all([series(name), get(`/pipelines/${seg(name)}`)]);
      log = one.log;
      const focused = [...charts.children].findIndex((child) => child.contains(document.activeElement));
      const none = all.every((one) => one.series[0].points.length === 0);
      put(charts, none ? h('p', { class: 'none card' }, 'Nothing was committed yet.') : all.map(chart));
      charts.children[focused]?.querySelector('svg')?.focus();
      put(positions, log && positionsOf(log));
    } catch (error) {
      if (error.status === 404) put(charts, h('p', { class: 'none' }, 'It has no commit log yet: it has not begun.'));
      else put(charts, failure(error, ask));
    }
    due = null;
    draw();
  }
  due = setTimeout(ask, 0);
  draw();
  const unwatch = store.watch(draw);
  const tick = setInterval(ages, 1000);
  return () => {
    unwatch();
    clearInterval(tick);
    clearTimeout(due);
  };
}

/** A record of which every piece was refused is in both numbers. */
function refusedShare(records) {
  if (records.read === 0) return '';
  const least = Math.max(records.refused, records.refused_in_part);
  const exact = records.refused === 0 || records.refused_in_part === 0;
  return `${exact ? '' : 'at least '}${(least / records.read * 100).toFixed(2)} % of the records, in whole or in part`;
}

const POSITIONS_SHOWN = 200;

function positionsOf(log) {
  const rows = log.positions.slice(0, POSITIONS_SHOWN).map((at) => h('tr', {},
    h('th', { scope: 'row' }, at.topic), h('td', { class: 'n' }, count(at.partition)),
    h('td', { class: 'n' }, count(at.start)), h('td', { class: 'n' }, count(at.to)), h('td', { class: 'n' }, count(at.to - at.start))));
  return h('section', {}, h('h2', { class: 'part' }, 'Positions'),
    table('Positions', ['Topic', ['Partition', 'n'], ['Began at', 'n'], ['Next offset', 'n'], ['Passed', 'n']], rows, 'No partition was opened yet.'),
    log.positions.length > POSITIONS_SHOWN && h('p', { class: 'dim' }, `and ${count(log.positions.length - POSITIONS_SHOWN)} more`),
    h('p', { class: 'dim' }, `${log.log} in ${log.url}`));
}

// ------------------------------------------------------------------- config

function configTab(content, { name }) {
  put(content, h('p', { class: 'dim' }, 'Asking…'));
  const ask = async () => {
    try {
      const [config, history] = await Promise.all([get(`/connectors/${seg(name)}/config`), get(`/pipelines/${seg(name)}/configs`, { limit: 50 })]);
      const keys = Object.entries(config).sort(([a], [b]) => a.localeCompare(b));
      const changes = history.changes.slice().reverse();
      put(content,
        h('h2', { class: 'part' }, 'As it was given'),
        h('p', { class: 'dim' }, 'Secrets are references and stay so. PUT or PATCH /connectors/…/config changes it; rules are changed under Rules.'),
        table('Config', ['Key', 'Value'], keys.map(([key, value]) => h('tr', {}, h('th', { scope: 'row' }, h('code', {}, key)), h('td', { class: 'wrap' }, value)))),
        h('h2', { class: 'part' }, 'Who changed it'),
        table('Changes', ['When', 'Who', 'What'], changes.map((one) => h('tr', {},
          h('td', {}, utc(one.time)), h('td', {}, one.by), h('td', { class: 'wrap' }, what(one)))), 'Nothing is recorded.'),
        history.more && h('p', { class: 'dim' }, 'Older changes: GET /pipelines/…/configs?skip='));
    } catch (error) {
      if (error.status === 404) put(content, h('p', { class: 'none' }, 'weir run has its config from a file: read it there.'));
      else put(content, failure(error, ask));
    }
  };
  ask();
}

function what(change) {
  const keys = change.config && plural(Object.keys(change.config).length, 'key');
  switch (change.what) {
    case 'created': return `created, ${change.target}, with ${keys}`;
    case 'config': return `another config, ${keys}`;
    case 'taken_back': return `its config was taken back: ${change.why}`;
    case 'target': return `shall be ${change.target}${change.why ? `: ${change.why}` : ''}`;
    case 'offsets': return change.message;
    default: return String(change.what).replaceAll('_', ' ');
  }
}
