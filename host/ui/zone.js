// The zone as a tree: tables, directories, files, with rows and bytes; one directory at a time.

import { get, seg } from './api.js';
import { bytes, code, count, failure, h, plural, put, table, utc } from './dom.js';

const PAGE = 200;

export function zoneTab(content, { name, query, base }) {
  const under = query.under ?? '';
  const link = (path) => (path === '' ? `${base}/zone` : `${base}/zone?under=${encodeURIComponent(path)}`);
  const parts = under.split('/').filter((part) => part !== '');
  const trail = h('nav', { class: 'path-trail', 'aria-label': 'Directory' }, h('a', { href: link('') }, 'zone'),
    parts.map((part, i) => [h('span', { class: 'slash', 'aria-hidden': 'true' }, '/'), h('a', { href: link(parts.slice(0, i + 1).join('/')), 'aria-current': i === parts.length - 1 ? 'page' : null }, part)]));
  const sums = h('p', { class: 'dim' });
  const list = h('div', {});
  const more = h('p', {});
  put(content, trail, sums, list, more);
  const rows = [];

  const ask = async (after) => {
    try {
      const tree = await get(`/pipelines/${seg(name)}/files`, { under, after, limit: PAGE });
      put(sums, `${plural(tree.files, 'live file')}, ${plural(tree.rows, 'row')}, ${bytes(tree.bytes)} at version ${count(tree.version)} · ${tree.url}`);
      for (const node of tree.nodes) {
        const path = under === '' ? node.name : `${under}/${node.name}`;
        const folder = node.kind === 'directory';
        rows.push(h('tr', {},
          h('th', { scope: 'row', class: 'path' }, folder ? h('a', { href: link(path) }, `${node.name}/`) : node.name),
          h('td', {}, folder ? plural(node.files, 'file') : node.kind.replace('_', ' ')),
          h('td', { class: 'n' }, count(node.rows)), h('td', { class: 'n' }, bytes(node.bytes)), h('td', { class: 'n' }, count(node.version)),
          h('td', {}, node.newest ? utc(node.newest) : '–'), h('td', {}, node.digest ? code(node.digest) : '')));
      }
      put(list, table('Files', ['Name', 'What', ['Rows', 'n'], ['Bytes', 'n'], ['Version', 'n'], 'Newest rows (UTC)', 'Digest'], rows, 'No live file is here.'));
      put(more, tree.next !== null && h('button', { type: 'button', onclick: () => ask(tree.next) }, 'More'));
    } catch (error) {
      if (error.status === 404) put(list, h('p', { class: 'none' }, 'It has no commit log yet: it has not begun.'));
      else put(list, failure(error, () => ask(after)));
    }
  };
  ask();
}
