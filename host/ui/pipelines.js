// All pipelines: state, lag, freshness, throughput and both ledgers; to be filtered and sorted.

import { now } from './api.js';
import { bar, current, spark } from './chart.js';
import { age, badge, brief, count, h, mark, put, rate, say } from './dom.js';
import * as store from './store.js';

const STATES = ['FAILED', 'RUNNING', 'RESTARTING', 'PAUSED', 'STOPPED', 'UNASSIGNED'];
/** How often ages are told anew while nothing else changes. */
const TICK = 1000;

/** What is sorted by, and kept while another view is shown. */
const chosen = { sort: 'name', down: false, text: '', state: null };

export const recordParts = (r) => [
  ['with rows', r.with_rows, 'good'],
  ['refused', r.refused, 'bad'],
  ['filtered', r.filtered, 'quiet'],
];
export const rowParts = (r) => [
  ['written', r.written, 'good'],
  ['refused', r.refused, 'bad'],
  ['filtered', r.filtered, 'quiet'],
  ['duplicates', r.duplicates, 'twice'],
  ['late', r.late, 'late'],
];

/** Milliseconds since the last commit; null: not known. */
export const freshness = (row) => (row.live?.last_commit ? Math.max(now() - row.live.last_commit / 1000, 0) : null);

/** What a person should look at. */
export const needs = (row) => row.state === 'FAILED' || Boolean(row.alarm) || row.live?.closes === false;

const columns = [
  { id: 'name', text: 'Pipeline', of: (row) => row.name.toLowerCase() },
  { id: 'state', text: 'State', of: (row) => (needs(row) ? -1 : STATES.indexOf(row.state)) },
  { id: 'lag', text: 'Lag', kind: 'n', of: (row) => row.live?.lag ?? -1, title: 'Records that are not read yet' },
  { id: 'fresh', text: 'Last commit', kind: 'n', of: (row) => freshness(row) ?? -1, title: 'How long ago the newest rows were committed' },
  { id: 'rate', text: 'Records/s', kind: 'n wide', of: (row) => current(row.live?.recent ?? [], now()) ?? -1, title: 'Of the last minute; the line shows ten minutes or less' },
  { id: 'records', text: 'Records read', kind: 'n', of: (row) => row.live?.records.read ?? -1 },
  { id: 'rows', text: 'Rows written', kind: 'n', of: (row) => row.live?.rows.written ?? -1 },
  { id: 'letters', text: 'Dead letters', kind: 'n', of: (row) => row.live?.dead_letters ?? -1 },
];

function line(name) {
  const state = h('span', { class: 'badge' });
  const sub = h('span', { class: 'sub' });
  const chart = spark();
  const cell = {
    lag: h('span', {}), fresh: h('span', {}), rate: h('span', {}),
    records: h('span', {}), rows: h('span', {}), letters: h('a', { href: `#/p/${encodeURIComponent(name)}/letters` }),
  };
  const ledgers = { records: h('div', { class: 'ledger' }), rows: h('div', { class: 'ledger' }) };
  const told = { records: '', rows: '' };
  const row = h('tr', {},
    h('th', { scope: 'row' }, h('a', { href: `#/p/${encodeURIComponent(name)}` }, name), sub),
    h('td', { class: 'state' }, state),
    h('td', { class: 'n' }, cell.lag),
    h('td', { class: 'n' }, cell.fresh),
    h('td', { class: 'n wide' }, h('div', { class: 'with-spark' }, chart.element, cell.rate)),
    h('td', { class: 'n' }, cell.records, ledgers.records),
    h('td', { class: 'n' }, cell.rows, ledgers.rows),
    h('td', { class: 'n' }, cell.letters));
  let drawn = null;
  const ages = (of) => {
    const ms = freshness(of);
    say(cell.fresh, ms === null ? '–' : age(ms));
    say(cell.rate, rate(current(of.live?.recent ?? [], now())));
  };
  const draw = (of) => {
    say(state, of.state);
    mark(state, 'class', `badge ${of.state.toLowerCase()}`);
    const why = reason(of);
    say(sub, why ?? '');
    mark(sub, 'title', why ?? '');
    mark(row, 'class', needs(of) ? 'needs' : '');
    const live = of.live;
    say(cell.lag, live ? brief(live.lag) : '–');
    say(cell.records, live ? brief(live.records.read) : '–');
    say(cell.rows, live ? brief(live.rows.written) : '–');
    say(cell.letters, live ? brief(live.dead_letters) : '–');
    mark(cell.letters, 'class', live?.dead_letters > 0 ? 'some' : 'zero');
    if (live) {
      part('records', recordParts(live.records), live.closes);
      part('rows', rowParts(live.rows), live.closes);
      const newest = live.recent.at(-1)?.version ?? null;
      if (newest !== drawn) {
        drawn = newest;
        chart.draw(live.recent, now());
      }
    }
    ages(of);
  };
  function part(which, parts, closes) {
    const text = `${parts.map(([what, n]) => `${count(n)} ${what}`).join(' + ')}${closes ? '' : ' – the ledger does not close'}`;
    if (told[which] === text) return;
    told[which] = text;
    ledgers[which].title = text;
    put(ledgers[which], bar(parts));
  }
  return { row, draw, ages };
}

