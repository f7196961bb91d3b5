// The commit log, a page at a time, each entry with its files, digests, ledgers and rules.

import { get, seg } from './api.js';
import { badge, brief, bytes, code, count, facts, failure, h, plural, put, table, utc } from './dom.js';
import * as store from './store.js';

const PAGE = 50;

const KINDS = {
  init: 'the log begins', open: 'begins to read', data: 'records', batch: 'a batch', gap: 'records that were gone', swap: 'other rules',
  rewind: 'goes back', gc: 'takes away what was never live', reader: 'a reader moved', plan: 'plans a batch', void: 'gives a plan up',
  horizon: 'forgets', expire: 'files expired', archived: 'files are archived', forget: 'forgets a reader', compact: 'files were merged',
};

function sums(entry) {
  const of = { read: 0, refused: 0, written: 0, letters: 0, lost: 0 };
  for (const one of entry.spans ?? []) {
    of.read += one.records.read;
    of.refused += one.records.refused;
    of.written += one.rows.written;
    of.letters += one.dead_letters ?? 0;
    of.lost += one.lost ?? 0;
  }
  return of;
}

export function commitsTab(content, { name, query, base }) {
  const list = h('div', {});
  const from = h('input', { id: 'version', type: 'text', inputmode: 'numeric', pattern: '[0-9]*', size: 9, 'aria-label': 'Version' });
  const pages = h('div', { class: 'pages' });
  const news = h('a', { class: 'chip', href: `${base}/commits`, hidden: true }, 'newer commits are there');
  const go = h('form', {
    class: 'inline',
    onsubmit: (event) => {
      event.preventDefault();
      const version = Number(from.value);
      if (from.value.trim() !== '' && Number.isSafeInteger(version)) location.hash = `${base}/commits?before=${version + 1}`;
    },
  }, h('label', { for: 'version' }, 'Version'), from, h('button', { type: 'submit' }, 'Go'));
  put(content, h('div', { class: 'tools' }, pages, go, news), list);
  let newest = null;
  const before = /^\d+$/.test(query.before ?? '') ? query.before : undefined;

  const ask = async () => {
    put(list, h('p', { class: 'dim' }, 'Asking…'));
    let page;
    try {
      page = await get(`/pipelines/${seg(name)}/log`, { limit: PAGE, before });
    } catch (error) {
      if (error.status === 404) put(list, h('p', { class: 'none' }, 'It has no commit log yet: it has not begun.'));
      else put(list, failure(error, ask));
      return;
    }
    newest = page.version;
    const entries = page.entries.slice().reverse();
    const older = page.before;
    const newer = page.next === null ? null : page.next + PAGE > page.version ? '' : `?before=${page.next + PAGE}`;
    put(pages,
      h('a', { class: 'button', href: `${base}/commits`, 'aria-disabled': newer === null ? 'true' : null }, 'Newest'),
      h('a', { class: 'button', href: newer === null ? null : `${base}/commits${newer}`, 'aria-disabled': newer === null ? 'true' : null }, '← Newer'),
      h('a', { class: 'button', href: older === null ? null : `${base}/commits?before=${older}`, 'aria-disabled': older === null ? 'true' : null }, 'Older →'),
      h('span', { class: 'dim' }, entries.length > 0 ? `${count(entries.at(-1).version)} to ${count(entries[0].version)} of ${count(page.version)}` : 'none'));
    put(list, h('h2', { class: 'part' }, 'Entries of the log'), table('Commits', [['Version', 'n'], 'When (UTC)', 'What', ['Read', 'n'], ['Written', 'n'], ['Dead letters', 'n'], ['Files', 'n'], ['Bytes', 'n'], ['Rules', 'n']],
      entries.flatMap((entry) => lines(entry, page)), 'Nothing is here.'));
    if (page.horizon > 0) list.append(h('p', { class: 'dim' }, `Entries below ${count(page.horizon)} may have been forgotten (commit.log.retention); the ledgers have them still.`));
  };
  ask();
  return store.watch(() => {
    const version = store.pipelines.get(name)?.live?.version;
    if (newest !== null && version > newest && before === undefined) news.hidden = false;
  });
}

function lines(entry, page) {
  const of = sums(entry);
  const more = h('tr', { class: 'more', hidden: true }, h('td', { colspan: 9 }));
  const open = h('button', {
    type: 'button', class: 'open', 'aria-expanded': 'false', 'aria-label': `Commit ${entry.version}`,
    onclick: () => {
      const shows = more.hidden;
      if (shows && more.firstChild.childElementCount === 0) put(more.firstChild, detail(entry, page));
      more.hidden = !shows;
      open.setAttribute('aria-expanded', String(shows));
    },
  }, count(entry.version));
  const files = (entry.add ?? []).filter((file) => file.role !== 'keys');
  const settles = (entry.spans ?? []).length > 0;
  const n = (value) => h('td', { class: value > 0 ? 'n' : 'n zero' }, settles ? brief(value) : '');
  return [h('tr', {},
    h('th', { scope: 'row', class: 'n' }, open),
    h('td', { class: 'time' }, h('span', { class: 'date' }, utc(entry.time).slice(0, 11)), utc(entry.time).slice(11)),
    h('td', {}, badge(entry.kind, `k-${entry.kind}`), ' ', h('span', { class: 'dim' }, KINDS[entry.kind] ?? '')),
    n(of.read), n(of.written),
    h('td', { class: of.letters > 0 ? 'n some' : 'n zero' }, settles ? brief(of.letters) : ''),
    h('td', { class: 'n' }, files.length > 0 ? count(files.length) : ''),
    h('td', { class: 'n' }, files.length > 0 ? bytes(files.reduce((sum, file) => sum + file.bytes, 0)) : ''),
    h('td', { class: 'n' }, entry.rules ? count(entry.rules.generation) : '')), more];
}

