// Dead letters: how many by code, and each one with the original bytes beside its reasons and its rule.

import { get, seg } from './api.js';
import { bytes as size, code, count, facts, failure, h, plural, put, table } from './dom.js';

const PAGE = 10;
/** More of a record is not shown at once; `weir dlq show` has all of it. */
const SHOWN_BYTES = 16 << 10;
const ROW = 16;

const decode = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

function hex(all) {
  const lines = [];
  for (let at = 0; at < all.length; at += ROW) {
    const row = [...all.slice(at, at + ROW)];
    const digits = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ').padEnd(ROW * 3 - 1);
    const text = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '·')).join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${digits}  ${text}`);
  }
  return lines.join('\n');
}

const strict = new TextDecoder('utf-8', { fatal: true });

function textOf(all) {
  try {
    return strict.decode(all);
  } catch {
    return null;
  }
}

/** Bytes as text where they are text, or in hex. */
function original(what, base64) {
  if (base64 === null || base64 === undefined) return h('p', { class: 'dim' }, `${what}: none`);
  const all = decode(base64);
  const first = all.slice(0, SHOWN_BYTES);
  // A cut may fall into a letter.
  let text = null;
  for (let less = 0; less < 4 && text === null; less += 1) text = textOf(less === 0 ? first : first.slice(0, -less));
  const pre = h('pre', { tabindex: '0', 'aria-label': `${what}, the original bytes` });
  let asHex = text === null;
  const show = () => {
    pre.textContent = asHex ? hex(first) : text;
    button.textContent = asHex ? 'as text' : 'as hex';
  };
  const button = h('button', { type: 'button', class: 'plain', disabled: text === null, onclick: () => { asHex = !asHex; show(); } });
  show();
  return h('div', { class: 'bytes' },
    h('div', { class: 'bytes-head' }, h('span', { class: 'name' }, what), h('span', { class: 'dim' }, `${size(all.length)}${text === null ? ', no UTF-8' : ''}${all.length > SHOWN_BYTES ? `, the first ${size(SHOWN_BYTES)}` : ''}`), button),
    pre);
}

function letter(one, held) {
  const from = one.holds_bytes ? one : held;
  return h('article', { class: 'letter card' },
    h('div', { class: 'why' },
      h('h3', {}, `${one.topic}/${one.partition}@${count(one.offset)}`, h('span', { class: 'dim' }, one.row === null ? ' the whole record' : ` row ${one.row}`)),
      h('ul', { class: 'reasons' }, one.errors.map((reason) => h('li', {}, h('code', { class: 'tag' }, reason.code), reason.field && h('b', {}, ` ${reason.field}`), ' ', reason.message))),
      facts(['Rule', `${one.transform} = ${one.plugin}@${one.version}`], ['Component', code(one.component)], ['Config', code(one.config)], ['Record time', one.timestamp ?? 'none'], ['File', h('span', { class: 'path' }, one.file)])),
    h('div', { class: 'what' }, from
      ? [original('Value', from.value), from.key !== null && original('Key', from.key), from.headers.length > 0 && facts(...from.headers.map((header) => [`header ${header.name}`, header.value === null ? 'null' : textOf(decode(header.value)) ?? `${size(decode(header.value).length)}, no UTF-8`]))]
      : h('p', { class: 'dim' }, 'The first dead letter of the same record has its bytes.')));
}

export function lettersTab(content, { name, query, base }) {
  const counts = h('section', {});
  const list = h('div', { class: 'letters' });
  const more = h('p', {});
  put(content, counts, h('h2', { class: 'part' }, query.code ? ['With code ', h('code', { class: 'tag' }, query.code), h('a', { class: 'chip', href: `${base}/letters` }, 'all codes')] : 'The oldest first'), list, more);
  let held = null;
  let shown = 0;
  let stopped = false;

  const ask = async (after) => {
    put(more, h('span', { class: 'dim' }, 'Reading files of dead letters…'));
    try {
      const page = await get(`/pipelines/${seg(name)}/dlq`, { limit: PAGE, code: query.code, after });
      if (stopped) return;
      for (const one of page.dead_letters) {
        if (one.holds_bytes) held = one;
        const same = held && held.topic === one.topic && held.partition === one.partition && held.offset === one.offset;
        list.append(letter(one, same ? held : null));
        shown += 1;
      }
      if (page.next !== null) put(more, h('button', { type: 'button', onclick: () => ask(page.next) }, 'More'), h('span', { class: 'dim' }, ` ${plural(shown, 'dead letter')} shown`));
      else put(more, h('span', { class: 'dim' }, shown === 0 ? 'There are no dead letters: no rule refused anything.' : `That is all: ${plural(shown, 'dead letter')}.`));
    } catch (error) {
      if (error.status === 404) put(more, h('span', { class: 'dim' }, 'It has no commit log yet: it has not begun.'));
      else put(more, failure(error, () => ask(after)));
    }
  };
  const group = async () => {
    put(counts, h('h2', { class: 'part' }, 'By code'), h('p', { class: 'dim' }, 'Counting…'));
    try {
      const all = await get(`/pipelines/${seg(name)}/dlq/counts`);
      if (all.length === 0) put(counts);
      if (all.length === 0 || stopped) return;
      const sum = all.reduce((total, one) => total + one.dead_letters, 0);
      const most = Math.max(...all.map((one) => one.dead_letters));
      put(counts, h('h2', { class: 'part' }, `${plural(sum, 'dead letter')} by code`),
        table('Dead letters by code', ['Code', 'Field', ['Dead letters', 'n'], ['Share', 'n']], all.map((one) => h('tr', { class: one.code === query.code ? 'chosen' : '' },
          h('th', { scope: 'row' }, h('a', { href: `${base}/letters?code=${encodeURIComponent(one.code)}` }, h('code', {}, one.code))),
          h('td', {}, one.field ?? '–'), h('td', { class: 'n' }, count(one.dead_letters)),
          h('td', { class: 'n' }, h('meter', { min: 0, max: most, value: one.dead_letters, 'aria-label': `Share of ${one.code}` }), ` ${((one.dead_letters / sum) * 100).toFixed(1)} %`)))),
        h('p', { class: 'dim' }, 'weir explain CODE says what a code means and what to do.'));
    } catch (error) {
      put(counts, error.status !== 404 && failure(error, group));
    }
  };
  group();
  ask();
  return () => { stopped = true; };
}
