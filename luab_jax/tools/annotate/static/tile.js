// One image of the grid: a button of exactly the size of the image.

import { el, loadImage, shape } from './ui.js';

export class Tile {
  constructor({ slot, src, width, height }, total) {
    Object.assign(this, { slot, src, ready: false, reported: false, selected: false, point: null });
    this.name = `Image ${slot + 1} of ${total}`;
    this.image = new Image();
    this.image.alt = '';
    this.image.draggable = false;
    this.dot = el('span', { class: 'dot', hidden: true });
    this.button = el(
      'button',
      { class: 'tile', type: 'button', tabindex: '-1', 'aria-pressed': 'false' },
      this.dot,
      el('span', { class: 'badge' }, shape('check')),
      el('span', { class: 'verdict' }),
    );
    this.button.style.setProperty('--ratio', width / height);
    this.button.dataset.state = 'loading';
    this.button.setAttribute('aria-label', `${this.name}, loading`);
    this.cell = el('div', { class: 'cell' }, this.button);
  }

  // Resolves when the image is visible; until then the tile takes no input.
  async load() {
    if (!(await loadImage(this.image, this.src))) return false;
    this.button.prepend(this.image);
    this.ready = true;
    this.button.dataset.state = 'ready';
    this.button.setAttribute('aria-label', this.name);
    return true;
  }

  set(selected, point) {
    Object.assign(this, { selected, point });
    this.button.setAttribute('aria-pressed', String(selected));
    this.dot.hidden = !point;
    if (!point) return;
    this.dot.style.setProperty('--x', point.x);
    this.dot.style.setProperty('--y', point.y);
  }

  mark(verdict) {
    this.button.dataset.verdict = verdict;
    const text = { missed: 'Missed', wrong: 'Wrong' }[verdict] ?? '';
    this.button.querySelector('.verdict').textContent = text;
    this.button.setAttribute('aria-label', text ? `${this.name}: ${text}` : this.name);
  }

  // Offers to retry or report the image; a page can be submitted without a reported one.
  broken(retry, report) {
    const text = el('p', {}, 'Does not load');
    const button = (label, act) => el('button', { class: 'plain small', onclick: act }, label);
    const tried = () => {
      this.retry = null;
      box.remove();
      retry();
    };
    const reported = () => {
      this.retry = null;
      this.reported = true;
      box.replaceChildren(el('p', { tabindex: '-1' }, 'Reported, thank you. Please go on.'));
      box.firstChild.focus();
      report();
    };
    const box = el(
      'div',
      { class: 'broken' },
      text,
      el('div', {}, button('Try again', tried), button('Report', reported)),
    );
    this.retry = tried;
    this.button.dataset.state = 'broken';
    this.button.setAttribute('aria-label', `${this.name} does not load`);
    this.cell.append(box);
  }
}
