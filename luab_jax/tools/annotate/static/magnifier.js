// Shows an enlarged view around a point of an image, above the finger that covers it.

import { el } from './ui.js';

const ZOOM = 1.5;
const RADIUS = 80; // px
const GAP = 20; // px between the pointer and the magnifier

export class Magnifier {
  constructor() {
    this.image = el('img', { alt: '', draggable: 'false' });
    this.node = el('div', { class: 'magnifier', 'aria-hidden': 'true', hidden: true }, this.image);
    this.node.append(el('i'), el('i'));
    document.body.append(this.node);
  }

  // src: that of the loaded image.
  use(src) {
    this.image.src = src;
  }

  // rect: where the image is shown; (x, y): the point, as fractions of it.
  show(rect, { x, y }) {
    const { style } = this.image;
    style.width = `${rect.width * ZOOM}px`;
    style.height = `${rect.height * ZOOM}px`;
    style.transform = `translate(${RADIUS - x * rect.width * ZOOM}px, ${RADIUS - y * rect.height * ZOOM}px)`;
    const { left, top } = this.place(rect.left + x * rect.width, rect.top + y * rect.height);
    this.node.style.transform = `translate(${left}px, ${top}px)`;
    this.node.hidden = false;
  }

  // Above the point, or beside it if there is no room above.
  place(pointX, pointY) {
    const within = (value, most) => Math.min(Math.max(value, 4), most - 2 * RADIUS - 4);
    const top = pointY - GAP - 2 * RADIUS;
    if (top >= 4) return { left: within(pointX - RADIUS, innerWidth), top };
    const isRight = pointX < innerWidth / 2;
    const left = isRight ? pointX + 2 * GAP : pointX - 2 * GAP - 2 * RADIUS;
    return { left: within(left, innerWidth), top: 4 };
  }

  hide() {
    this.node.hidden = true;
  }

  remove() {
    this.node.remove();
  }
}
