// What happened during an answer, as marks above the time bar and as a list.

import { duration } from './format.js';
import { el } from './ui.js';

/** Marks for the actions, and for the times in which the tab was hidden. */
export function marks({ actions, end }) {
  const share = (ms) => `${100 * ms / (end || 1)}%`;
  const mark = (kind, t, length) => {
    const element = el('i', { class: `mark ${kind}` });
    element.style.left = share(t);
    if (length !== undefined) element.style.width = share(length);
    return element;
  };
  const shown = [];
  let hidden = null;
  for (const action of [...actions, { e: 'show', t: end }]) {
    if (action.e === 'hide') hidden ??= action.t;
    if (action.e === 'show') {
      if (hidden !== null) shown.push(mark('away', hidden, action.t - hidden));
      hidden = null;
    } else if (!['page', 'hide'].includes(action.e)) {
      shown.push(mark(action.e, action.t));
    }
  }
  return el('div', { class: 'marks', 'aria-hidden': 'true' }, shown);
}

/** Buttons that name the actions and call `go` with their time. */
export function entries(actions, classes, go) {
  const seen = new Set();
  return actions.map((action) => {
    const key = action.e === 'page' ? 'page' : `${action.c}`;
    const text = describe(action, classes, seen.has(key));
    if (action.e === 'remove') seen.delete(key);
    else if (['page', 'put'].includes(action.e)) seen.add(key);
    const show = () => go(action.t);
    return el('button', { class: 'entry', onclick: show },
      el('time', {}, duration(action.t, true)), text);
  });
}

// `seen`: the page was open, or the icon on the image, before.
function describe(action, classes, seen) {
  const by = { key: ' by key', undo: ' by undo', search: ' by search' }[action.s] ?? '';
  const name = classes[action.c]?.name ?? `class ${action.c}`;
  switch (action.e) {
    case 'page': return seen ? 'Window resized or page reloaded' : 'Page opened';
    case 'on': return `Image ${action.i + 1} selected${by}`;
    case 'off': return `Image ${action.i + 1} deselected${by}`;
    case 'broken': return `Image ${action.i + 1} reported as broken`;
    case 'put': return `${name} ${seen ? 'moved' : 'placed on the image'}${by}`;
    case 'remove': return `${name} removed${by}`;
    case 'tab': return `Icons, page ${action.k + 1}${by}`;
    case 'hide': return 'Tab hidden';
    default: return 'Tab visible again';
  }
}
