// Rules: which made which offsets, other ones with a check before the button, and the way back.

import { get, post, push, seg } from './api.js';
import { bar } from './chart.js';
import { badge, code, count, digest, failure, h, plural, put, table, tell, utc } from './dom.js';
import * as store from './store.js';
import { rulesOf } from './commits.js';

const PAGE = 50;

export function rulesTab(content, ctx) {
  const { name, writes } = ctx;
  const inForce = h('section', {});
  const change = h('section', { 'aria-label': 'Change the rules' });
  const past = h('section', {});
  put(content, inForce, change, past);
  let generation = null;

  const ask = async () => {
    try {
      const [one, history] = await Promise.all([get(`/pipelines/${seg(name)}`), get(`/pipelines/${seg(name)}/history`, { limit: PAGE })]);
      if (!one.log) {
        put(inForce, h('p', { class: 'none' }, 'It has not begun: its first start puts the rules of the config in force.'));
        return;
      }
      generation = one.log.generation;
      put(inForce, h('h2', { class: 'part' }, `In force since version ${count(one.log.generation)}`), rulesOf(one.log.transforms, 'Rules in force'));
      if (writes) put(change, changing(ctx, one.log.transforms, ask));
      put(past, periods(ctx, history, ask));
    } catch (error) {
      if (error.status === 404) put(inForce, h('p', { class: 'none' }, 'It has no commit log yet: its first start puts the rules of the config in force.'));
      else put(inForce, failure(error, ask));
    }
  };
  ask();
  return store.watch(() => {
    const now = store.pipelines.get(name)?.live?.generation;
    if (generation !== null && now !== undefined && now !== generation) {
      generation = now;
      ask();
    }
  });
}

// ------------------------------------------------------------------ changing

function changing({ name }, transforms, again) {
  const picks = transforms.map((rule, k) => {
    const select = h('select', { id: `pick${k}` }, h('option', { value: '' }, `keep ${rule.plugin}@${rule.version} ${digest(rule.component)}`));
    return { rule, select };
  });
  const builds = h('span', { class: 'dim' }, picks.length > 0 && 'The builds in the plugin store are read…');
  // Builds that lie loose are looked into for their versions, which takes a while: the rest of the form does not wait.
  get('/plugins').then((plugins) => {
    const usable = plugins.filter((plugin) => plugin.version !== '' && !plugin.yanked);
    for (const { rule, select } of picks) {
      // Builds of the same plugin first.
      const near = usable.filter((one) => one.plugin === rule.plugin);
      for (const one of near.concat(usable.filter((other) => other.plugin !== rule.plugin))) {
        if (one.digest === rule.component) continue;
        select.append(h('option', { value: `${one.plugin}@${one.digest}` }, `${one.plugin}@${one.version} ${digest(one.digest)}${one.shipped ? ', shipped' : ''}`));
      }
    }
    put(builds);
  }, (error) => put(builds, failure(error)));
  const reload = h('input', { type: 'checkbox', id: 'reload' });
  const reason = h('input', { id: 'reason', maxlength: 500, placeholder: 'stands in the log for good' });
  const result = h('div', { 'aria-live': 'polite' });
  const check = h('button', { class: 'main', type: 'submit' }, 'Check');
  const wanted = () => {
    const named = picks.filter(({ select }) => select.value !== '').map(({ rule, select }) => [rule.transform, select.value]);
    return { ...(reload.checked ? { reload: true } : {}), ...(named.length > 0 ? { transforms: Object.fromEntries(named) } : {}) };
  };
  // What was checked and what is put in force are the same, or it is checked again.
  const stale = () => put(result);
  for (const { select } of picks) select.addEventListener('change', stale);
  reload.addEventListener('change', stale);
  const form = h('form', {
    class: 'swap',
    onsubmit: async (event) => {
      event.preventDefault();
      const body = wanted();
      if (Object.keys(body).length === 0) {
        put(result, h('p', { class: 'problem', role: 'alert' }, 'Nothing is chosen: pick another build, or all rules of the config.'));
        return;
      }
      check.disabled = true;
      put(result, h('p', { class: 'dim' }, 'The new rules are found, compiled and started with the columns in force…'));
      await preview(result, { path: `/pipelines/${seg(name)}/swap`, body, reason, again, words: 'Put in force', breaks: true });
      check.disabled = false;
    },
  },
  h('h2', { class: 'part' }, 'Other rules'),
  picks.map(({ rule, select }, k) => h('div', { class: 'field' }, h('label', { for: `pick${k}` }, rule.transform), select)),
  builds,
  h('div', { class: 'check' }, reload, h('label', { for: 'reload' }, 'All rules that the config declares now: edited rule files, other keys')),
  pushing(again),
  h('div', { class: 'field' }, h('label', { for: 'reason' }, 'Why'), reason),
  check, result);
  return form;
}

