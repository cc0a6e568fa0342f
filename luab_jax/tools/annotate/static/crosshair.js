// Places a point by keyboard: arrows move it by 1 %, with Shift by 5 %, Enter places it, Escape
// cancels.

import { el } from './ui.js';

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Opens a crosshair over `frame` (positioned; its box is the image's) for the focused `element`.
// Calls put({x, y}, t) with fractions, or closed() if it was cancelled.
export function openCrosshair(frame, element, { start = { x: 0.5, y: 0.5 }, put, closed, ui }) {
  let { x, y } = start;
  const cross = el('span', { class: 'crosshair' }, el('i'), el('i'));
  const over = new AbortController();

  function place() {
    cross.style.setProperty('--x', x);
    cross.style.setProperty('--y', y);
    const percent = (value) => Math.round(value * 100);
    ui.announce(`${percent(x)} % from the left, ${percent(y)} % from the top`);
  }
  function close() {
    if (over.signal.aborted) return;
    over.abort();
    cross.remove();
  }
  function give() {
    close();
    closed?.();
  }
  function pressed(event) {
    if (event.key === 'Tab' || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const step = STEPS[event.key];
    if (step) {
      const size = event.shiftKey ? 0.05 : 0.01;
      const moved = (value, by) => Math.min(1, Math.max(0, Math.round((value + by) * 1e6) / 1e6));
      [x, y] = [moved(x, step[0] * size), moved(y, step[1] * size)];
      place();
    } else if (event.key === 'Enter' && !event.repeat) {
      close();
      put({ x, y }, event.timeStamp);
    } else if (event.key === 'Escape') {
      give();
    }
  }
  const on = (type, target, handle) =>
    target.addEventListener(type, handle, { capture: true, signal: over.signal });
  on('keydown', element, pressed);
  on('keyup', element, (event) => event.key === ' ' && event.preventDefault());
  on('blur', element, give);
  on('pointerdown', window, give);
  frame.append(cross);
  place();
  return { close };
}
