// The events of an answer as a player needs them: where the cursor was, and what the page held.

const BRIDGE_MS = 120; // the cursor is interpolated over gaps up to this long
const REACH = 400; // CSS px by which a drag beyond the images may widen the sheet

/** Cursor and actions in CSS px of the document. `end` in ms. */
export function readTrack(events) {
  const boxes = new Map();
  const points = [];
  const actions = [];
  for (const event of events) {
    if (event.e === 'box') boxes.set(event.i, event);
    const box = boxes.get(event.i ?? 0);
    const place = box && Number.isFinite(event.x) && event.e !== 'box'
      ? { x: box.x + event.x * box.w, y: box.y + event.y * box.h } : null;
    if (place && event.s !== 'undo' && event.s !== 'key') {
      points.push({ t: event.t, ...place, e: event.e, s: event.s });
    }
    if (!['box', 'move', 'enter', 'leave', 'drag'].includes(event.e)) {
      actions.push({ ...event, place });
    }
  }
  return { points, actions, end: events.length ? events[events.length - 1].t : 0 };
}

/** The part of the document that holds all images, and drags near them. */
export function extent(events) {
  const boxes = events.filter((event) => event.e === 'box');
  if (!boxes.length) return { x: 0, y: 0, w: 300, h: 200 };
  const images = {
    left: Math.min(...boxes.map((box) => box.x)), top: Math.min(...boxes.map((box) => box.y)),
    right: Math.max(...boxes.map((box) => box.x + box.w)),
    bottom: Math.max(...boxes.map((box) => box.y + box.h)),
  };
  const sheet = { ...images };
  for (const { x, y, e } of readTrack(events).points) {
    if (e !== 'drag' && e !== 'put') continue;
    sheet.left = Math.min(sheet.left, Math.max(x, images.left - REACH));
    sheet.right = Math.max(sheet.right, Math.min(x, images.right + REACH));
    sheet.top = Math.min(sheet.top, Math.max(y, images.top - REACH));
    sheet.bottom = Math.max(sheet.bottom, Math.min(y, images.bottom + REACH));
  }
  const margin = 24;
  return {
    x: sheet.left - margin, y: sheet.top - margin,
    w: sheet.right - sheet.left + 2 * margin, h: sheet.bottom - sheet.top + 2 * margin,
  };
}

/** Index of the last item with t <= `t`; -1 before the first. */
export function lastBefore(items, t) {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].t <= t) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** {x, y, age, s}: the cursor at `t`, how long it has rested, its source if known; or null. */
export function cursorAt(points, t) {
  const k = lastBefore(points, t);
  if (k < 0) return null;
  const [from, to] = [points[k], points[k + 1]];
  if (!to || to.t - from.t > BRIDGE_MS || from.s === 'touch') {
    return { x: from.x, y: from.y, age: t - from.t, s: from.s };
  }
  const share = (t - from.t) / (to.t - from.t || 1);
  const [x, y] = [from.x + share * (to.x - from.x), from.y + share * (to.y - from.y)];
  return { x, y, age: 0, s: from.s };
}

/** What the page held at a time; cheap when time runs forward. */
export class Page {
  constructor(events) {
    this.events = events;
    this.reset();
  }

  reset() {
    this.done = 0;
    this.boxes = new Map(); // slot -> box
    this.selected = new Map(); // slot -> { x, y } or null if a key did it
    this.icons = new Map(); // class -> { x, y }
    this.dragged = null; // { c, x, y }
    this.over = null;
    this.tab = 0;
    this.hidden = false;
  }

  seek(t) {
    const target = lastBefore(this.events, t) + 1;
    if (target < this.done) this.reset();
    for (; this.done < target; this.done++) this.apply(this.events[this.done]);
    return this;
  }

  apply(event) {
    if (event.e !== 'drag') this.dragged = null;
    switch (event.e) {
      case 'box': this.boxes.set(event.i, event); break;
      case 'enter': this.over = event.i; break;
      case 'leave': this.over = null; break;
      case 'on': this.selected.set(event.i, Number.isFinite(event.x) ? event : null); break;
      case 'off': this.selected.delete(event.i); break;
      case 'put': this.icons.set(event.c, event); break;
      case 'remove': this.icons.delete(event.c); break;
      case 'drag': this.dragged = event; break;
      case 'tab': this.tab = event.k; break;
      case 'hide': this.hidden = true; break;
      case 'show': this.hidden = false; break;
    }
  }
}