/** A component from this computer into the plugin store. */
function pushing(again) {
  const said = h('span', { class: 'dim', role: 'status' });
  const file = h('input', {
    type: 'file', id: 'component', accept: '.wasm',
    onchange: async () => {
      const [one] = file.files;
      if (!one) return;
      put(said, `pushing ${one.name}…`);
      try {
        const pushed = await push(one);
        tell(`${pushed.plugin}@${pushed.version} is in the plugin store.`);
        again();
      } catch (error) {
        put(said, failure(error));
      }
    },
  });
  return h('div', { class: 'field' }, h('label', { for: 'component' }, 'New build'), h('div', {}, file, ' ', said));
}

/** Asks with `dry_run`, shows what would change, and gives the button that does it. */
async function preview(result, { path, body, reason, again, words, breaks, danger }) {
  let found;
  let refused = null;
  try {
    found = await post(path, { ...body, dry_run: true });
  } catch (error) {
    refused = error;
    found = error.details?.change ?? error.details?.swap ?? null;
  }
  const parts = [];
  if (found?.columns) parts.push(whatChanges(found));
  if (refused) {
    parts.unshift(failure(refused));
    if (breaks && !body.force && refused.details?.hint?.includes('--force')) {
      parts.push(h('p', {}, h('button', { type: 'button', class: 'danger', onclick: () => preview(result, { path, body: { ...body, force: true }, reason, again, words: `${words} all the same`, breaks, danger: true }) }, 'Check it all the same')));
    }
    const breaking = breaks && found?.columns?.effect === 'breaking';
    if (breaking) parts.push(h('p', {}, 'Readers of the table may fail. Where they know:'), doing(true));
    put(result, parts);
    return;
  }
  if (found.state === 'already') {
    put(result, parts, h('p', { class: 'callout quiet' }, 'These rules are in force already: there is nothing to do.'));
    return;
  }
  put(result, h('p', { class: 'callout good' }, 'The check found nothing against it. Nothing was changed yet.'), parts, doing(false));
  result.querySelector('button.main, button.danger')?.focus();

  function doing(allow) {
    const button = h('button', {
      type: 'button', class: allow || danger ? 'danger' : 'main',
      onclick: async () => {
        button.disabled = true;
        try {
          const done = await post(path, { ...body, ...(allow ? { allow_breaking: true } : {}), reason: reason.value });
          tell(done.state === 'already' ? 'These rules were in force already.' : `In force after version ${done.version}${done.by_process ? ', in the running process' : '; it does not run: its next start follows them'}.`);
          put(result);
          await Promise.allSettled([store.refresh()]);
          again();
        } catch (error) {
          put(result, failure(error));
        }
      },
    }, allow ? `${words}, and let columns go` : words);
    return h('p', {}, button);
  }
}

function whatChanges(found) {
  const before = new Map(found.transforms_before.map((rule) => [rule.transform, rule]));
  const now = new Map(found.transforms.map((rule) => [rule.transform, rule]));
  const names = [...new Set([...before.keys(), ...now.keys()])];
  const rules = names.map((name) => {
    const [a, b] = [before.get(name), now.get(name)];
    const same = a && b && a.component === b.component;
    const sameConfig = a && b && a.config === b.config;
    return h('tr', { class: same && sameConfig ? '' : 'changed' },
      h('th', { scope: 'row' }, name),
      h('td', {}, a ? [`${a.plugin}@${a.version} `, code(a.component)] : 'none'),
      h('td', {}, !b ? 'none' : same ? 'same' : [`${b.plugin}@${b.version} `, code(b.component)]),
      h('td', {}, !a || !b ? '–' : sameConfig ? 'same' : [code(a.config), ' → ', code(b.config)]));
  });
  const columns = found.columns;
  const rows = (columns.changes ?? []).map((one) => h('tr', { class: one.effect },
    h('th', { scope: 'row' }, one.column), h('td', {}, one.from || 'not there'), h('td', {}, one.to || 'gone'), h('td', {}, badge(one.effect, `effect ${one.effect}`))));
  return h('div', { class: 'detail' },
    h('h3', {}, 'Rules'), table('Rules before and after', ['Transform', `In force (generation ${count(found.replaces)})`, 'Becomes', 'Config'], rules, 'There are no transforms.'),
    h('h3', {}, 'Columns ', badge(columns.effect, `effect ${columns.effect}`)),
    rows.length > 0 ? table('Columns', ['Column', 'From', 'To', 'For readers'], rows) : h('p', { class: 'dim' }, columns.why ?? 'They stay as they are.'),
    (found.diff ?? []).map(textChanges),
    found.trial && tried(found.trial),
    found.block?.length > 0 && h('p', { class: 'callout warn' }, 'This is blocked from now on, until somebody forces it: ', found.block.map((one) => [code(one), ' '])),
    (found.hints ?? []).map((hint) => h('p', { class: 'callout quiet' }, hint)));
}

