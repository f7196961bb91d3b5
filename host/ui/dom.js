// Makes elements and texts. Every value goes in as text: nothing here reads HTML.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, props, children) {
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'value' || key === 'checked' || key === 'disabled' || key === 'hidden') element[key] = value;
    else element.setAttribute(key, value === true ? '' : value);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** `h('p', { class: 'x' }, 'text', other)` */
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

/** The same of SVG. */
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

/** Replaces what is in it. */
export function put(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

/** Sets a text only where it became another: what stays is not drawn again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// ------------------------------------------------------------------ numbers

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export const count = (n) => (n === null || n === undefined ? '–' : whole.format(n));

/** Few digits for large numbers: 12.3K. */
export const brief = (n) => {
  if (n === null || n === undefined) return '–';
  return Math.abs(n) < 10_000 ? whole.format(n) : short.format(n);
};

export const rate = (n) => {
  if (n === null || n === undefined || !Number.isFinite(n)) return '–';
  if (n === 0) return '0/s';
  return n < 10 ? `${n.toFixed(1)}/s` : `${brief(Math.round(n))}/s`;
};

export function bytes(n) {
  if (n === null || n === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  let left = n;
  while (left >= 1024 && unit < units.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return unit === 0 || left >= 100 ? `${Math.round(left)} ${units[unit]}` : `${left.toFixed(1)} ${units[unit]}`;
}

/** Milliseconds in words. */
export function span(ms) {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return '–';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = seconds / 60;
  if (minutes < 120) return `${Math.round(minutes)} min`;
  const hours = minutes / 60;
  if (hours < 48) return `${Math.round(hours)} h`;
  return `${Math.round(hours / 24)} d`;
}

/** Whole seconds: what is drawn again each second shall not flicker. */
export const age = (ms) => (ms < 1000 ? 'now' : span(Math.floor(ms / 1000) * 1000 || 1000).replace('.0', ''));

/** Microseconds since 1970, in UTC as the log and the command line show it. */
export function utc(micros) {
  if (!micros) return '–';
  return new Date(micros / 1000).toISOString().replace('T', ' ').replace(/\.\d+Z$/, 'Z');
}

export const clock = (micros) => new Date(micros / 1000).toISOString().slice(11, 19);

/** Twelve digits, as the command line shows a digest. */
export const digest = (text) => (text ?? '').replace(/^[a-z0-9]+:/, '').slice(0, 12);

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

// -------------------------------------------------------------- small parts

/** A short digest that shows the whole one. */
export const code = (text) => h('code', { class: 'digest', title: text }, digest(text));

export const badge = (word, kind) => h('span', { class: `badge ${kind ?? word.toLowerCase()}` }, word);

export const facts = (...pairs) =>
  h('dl', { class: 'facts' }, pairs.filter(Boolean).map(([name, ...value]) => h('div', {}, h('dt', {}, name), h('dd', {}, ...value))));

/** A table; a head is a text, or [text, class]. Wide ones scroll by themselves, by keyboard too. */
export function table(label, heads, rows, empty) {
  const head = heads.map((one) => {
    const [text, kind] = Array.isArray(one) ? one : [one];
    return h('th', { scope: 'col', class: kind }, text);
  });
  const body = rows.length === 0 && empty
    ? h('tr', {}, h('td', { colspan: heads.length, class: 'none' }, empty))
    : rows;
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': label },
    h('table', {}, h('thead', {}, h('tr', {}, head)), h('tbody', {}, body)));
}

/** What went wrong, and what to do. */
export function failure(error, again) {
  return h('div', { class: 'callout bad', role: 'alert' },
    h('p', { class: 'strong' }, error.title ?? 'This did not work'),
    h('p', { class: 'lines' }, error.message),
    error.remedy && h('p', { class: 'lines' }, h('b', {}, 'What to do: '), error.remedy),
    again && h('button', { type: 'button', onclick: again }, 'Try again'));
}

let fades;
/** A line at the foot of the page, for a few seconds. */
export function tell(text) {
  const told = document.getElementById('told');
  told.textContent = text;
  clearTimeout(fades);
  fades = setTimeout(() => { told.textContent = ''; }, 6000);
}