export const rulesOf = (transforms, label = 'Rules') => table(label, ['Transform', 'Plugin', 'Component', 'Config'], transforms.map((rule) => h('tr', {},
  h('th', { scope: 'row' }, rule.transform), h('td', {}, `${rule.plugin}@${rule.version}`), h('td', {}, code(rule.component)), h('td', {}, code(rule.config)))), 'There are no transforms.');

const letters = (id, page) => page.positions.find((at) => at.split === id);

function detail(entry, page) {
  const parts = [facts(
    ['Digest', code(entry.digest)], ['Parent', entry.parent ? code(entry.parent) : 'none'], ['Written by', entry.writer.id], ['Begun on version', count(entry.base)],
    entry.swap && ['Swap', `by ${entry.swap.actor || 'nobody named'}${entry.swap.reason ? `: ${entry.swap.reason}` : ''}`],
  )];
  if (entry.spans?.length > 0) {
    parts.push(h('h3', {}, 'Ledgers'), table(`Ledgers of ${entry.version}`, ['Partition', ['Offsets', 'n'], ['Read', 'n'], ['With rows', 'n'], ['Refused', 'n'], ['Filtered', 'n'], ['Rows made', 'n'], ['Written', 'n'], ['Refused', 'n'], ['Filtered', 'n'], ['Duplicates', 'n'], ['Dead letters', 'n']],
      entry.spans.map((one) => {
        const at = letters(one.split, page);
        const n = (value) => h('td', { class: value > 0 ? 'n' : 'n zero' }, count(value));
        return h('tr', {}, h('th', { scope: 'row' }, at ? `${at.topic}/${at.partition}` : one.split), h('td', { class: 'n' }, `${count(one.from)} … ${count(one.to)}`),
          n(one.records.read), n(one.records.with_rows), n(one.records.refused), n(one.records.filtered), n(one.rows.made), n(one.rows.written), n(one.rows.refused), n(one.rows.filtered), n(one.rows.duplicates), n(one.dead_letters ?? 0));
      })));
  }
  if (entry.add?.length > 0) {
    parts.push(h('h3', {}, plural(entry.add.length, 'file')), table(`Files of ${entry.version}`, ['Path', 'Role', ['Rows', 'n'], ['Bytes', 'n'], 'Digest', 'Schema', 'Rows as a set'],
      entry.add.map((file) => h('tr', {}, h('th', { scope: 'row', class: 'path' }, file.path), h('td', {}, file.role.replace('_', ' ')), h('td', { class: 'n' }, count(file.rows)), h('td', { class: 'n' }, bytes(file.bytes)), h('td', {}, code(file.digest)), h('td', {}, code(file.schema)), h('td', {}, code(file.row_digest))))));
  }
  if (entry.deliver?.length > 0) {
    parts.push(h('h3', {}, 'Taken by others'), table(`Deliveries of ${entry.version}`, ['Id', 'Role', ['Rows', 'n']], entry.deliver.map((one) => h('tr', {}, h('th', { scope: 'row' }, h('code', {}, one.id)), h('td', {}, one.role.replace('_', ' ')), h('td', { class: 'n' }, count(one.rows))))));
  }
  if (entry.rules) parts.push(h('h3', {}, `Rules of generation ${count(entry.rules.generation)}`), rulesOf(entry.rules.transforms, `Rules of ${entry.version}`));
  if (entry.swap?.transforms) parts.push(h('h3', {}, 'Rules from here on'), rulesOf(entry.swap.transforms, `Rules after ${entry.version}`));
  const counters = Object.entries(entry.counters ?? {}).flatMap(([transform, all]) => Object.entries(all).map(([counter, n]) => [transform, counter, n]));
  if (counters.length > 0) {
    parts.push(h('h3', {}, 'Counted by plugins'), table(`Counters of ${entry.version}`, ['Transform', 'Counter', ['Amount', 'n']], counters.map(([transform, counter, n]) => h('tr', {}, h('th', { scope: 'row' }, transform), h('td', {}, counter), h('td', { class: 'n' }, count(n))))));
  }
  for (const [what, value] of [['Opened', entry.open], ['Rewind', entry.rewind], ['Plan', entry.plan], ['Removed files', entry.remove], ['Expired', entry.expire]]) {
    if (value && (!Array.isArray(value) || value.length > 0)) parts.push(h('details', {}, h('summary', {}, what), h('pre', { tabindex: '0' }, JSON.stringify(value, null, 1).slice(0, 20_000))));
  }
  return h('div', { class: 'detail' }, parts);
}
