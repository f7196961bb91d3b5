// Asks the daemon that the page came from, with the name that somebody gave.

const KEY = 'weir.login';
const BASE = new URL('../', import.meta.url);
/** An answer comes within this, or the page says so. The daemon itself gives up after `rest.request.timeout`. */
const PATIENCE = 100_000;

let authorization = null;
try {
  authorization = sessionStorage.getItem(KEY);
} catch {
  // Storage is off: the login holds until the page is loaded again.
}
/** How far this computer's clock is behind the daemon's, in milliseconds. */
let behind = 0;
let asksLogin = () => {};

export const onLogin = (ask) => { asksLogin = ask; };
/** The daemon's time, in milliseconds. */
export const now = () => Date.now() + behind;
export const loggedIn = () => authorization !== null;

export function logIn(header) {
  authorization = header;
  try {
    if (header === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, header);
  } catch {
    // As above.
  }
}

/** Name and password as the daemon takes them: UTF-8 in base64. */
export function basic(name, password) {
  const bytes = new TextEncoder().encode(`${name}:${password}`);
  return `Basic ${btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''))}`;
}

export class Refused extends Error {
  constructor(status, body) {
    const hint = body?.details?.hint;
    // The message ends with the hint, which is shown as what to do.
    const cut = hint && body.message.endsWith(`; ${hint}`);
    super(cut ? body.message.slice(0, -hint.length - 2) : body?.message ?? `the daemon answered with ${status}`);
    this.status = status;
    this.details = body?.details ?? null;
    this.remedy = remedy(status, body);
    this.title = this.details?.code ? `Refused: ${this.details.code}` : `Refused with ${status}`;
  }
}

function remedy(status, body) {
  const hint = body?.details?.hint;
  if (hint) return hint;
  switch (status) {
    case 401: return 'log in with a name that this daemon knows (rest.auth.basic or rest.auth.bearer of its config)';
    case 403: return 'ask somebody whose name may change things, or have this address listed in access.control.allow.origin';
    case 409: return 'it cannot be now: wait a moment, look at the state, and try again';
    case 413: return 'send less, or raise rest.max.body';
    case 429: return 'wait a second; rest.max.rate is the limit of one address';
    case 500: return 'the log of the daemon has more; try again, and report it if it stays';
    case 503: return 'the daemon is busy: try again in a moment';
    default: return null;
  }
}

class Away extends Error {
  constructor() {
    super('the daemon does not answer');
    this.status = 0;
    this.title = 'No answer';
    this.remedy = 'see whether the process runs and whether the network lets you through; this page goes on by itself when it answers';
  }
}

const url = (path, query) => {
  const to = new URL(path.replace(/^\//, ''), BASE);
  for (const [key, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== '') to.searchParams.append(key, value);
  }
  return to;
};

/** One segment of a path. A name of dots alone would be taken for a directory. */
export const seg = (text) => encodeURIComponent(text);

function headers(more) {
  return authorization === null ? more : { ...more, Authorization: authorization };
}

function heard(response) {
  const date = Date.parse(response.headers.get('date') ?? '');
  // The header has whole seconds: on the average it is half of one behind.
  if (Number.isFinite(date)) {
    const found = date + 500 - Date.now();
    if (Math.abs(found - behind) > 1500) behind = found;
  }
}

async function ask(method, path, { query, body, bytes, quiet } = {}) {
  const kind = bytes ? 'application/octet-stream' : 'application/json';
  const carries = bytes ?? (body === undefined ? undefined : JSON.stringify(body));
  let response;
  try {
    response = await fetch(url(path, query), {
      method,
      headers: headers(carries === undefined ? {} : { 'Content-Type': kind }),
      body: carries,
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch {
    throw new Away();
  }
  heard(response);
  if (response.status === 401 && !quiet) {
    asksLogin();
  }
  const text = await response.text();
  let json = null;
  try {
    json = text === '' ? null : JSON.parse(text);
  } catch {
    // Of a proxy between: the status says enough.
  }
  if (!response.ok) throw new Refused(response.status, json);
  return json;
}

export const get = (path, query, more) => ask('GET', path, { query, ...more });
export const post = (path, body) => ask('POST', path, { body });
export const send = (method, path) => ask(method, path);
export const push = (bytes) => ask('POST', '/plugins', { bytes });

/**
 * Server-sent events, read from a `fetch`: an `EventSource` cannot carry a login. Ends when the connection does; the caller
 * begins again.
 */
export async function listen(on, signal) {
  const response = await fetch(url('/events'), { headers: headers({ Accept: 'text/event-stream' }), signal });
  heard(response);
  if (response.status === 401) asksLogin();
  if (!response.ok) throw new Refused(response.status, null);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
      const piece = rest.slice(0, end);
      rest = rest.slice(end + 2);
      const line = (name) => piece.split('\n').find((l) => l.startsWith(`${name}: `))?.slice(name.length + 2);
      const event = line('event');
      on(event ?? 'beat', event ? JSON.parse(line('data') ?? 'null') : null);
    }
  }
}