/** One line of what a person should know of a state. */
export function reason(row) {
  if (row.trace) return row.trace.split('\n')[0];
  if (row.alarm) return row.alarm;
  if (row.live?.closes === false) return 'the ledgers do not close: report it';
  if (row.next_run) return `next run ${row.next_run.replace('T', ' ')}`;
  if (row.state !== row.target) return `shall be ${row.target}`;
  return null;
}

export function pipelinesView(main) {
  const lines = new Map();
  const body = h('tbody', {});
  const summary = h('p', { class: 'summary', role: 'status' });
  const chips = h('div', { class: 'chips', role: 'group', 'aria-label': 'States' });
  const search = h('input', { type: 'search', id: 'find', placeholder: 'Find by name', 'aria-label': 'Find by name', value: chosen.text, oninput: () => { chosen.text = search.value; order(); } });
  const heads = columns.map((column) => {
    const button = h('button', { type: 'button', class: 'sort', title: column.title, onclick: () => sort(column) }, column.text);
    return { column, button, head: h('th', { scope: 'col', class: column.kind }, button) };
  });
  const table = h('table', { class: 'pipelines' },
    h('thead', {}, h('tr', {}, heads.map((head) => head.head))), body);
  put(main,
    h('div', { class: 'bar-top' }, h('h1', {}, 'Pipelines'), summary),
    h('div', { class: 'tools' }, search, chips),
    h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Pipelines' }, table));

  function sort(column) {
    chosen.down = chosen.sort === column.id ? !chosen.down : Boolean(column.kind);
    chosen.sort = column.id;
    order();
  }

  /** Places the rows that match; a row that is where it belongs is not touched. */
  function order() {
    for (const { column, head } of heads) {
      const by = column.id === chosen.sort;
      mark(head, 'aria-sort', by ? (chosen.down ? 'descending' : 'ascending') : null);
    }
    const column = columns.find((one) => one.id === chosen.sort);
    const text = chosen.text.trim().toLowerCase();
    const shown = [...store.pipelines.values()]
      .filter((row) => row.name.toLowerCase().includes(text) && (chosen.state === null || row.state === chosen.state))
      .map((row) => ({ row, key: column.of(row) }))
      .sort((a, b) => {
        const by = a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
        return (chosen.down ? -by : by) || a.row.name.localeCompare(b.row.name);
      });
    let at = body.firstElementChild;
    for (const { row } of shown) {
      const element = lines.get(row.name)?.row;
      if (!element) continue;
      if (element === at) at = at.nextElementSibling;
      else body.insertBefore(element, at);
    }
    while (at) {
      const next = at.nextElementSibling;
      at.remove();
      at = next;
    }
    if (shown.length === 0) put(body, h('tr', {}, h('td', { class: 'none', colspan: columns.length }, empty())));
  }

  const empty = () => {
    if (!store.heard) return 'Asking the daemon…';
    if (store.pipelines.size > 0) return 'None matches; take the filter back.';
    return 'There are none yet. Create one with POST /connectors, or name its file in `pipelines` of the worker\'s config.';
  };

  function sums() {
    const all = [...store.pipelines.values()];
    const of = (state) => all.filter((row) => row.state === state).length;
    const rates = all.map((row) => current(row.live?.recent ?? [], now()) ?? 0);
    say(summary, store.heard ? `${count(all.length)} pipelines, ${rate(rates.reduce((a, b) => a + b, 0)).replace('/s', '')} records/s, ${brief(all.reduce((sum, row) => sum + (row.live?.lag ?? 0), 0))} waiting` : '');
    const states = STATES.filter((state) => of(state) > 0 || chosen.state === state);
    const key = states.map((state) => `${state}${of(state)}${chosen.state === state}`).join();
    if (chips.dataset.key === key) return;
    chips.dataset.key = key;
    const focused = chips.contains(document.activeElement) ? document.activeElement.dataset.state : null;
    put(chips, states.map((state) => h('button', {
      type: 'button', class: `chip ${state.toLowerCase()}`, 'data-state': state, 'aria-pressed': String(chosen.state === state),
      onclick: () => {
        chosen.state = chosen.state === state ? null : state;
        sums();
        order();
      },
    }, `${of(state)} ${state.toLowerCase()}`)));
    if (focused) chips.querySelector(`[data-state="${focused}"]`)?.focus();
  }

  function update(names) {
    const began = performance.now();
    for (const name of names) {
      const row = store.pipelines.get(name);
      if (!row) {
        lines.get(name)?.row.remove();
        lines.delete(name);
        continue;
      }
      if (!lines.has(name)) lines.set(name, line(name));
      lines.get(name).draw(row);
    }
    sums();
    order();
    // For tests: how long the newest refresh took.
    table.dataset.refresh = (performance.now() - began).toFixed(1);
  }

  update([...store.pipelines.keys()]);
  const unwatch = store.watch(update);
  const tick = setInterval(() => {
    for (const [name, one] of lines) {
      const row = store.pipelines.get(name);
      if (row) one.ages(row);
    }
    sums();
  }, TICK);
  return () => {
    unwatch();
    clearInterval(tick);
  };
}
