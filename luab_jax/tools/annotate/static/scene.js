// The image of the icons task with the icons on it, and the list of what it contains.

import { disc } from './palette.js';
import { pointIn } from './recorder.js';
import { el, loadImage, shape } from './ui.js';

const EDGE = 0.18; // of the image: closer to an edge, a name is written inwards

export const percent = ({ x, y }) =>
  `${Math.round(100 * x)} % from the left, ${Math.round(100 * y)} % from the top`;

export class Scene {
  // image: {src, width, height}; classes: [{c, name, hue, icon}].
  // ready(), broken(): the image loaded, or did not; removing(c, event): × was pressed.
  constructor({ image, classes, ready, broken, removing }) {
    Object.assign(this, { image, classes, ready, broken, removing, markers: new Map() });
    this.loaded = false;
    this.picture = el('img', { alt: '', draggable: 'false', class: 'picture' });
    this.stage = el('div', { class: 'stage', role: 'group', 'aria-label': 'The image' });
    this.stage.style.setProperty('--ratio', image.width / image.height);
    this.hint = el('p', { class: 'hint', hidden: true });
    this.frame = el('div', { class: 'frame' }, this.stage, this.hint);
    this.rows = el('ul', {});
    this.empty = el('p', { class: 'empty' }, 'No icons yet: drag them onto the image.');
    const title = el('h2', { id: 'contains', tabindex: '-1' }, 'Image contains');
    this.aside = el('section', { class: 'contains', 'aria-labelledby': 'contains' }, title);
    this.aside.append(this.empty, this.rows);
    this.node = el('div', { class: 'scene' }, this.frame, this.aside);
    this.load();
  }

  async load() {
    this.stage.dataset.state = 'loading';
    this.loaded = await loadImage(this.picture, this.image.src);
    this.stage.dataset.state = this.loaded ? 'ready' : 'broken';
    if (!this.loaded) return this.broken();
    this.stage.prepend(this.picture);
    this.ready();
  }

  // Offers to retry or report an image that does not load.
  offer({ report }) {
    const retry = () => {
      box.remove();
      this.load();
    };
    const reported = () => {
      box.replaceChildren(el('p', {}, 'Reported. Thank you: submit the page and go on.'));
      report();
    };
    const box = el(
      'div',
      { class: 'broken' },
      el('p', {}, 'The image does not load.'),
      el('div', {},
        el('button', { class: 'plain small', onclick: retry }, 'Try again'),
        el('button', { class: 'plain small', onclick: reported }, 'Report')),
    );
    this.frame.append(box);
  }

  // The place of a pointer event on the image, or null if it is not on it.
  pointOf(event) {
    const { clientX, clientY } = event;
    const { x, y } = pointIn(this.stage, event);
    if (!(x >= 0 && x <= 1 && y >= 0 && y <= 1)) return null;
    // The part of the image that is scrolled out of view does not count.
    return document.elementsFromPoint(clientX, clientY).includes(this.stage) ? { x, y } : null;
  }

  // The icon that is pressed; of several, the one whose point is nearest.
  nearest({ clientX, clientY }) {
    const distance = (marker) => {
      const { left, top } = marker.getBoundingClientRect();
      return Math.hypot(left - clientX, top - clientY);
    };
    const pressed = document.elementsFromPoint(clientX, clientY).map((node) => node.closest('.icon'));
    const found = pressed.filter((marker) => marker !== null);
    return found.sort((a, b) => distance(a) - distance(b))[0] ?? null;
  }

  has(c) {
    return this.markers.has(c);
  }

  place(c, { x, y }) {
    const each = this.classes[c];
    if (!this.has(c)) this.add(c, each);
    const { marker } = this.markers.get(c);
    marker.style.setProperty('--x', x);
    marker.style.setProperty('--y', y);
    marker.dataset.side = x < EDGE ? 'left' : x > 1 - EDGE ? 'right' : 'middle';
    marker.dataset.above = String(y > 1 - EDGE);
    marker.setAttribute('aria-label', `${each.name}, ${percent({ x, y })}`);
    this.mark(c, '');
  }

  add(c, each) {
    const marker = el('button', { class: 'icon', type: 'button', 'data-c': String(c) });
    marker.append(disc(each), el('span', { class: 'label', 'aria-hidden': 'true' }, each.name));
    const label = { 'aria-label': `Remove ${each.name}`, onclick: (event) => this.removing(c, event) };
    const cross = el('button', { class: 'cross', type: 'button', ...label }, shape('cross'));
    const row = el('li', { 'data-c': String(c) }, disc(each), el('span', {}, each.name), cross);
    this.markers.set(c, { marker, row });
    this.stage.append(marker);
    this.rows.append(row);
    this.empty.hidden = true;
    this.rows.scrollTop = this.rows.scrollHeight;
    this.rows.scrollLeft = this.rows.scrollWidth;
  }

  remove(c) {
    const { marker, row } = this.markers.get(c);
    const hadFocus = row.contains(document.activeElement) || document.activeElement === marker;
    const next = row.nextElementSibling ?? row.previousElementSibling;
    marker.remove();
    row.remove();
    this.markers.delete(c);
    this.empty.hidden = this.markers.size > 0;
    if (hadFocus) (next?.querySelector('.cross') ?? this.aside.firstChild).focus();
  }

  // verdict: '', 'wrong' or 'misplaced'
  mark(c, verdict) {
    this.markers.get(c).marker.dataset.verdict = verdict;
  }

  // Where something was not found, on the practice page.
  ring(name, { x, y, r }) {
    const ring = el('span', { class: 'ring' }, el('span', { class: 'label' }, name));
    ring.style.setProperty('--x', x);
    ring.style.setProperty('--y', y);
    ring.style.setProperty('--r', r);
    this.picture.after(ring); // below the icons
  }

  clearRings() {
    this.stage.querySelectorAll('.ring').forEach((ring) => ring.remove());
  }
}
