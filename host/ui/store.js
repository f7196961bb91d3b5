// All pipelines as the daemon told last, and who wants to know. By events; where those cannot be had, by asking.

import { get, listen, seg } from './api.js';

/** Where there are no events. */
const ASK_EVERY = 2000;
/** After a connection that broke. */
const AGAIN_AFTER = [500, 1000, 2000, 5000, 10_000];
/** Nothing for so long, not even a heartbeat: the connection is dead. */
const SILENCE = 30_000;
const RECENT = 60;

export const pipelines = new Map();
/** `live`, `asks`, `lost` or `starts` */
export let link = 'starts';
export let heard = false;

const wants = new Set();
let connection = null;
let timer = null;
/** Counts stops: what began before one sets no timer after it. */
let stops = 0;
let failures = 0;

/** Calls `fn` after each change, until the returned function is called. */
export function watch(fn) {
  wants.add(fn);
  return () => wants.delete(fn);
}

function changed(names) {
  for (const fn of wants) fn(names);
}

function linked(to) {
  if (link !== to) {
    link = to;
    changed([]);
  }
}

function take(row) {
  const before = pipelines.get(row.name);
  if (row.live && before?.live && row.live.recent.length < RECENT) {
    const newest = before.live.recent.at(-1)?.version ?? -1;
    const more = row.live.recent.filter((beat) => beat.version > newest);
    row.live.recent = before.live.recent.concat(more).slice(-RECENT);
  }
  if (row.live) asleep.delete(row.name);
  pipelines.set(row.name, row);
}

function all(rows) {
  const names = new Set(rows.map((row) => row.name));
  for (const name of pipelines.keys()) if (!names.has(name)) pipelines.delete(name);
  for (const row of rows) take(row);
  sleepers();
  heard = true;
}

// ------------------------------------------------- what has not run since the daemon began

/** Of what its log says, asked once: by name. */
const asleep = new Map();
const toAsk = new Set();
let asking = false;
/** Between two questions: they read logs, and nobody waits for them. */
const PAUSE = 50;

function sleepers() {
  for (const row of pipelines.values()) {
    if (row.live) continue;
    const known = asleep.get(row.name);
    if (known) row.live = known;
    else if (known === undefined) toAsk.add(row.name);
  }
  if (!asking && toAsk.size > 0) askSleepers();
}

async function askSleepers() {
  asking = true;
  for (const name of toAsk) {
    toAsk.delete(name);
    asleep.set(name, null);
    try {
      const { log } = await get(`/pipelines/${seg(name)}`, {}, { quiet: true });
      if (log) {
        const page = await get(`/pipelines/${seg(name)}/log`, { limit: 1 }, { quiet: true });
        const { version, generation, records, rows, dead_letters, closes } = log;
        const settles = page.entries.findLast((entry) => ['data', 'batch', 'gap'].includes(entry.kind));
        const live = { version, generation, records, rows, dead_letters, closes, lag: null, last_commit: settles?.time ?? null, recent: [] };
        asleep.set(name, live);
        const row = pipelines.get(name);
        if (row && !row.live) {
          row.live = live;
          changed([name]);
        }
      }
    } catch {
      // It has none, or its log cannot be read: its own page says why.
    }
    await new Promise((done) => setTimeout(done, PAUSE));
  }
  asking = false;
}

/** Asks now: after something was changed here. */
export async function refresh() {
  const rows = await get('/pipelines', { expand: 'live' });
  all(rows);
  changed(rows.map((row) => row.name));
}

async function ask() {
  const begun = stops;
  let to = 'asks';
  try {
    await refresh();
  } catch (error) {
    to = error.status === 401 ? 'starts' : 'lost';
  }
  if (stops !== begun) return;
  linked(to);
  if (to === 'starts') return;
  timer = setTimeout(ask, ASK_EVERY);
}

async function events() {
  const abort = new AbortController();
  connection = abort;
  let silence = setTimeout(() => abort.abort(), SILENCE);
  let full = false;
  let first = true;
  try {
    await listen((event, data) => {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(), SILENCE);
      failures = 0;
      if (event === 'full') full = true;
      if (event !== 'pipelines') return;
      if (first) all(data.changed);
      else {
        for (const row of data.changed) take(row);
        for (const name of data.gone) pipelines.delete(name);
        sleepers();
      }
      first = false;
      linked('live');
      changed(data.changed.map((row) => row.name).concat(data.gone));
    }, abort.signal);
  } catch (error) {
    if (error.status === 401) {
      clearTimeout(silence);
      return;
    }
  }
  clearTimeout(silence);
  if (connection !== abort) return;
  if (full) {
    ask();
    return;
  }
  linked('lost');
  timer = setTimeout(events, AGAIN_AFTER[Math.min(failures, AGAIN_AFTER.length - 1)]);
  failures += 1;
}

/** Forgets all: somebody else will look. */
export function forget() {
  stop();
  pipelines.clear();
  asleep.clear();
  heard = false;
}

export function stop() {
  stops += 1;
  clearTimeout(timer);
  connection?.abort();
  connection = null;
}

export function start() {
  stop();
  if (!document.hidden) events();
}

// A page that nobody sees holds no connection: a browser has six for one daemon, and tabs share them.
document.addEventListener('visibilitychange', () => {
  if (link === 'starts' && !heard) return;
  if (document.hidden) stop();
  else start();
});
