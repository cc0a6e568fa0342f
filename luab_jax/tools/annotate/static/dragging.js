// Dragging with mouse, pen or finger: a press that moves. The pointer is captured, so a drag goes
// on outside the element and the window; `touch-action: none` on what is dragged keeps fingers from
// scrolling instead.

import { Thinner } from './recorder.js';

const SLACK = { mouse: 3, touch: 8, pen: 5 }; // px that a press may move and still be a click

// pick(event) returns what can be dragged from there, an object with its `node`, or null.
// start(item, event); move(item, event), for coalesced events too, thinned to 60 Hz unless raw;
// show(item, event), once per event; drop(item, event) with the pointerup; cancel(item).
// Returns {stop()}.
export function watchDrags(root, { pick, start, move, show, drop, cancel, raw = false }) {
  const ended = new AbortController();
  let press = null; // of the pointer that is down
  let dragged = false; // whether the last press was a drag, whose click is ignored

  function down(event) {
    dragged = false;
    if (press || !event.isPrimary || event.button !== 0) return;
    const item = pick(event);
    if (!item) return;
    const { pointerId: id, clientX: x, clientY: y, pointerType } = event;
    press = { item, id, x, y, slack: SLACK[pointerType] ?? SLACK.mouse, thinner: null };
    item.node.setPointerCapture(id);
  }
  function moved(event) {
    if (event.pointerId !== press?.id) return;
    const { item, x, y, slack } = press;
    if (!press.thinner) {
      if (Math.hypot(event.clientX - x, event.clientY - y) <= slack) return;
      press.thinner = new Thinner(({ point }) => move(item, point), raw);
      dragged = true;
      start(item, event);
    }
    const points = event.getCoalescedEvents?.() ?? [];
    for (const point of points.length ? points : [event])
      press.thinner.add({ t: point.timeStamp, point });
    show(item, event);
  }
  function up(event) {
    if (event.pointerId !== press?.id) return;
    const { item, thinner } = press;
    press = null;
    thinner?.flush();
    if (thinner) drop(item, event);
  }
  function lost(event) {
    if (press && (event.pointerId ?? press.id) === press.id) giveUp();
  }
  function giveUp() {
    const { item, thinner } = press;
    press = null;
    thinner?.flush();
    if (thinner) cancel(item);
  }
  function on(type, handle, target = root) {
    target.addEventListener(type, handle, { capture: true, signal: ended.signal });
  }
  on('pointerdown', down);
  on('pointermove', moved);
  on('pointerup', up);
  on('pointercancel', lost);
  on('lostpointercapture', lost);
  on('click', (event) => {
    if (dragged && event.detail > 0) event.stopPropagation();
  });
  const keys = (event) => {
    if (!press?.thinner) return;
    event.preventDefault(); // keys do not change the page of icons during a drag
    event.stopImmediatePropagation();
    if (event.key === 'Escape') giveUp();
  };
  on('keydown', keys, window);
  function stop() {
    ended.abort();
    if (press) giveUp();
  }
  return { stop };
}
