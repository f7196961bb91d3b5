// Charts as plain SVG: steps over time, and bars of parts.

import { s, h, put, clock, mark } from './dom.js';

/** The time between a commit and the one before, in seconds; of the first one what is usual for the rest. */
function gaps(points) {
  const all = points.map((point, i) => (i === 0 ? null : Math.max((point.time - points[i - 1].time) / 1e6, 0.001)));
  const known = all.filter((gap) => gap !== null).sort((a, b) => a - b);
  const usual = known[Math.floor(known.length / 2)] ?? 1;
  return all.map((gap) => gap ?? usual);
}

/** Per second: what each commit brought, by the time since the one before. */
export function rates(beats, field = 'read') {
  const apart = gaps(beats);
  return beats.map((beat, i) => ({ time: beat.time, value: beat[field] / apart[i], wide: apart[i] }));
}

/** What it does now: of the last minute; 0 after a while without a commit. */
export function current(beats, nowMs, field = 'read') {
  if (beats.length === 0) return null;
  const since = (nowMs - 60_000) * 1000;
  const late = beats.filter((beat) => beat.time > since);
  if (late.length === 0) return 0;
  const apart = gaps(beats).slice(-late.length);
  const sum = late.reduce((total, beat) => total + beat[field], 0);
  const idle = Math.max((nowMs * 1000 - late.at(-1).time) / 1e6, 0);
  const busy = apart.reduce((total, gap) => total + gap, 0);
  // A pause as long as usual is none.
  return sum / (busy + (idle > 3 * (busy / apart.length) + 2 ? idle : 0));
}

function steps(points, x, y, base) {
  let line = '';
  let area = '';
  let before = null;
  for (const point of points) {
    const from = x(point.time - point.wide * 1e6);
    const to = x(point.time);
    const at = y(point.value);
    const begin = before === null ? from : before;
    line += `${line === '' ? 'M' : 'L'}${begin.toFixed(1)} ${at.toFixed(1)}L${to.toFixed(1)} ${at.toFixed(1)}`;
    area += area === '' ? `M${begin.toFixed(1)} ${base}` : '';
    area += `L${begin.toFixed(1)} ${at.toFixed(1)}L${to.toFixed(1)} ${at.toFixed(1)}`;
    before = to;
  }
  if (before !== null) area += `L${before.toFixed(1)} ${base}Z`;
  return { line, area };
}

const SPARK = { wide: 120, high: 24 };