/** Keys and files of one transform that differ, line by line. */
function textChanges(diff) {
  const line = (one) => h('div', { class: one.what }, one.text);
  return [
    h('h3', {}, `What changed in ${diff.transform}`),
    diff.keys.length > 0 && table(`Keys of ${diff.transform}`, ['Key', 'Was', 'Becomes'], diff.keys.map((one) => h('tr', {}, h('th', { scope: 'row' }, h('code', {}, one.key)), h('td', { class: 'wrap' }, one.before ?? 'not set'), h('td', { class: 'wrap' }, one.after ?? 'not set')))),
    diff.files.map((file) => [
      h('p', {}, h('code', {}, file.key), h('span', { class: 'dim' }, ` ${plural(file.removed, 'line')} less, ${plural(file.added, 'line')} more`)),
      file.note && h('p', { class: 'dim' }, file.note),
      file.lines.length > 0 && h('pre', { class: 'diff', tabindex: '0', 'aria-label': `Lines of ${file.key}` }, file.lines.map(line)),
      file.more && h('p', { class: 'dim' }, 'There is more than is shown.'),
    ]),
  ];
}

const OUTCOMES = { changed: 'other rows', newly_refused: 'newly refused', newly_accepted: 'newly accepted' };

/** What the rules would do to records that are committed. */
function tried(trial) {
  const made = (one) => [one.rows.map((row) => h('code', { class: 'row' }, row)), one.refusals.map((why) => h('div', { class: 'why-not' }, why)), one.rows.length === 0 && one.refusals.length === 0 && 'nothing'];
  return [
    h('h3', {}, `Tried on the newest ${plural(trial.records, 'record')}`),
    bar([['same', trial.same, 'good'], ['changed', trial.changed, 'late'], ['newly refused', trial.newly_refused, 'bad'], ['newly accepted', trial.newly_accepted, 'twice']]),
    h('ul', { class: 'parts' }, [['same', trial.same, 'good'], ['other rows', trial.changed, 'late'], ['newly refused', trial.newly_refused, 'bad'], ['newly accepted', trial.newly_accepted, 'twice']].map(([what, n, kind]) => h('li', { class: kind }, h('span', { class: 'amount' }, count(n)), ' ', what))),
    !trial.complete && h('p', { class: 'dim' }, 'The time was over before all of them were looked at.'),
    trial.examples.length > 0 && table('Examples', ['Record', 'Outcome', 'By the rules in force', 'By the new rules'], trial.examples.map((one) => h('tr', {},
      h('th', { scope: 'row' }, `${one.topic}/${one.partition}@${count(one.offset)}`, h('details', {}, h('summary', {}, 'record'), h('pre', { tabindex: '0' }, one.record))),
      h('td', {}, OUTCOMES[one.outcome] ?? one.outcome), h('td', { class: 'wrap' }, made(one.before)), h('td', { class: 'wrap' }, made(one.after))))),
  ];
}

// ------------------------------------------------------------------- history

const SHOWN_RANGES = 4;

function offsets(period) {
  const text = (range) => `${range.topic ?? range.split}${range.partition === null ? '' : `/${range.partition}`} ${count(range.from)} … ${count(range.to)}`;
  const shown = period.ranges.slice(0, SHOWN_RANGES).map((range) => h('div', {}, text(range)));
  const rest = period.ranges.length - SHOWN_RANGES;
  return rest > 0 ? [shown, h('div', { class: 'dim' }, `and ${plural(rest, 'partition')} more`)] : shown.length > 0 ? shown : h('span', { class: 'dim' }, 'none');
}

function periods({ name, writes }, history, again) {
  const all = (history.periods ?? history.history ?? []).slice().reverse();
  const result = h('div', { 'aria-live': 'polite' });
  const reason = h('input', { id: 'back-reason', maxlength: 500, placeholder: 'stands in the log for good' });
  const why = h('div', { class: 'field', hidden: true }, h('label', { for: 'back-reason' }, 'Why'), reason);
  const rows = all.map((one) => {
    const state = one.in_force ? badge('in force', 'good') : one.blocked ? badge('blocked', 'warn') : badge('past', 'quiet');
    const back = writes && !one.in_force && !one.blocked && h('button', {
      type: 'button',
      onclick: async () => {
        why.hidden = false;
        put(result, h('p', { class: 'dim' }, 'Checking…'));
        await preview(result, { path: `/pipelines/${seg(name)}/rollback`, body: { to: one.generation }, reason, again, words: `Roll back to generation ${one.generation}`, danger: true });
      },
    }, `Back to ${count(one.generation)}`);
    return h('tr', {},
      h('th', { scope: 'row', class: 'n' }, count(one.generation)),
      h('td', {}, state, ' ', back),
      h('td', {}, `${count(one.generation + 1)} … ${one.until === null ? 'now' : count(one.until)}`),
      h('td', {}, offsets(one)),
      h('td', {}, one.transforms.map((rule) => h('div', {}, `${rule.transform}=${rule.plugin}@${rule.version} `, code(rule.component), ' ', code(rule.config)))),
      h('td', {}, utc(one.time)), h('td', {}, one.actor || '–'), h('td', { class: 'wrap' }, one.reason || '–'));
  });
  return [
    h('h2', { class: 'part' }, 'Which rules made what'),
    table('History of rules', [['Generation', 'n'], 'Now', 'Versions', 'Offsets', 'Rules', 'Since (UTC)', 'By', 'Why'], rows, 'Nothing is here.'),
    history.more && h('p', { class: 'dim' }, 'Older ones: weir pipeline history'),
    why, result,
  ];
}
