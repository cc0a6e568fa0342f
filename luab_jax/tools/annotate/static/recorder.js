// Records what the pointer does over images, and where they are shown, as events of a page.
// Times are event.timeStamp, ms since performance.timeOrigin; points are fractions of the element.

import { pageEvent } from './outbox.js';

const PER_SECOND = 60; // points kept, unless all are

// Where the pointer is within the element. Chromium truncates the coordinates of `click` to whole
// pixels, so this takes pointer events: a click's point is that of its pointerup.
export function pointIn(element, { clientX, clientY }) {
  const rect = element.getBoundingClientRect();
  const part = (value) => Math.round(value * 1e6) / 1e6;
  const [x, y] = [(clientX - rect.left) / rect.width, (clientY - rect.top) / rect.height];
  return { x: part(x), y: part(y) };
}

// Passes on the first point of each 1/60 s; flush() passes on the last one that was held back.
export class Thinner {
  constructor(pass, raw) {
    Object.assign(this, { pass, raw, slice: -1, held: null });
  }

  add(point) {
    const slice = Math.floor((point.t * PER_SECOND) / 1000);
    this.held = this.raw || slice > this.slice ? null : point;
    if (this.held) return;
    this.slice = slice;
    this.pass(point);
  }

  flush() {
    if (this.held) this.pass(this.held);
    this.held = null;
  }
}

// Follows mouse and pen over `element`, or over what `zoneOf(node)` returns (an element or null).
// Calls onPoint({type: 'enter'|'leave'|'move', zone, x, y, t, source}) in order of time.
// Call flush() before an answer is recorded, stop() at the end.
// A busy page gets many positions in one event, some of them over what lies beside the event's
// target, so each is looked up where it was, and enter and leave come from the same positions.
export function trackPointer(element, onPoint, { raw = false, zoneOf } = {}) {
  zoneOf ??= (node) => (element.contains(node) ? element : null);
  const ended = new AbortController();
  const thinner = new Thinner(onPoint, raw);
  let [zone, time, later] = [null, 0, null];

  function go(next, t, source) {
    if (next === zone) return;
    thinner.flush();
    if (zone) onPoint({ type: 'leave', zone, t, source });
    zone = next;
    if (zone) onPoint({ type: 'enter', zone, t, source });
  }
  function settle() {
    if (later) go(later.next, (time = Math.max(time, later.t)), later.source);
    later = null;
  }
  function moved(event) {
    later = null;
    const source = event.pointerType;
    const points = event.getCoalescedEvents?.() ?? [];
    for (const point of points.length ? points : [event]) {
      time = Math.max(time, point.timeStamp);
      const over = document.elementFromPoint(point.clientX, point.clientY);
      go(over && zoneOf(over), time, source);
      if (zone) thinner.add({ type: 'move', zone, ...pointIn(zone, point), t: time, source });
    }
  }
  // Scrolling moves images under a resting pointer; otherwise a pointermove follows at once, which
  // tells more exactly when and where an image was entered.
  function crossed(event) {
    const next = event.type === 'pointerout' ? null : zoneOf(event.target);
    later = { next, t: event.timeStamp, source: event.pointerType };
    setTimeout(settle);
  }
  function on(type, handle) {
    const hovering = (event) => event.pointerType !== 'touch' && handle(event);
    addEventListener(type, hovering, { capture: true, signal: ended.signal });
  }
  on('pointermove', moved);
  on('pointerover', crossed);
  on('pointerout', (event) => event.relatedTarget === null && crossed(event));
  on('pointerdown', settle);
  on('pointerup', settle);
  return { flush: () => thinner.flush(), stop: () => ended.abort() };
}

const ANSWERS = new Set(['on', 'off', 'broken', 'tab', 'put', 'remove']);

// The events of one page at a time: those passed to record(), and where the images are shown.
export class Recorder {
  constructor(outbox, { raw = false } = {}) {
    Object.assign(this, { outbox, raw, boxes: new Map() });
    this.sizes = new ResizeObserver(() => this.measureSoon());
    addEventListener('resize', () => this.page());
    document.addEventListener('visibilitychange', () =>
      this.record({ e: document.hidden ? 'hide' : 'show', t: performance.now() }),
    );
  }

  record(event) {
    // A window that moves to another screen may keep its size but change its pixel ratio.
    if (this.scale !== devicePixelRatio && this.scale) this.page();
    this.outbox.add({ ...event, t: Math.round(event.t * 100) / 100 }, ANSWERS.has(event.e));
  }

  // Events from now on belong to this lease; its batches are numbered from `seq`.
  async begin(lease, seq) {
    this.end();
    await this.outbox.begin(lease, seq);
    this.sizes.observe(document.body);
    this.page();
  }

  end() {
    this.sizes.disconnect();
    this.boxes.clear();
    this.scale = null;
  }

  page() {
    this.scale = devicePixelRatio;
    this.record(pageEvent(performance.now()));
    this.measureSoon();
  }

  // Notes where the image of this slot is shown, now and whenever that changes.
  watchBox(slot, element) {
    this.boxes.set(slot, { element });
    this.sizes.observe(element);
  }

  measureSoon() {
    this.frame ??= requestAnimationFrame(() => this.measure());
  }

  measure() {
    this.frame = undefined;
    const round = (value) => Math.round(value * 100) / 100;
    for (const [i, box] of this.boxes) {
      const rect = box.element.getBoundingClientRect();
      const [x, y] = [round(rect.left + scrollX), round(rect.top + scrollY)];
      const [w, h] = [round(rect.width), round(rect.height)];
      const place = `${x} ${y} ${w} ${h}`;
      if (!w || !h || place === box.place) continue;
      box.place = place;
      this.record({ e: 'box', t: performance.now(), i, x, y, w, h });
    }
  }
}