/** A small one for a row of a table. The numbers beside it say the same. */
export function spark() {
  const area = s('path', { class: 'area' });
  const line = s('path', { class: 'line' });
  const element = s('svg', { class: 'spark', viewBox: `0 0 ${SPARK.wide} ${SPARK.high}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, area, line);
  const draw = (beats, nowMs) => {
    const end = nowMs * 1000;
    // Ten minutes, or as long as the newest commits need.
    const points = rates(beats);
    const most = Math.max(...points.map((point) => point.value), 0.001);
    const begin = Math.max(end - 600e6, points.length > 0 ? points[0].time - points[0].wide * 1e6 : end - 600e6);
    const x = (time) => Math.max(((time - begin) / Math.max(end - begin, 1)) * SPARK.wide, 0);
    const y = (value) => SPARK.high - 1 - (value / most) * (SPARK.high - 3);
    const drawn = steps(points.filter((point) => point.time >= begin), x, y, SPARK.high);
    mark(line, 'd', drawn.line || 'M0 23.5H120');
    mark(area, 'd', drawn.area);
  };
  return { element, draw };
}

/** A round number at or above. */
function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value);
}

const WIDE = 420;
const HIGH = 140;
const LEFT = 48;
const FOOT = 20;

/**
 * Series of steps over time, on top of each other where `stacked`. Each: {name, points: [{time, value, wide}]}. The pointer, or
 * the arrow keys, read single values.
 */
export function chart({ title, unit, series, show, stacked = false, empty }) {
  const figure = h('figure', { class: 'chart' });
  const reads = h('output', { class: 'reads' });
  const first = series[0]?.points ?? [];
  const head = h('figcaption', {}, h('span', { class: 'strong' }, title), h('span', { class: 'unit' }, unit), reads);
  if (first.length === 0) {
    return put(figure, head, h('p', { class: 'none' }, empty ?? 'Nothing was committed yet.'));
  }
  const sums = first.map((_, i) => series.reduce((sum, one) => sum + (one.points[i]?.value ?? 0), 0));
  const highest = stacked ? Math.max(...sums) : Math.max(...series.flatMap((one) => one.points.map((p) => p.value)));
  const top = nice(highest);
  const begin = first[0].time - first[0].wide * 1e6;
  const end = first.at(-1).time;
  const x = (time) => LEFT + ((time - begin) / Math.max(end - begin, 1)) * (WIDE - LEFT - 6);
  const y = (value) => 8 + (1 - value / top) * (HIGH - FOOT - 8);
  const base = y(0);
  const grid = [0, 0.5, 1].map((part) => [
    s('line', { class: 'grid', x1: LEFT, x2: WIDE - 6, y1: y(top * part), y2: y(top * part) }),
    s('text', { class: 'tick', x: LEFT - 6, y: y(top * part) + 4, 'text-anchor': 'end' }, show(top * part)),
  ]);
  const times = [
    s('text', { class: 'tick', x: LEFT, y: HIGH - 4 }, clock(begin)),
    s('text', { class: 'tick', x: WIDE - 6, y: HIGH - 4, 'text-anchor': 'end' }, `${clock(end)} UTC`),
  ];
  let below = first.map(() => 0);
  const drawn = series.map((one, k) => {
    const points = one.points.map((point, i) => ({ ...point, value: point.value + (stacked ? below[i] : 0) }));
    const path = steps(points, x, y, base);
    if (stacked) below = points.map((point) => point.value);
    return [
      s('path', { class: `area part${k}`, d: path.area }),
      s('path', { class: `line part${k}`, d: path.line }),
    ];
  });
  if (stacked) drawn.reverse();
  const cursor = s('line', { class: 'cursor', y1: 8, y2: base, x1: -9, x2: -9 });
  const last = first.length - 1;
  const average = sums.reduce((a, b) => a + b, 0) / sums.length;
  const rest = () => {
    put(reads, h('span', {}, `last ${show(sums[last])}`), h('span', {}, `mean ${show(average)}`), h('span', {}, `most ${show(Math.max(...sums))}`));
    mark(cursor, 'x1', '-9');
    mark(cursor, 'x2', '-9');
  };
  let at = last;
  const read = (i) => {
    at = Math.min(Math.max(i, 0), last);
    const where = x(first[at].time);
    mark(cursor, 'x1', where.toFixed(1));
    mark(cursor, 'x2', where.toFixed(1));
    const values = series.map((one) => h('span', {}, series.length > 1 ? `${one.name} ` : '', show(one.points[at].value)));
    put(reads, h('span', {}, clock(first[at].time)), values);
  };
  const label = `${title}, ${unit}: last ${show(sums[last])}, mean ${show(average)}, most ${show(Math.max(...sums))}, of ${first.length} commits`;
  const svg = s('svg', {
    viewBox: `0 0 ${WIDE} ${HIGH}`, role: 'img', 'aria-label': label, tabindex: '0',
    onpointermove: (event) => {
      const box = svg.getBoundingClientRect();
      const time = begin + (((event.clientX - box.left) / box.width) * WIDE - LEFT) / (WIDE - LEFT - 6) * (end - begin);
      const found = first.findIndex((point) => point.time >= time);
      read(found < 0 ? last : found);
    },
    onpointerleave: rest,
    onblur: rest,
    onkeydown: (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) {
        event.preventDefault();
        read(at + step);
      }
    },
  }, grid, times, drawn, cursor);
  rest();
  const legend = series.length > 1 && h('ul', { class: 'legend' }, series.map((one, k) => h('li', { class: `part${k}` }, one.name)));
  return put(figure, head, svg, legend);
}

/** A bar of parts: [[name, amount, kind]]. */
export function bar(parts) {
  const sum = parts.reduce((total, [, amount]) => total + amount, 0);
  let at = 0;
  const pieces = parts.map(([, amount, kind]) => {
    const wide = sum === 0 ? 0 : (amount / sum) * 100;
    // What is there is seen, however little of it there is.
    const seen = amount > 0 ? Math.max(wide, 2.5) : 0;
    const piece = s('rect', { class: kind, x: Math.min(at, 100 - seen), y: 0, width: seen, height: 4 });
    at += wide;
    return piece;
  });
  return s('svg', { class: 'bar', viewBox: '0 0 100 4', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, pieces);
}
