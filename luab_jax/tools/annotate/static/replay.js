// Replays an answer: the images where they were shown, the cursor, its path, clicks and icons.

import { duration } from './format.js';
import { el } from './ui.js';
import { Page, cursorAt, extent, lastBefore, readTrack } from './track.js';
import { entries, marks } from './timeline.js';

const TRAIL_MS = 2500;
const RIPPLE_MS = 700;
const PAUSE_MS = 1500; // a longer one may be skipped
const SPEEDS = [0.5, 1, 2, 4, 8];
const INK = '#2f5bd7'; // of the path and of clicks; both have a white edge on photographs
const SVG = 'http://www.w3.org/2000/svg';

function arrow() {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 16 22');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', 'M0 0v17l4-4 3 8 3-1-3-8h6z');
  svg.append(path);
  return svg;
}

export class Player {
  /** `answer`: from /admin/api/answers/ID; `classes`: those of the study. */
  constructor(answer, classes) {
    this.classes = classes;
    this.events = answer.events;
    this.sheet = extent(this.events);
    this.track = readTrack(this.events);
    this.page = new Page(this.events);
    this.ripples = this.track.actions.filter((action) => ['on', 'off', 'put'].includes(action.e));
    this.t = 0;
    this.speed = 1;
    this.build(answer);
    this.resizer = new ResizeObserver(() => this.layOut());
    this.resizer.observe(this.stage);
    this.seek(0);
  }

  build(answer) {
    this.tiles = answer.images.map((image) => el('figure', { class: 'shot' },
      el('img', { src: image.src, alt: `Image ${image.slot + 1}`, draggable: 'false' }),
      el('i', { class: 'point' })));
    this.icons = new Map();
    this.cursor = el('div', { class: 'cursor' }, arrow());
    this.canvas = el('canvas');
    this.paper = el('div', { class: 'paper' }, this.tiles, this.cursor);
    this.stage = el('div', { class: 'stage', tabindex: '0', role: 'img', 'aria-label':
      'The page as the worker saw it'}, this.canvas, this.paper);
    this.stage.addEventListener('scroll', () => this.paint());
    this.notice = el('p', { class: 'notice', hidden: true }, 'The tab was hidden here.');
    this.button = el('button', { class: 'primary play', onclick: () => this.toggle() }, 'Play');
    this.clock = el('output', { class: 'clock' });
    this.range = el('input', {
      type: 'range', min: '0', max: String(this.track.end), step: 'any', value: '0',
      'aria-label': 'Time', oninput: () => { this.pause(); this.seek(Number(this.range.value)); },
    });
    const speed = el('select', { 'aria-label': 'Speed', onchange: () => {
      this.speed = Number(speed.value);
    }}, SPEEDS.map((value) => el('option', { value: String(value) }, `${value}×`)));
    speed.value = '1';
    this.skip = el('input', { type: 'checkbox', checked: true });
    this.whole = el('input', { type: 'checkbox', onchange: () => this.paint() });
    this.entries = entries(this.track.actions, this.classes, (t) => {
      this.pause();
      this.seek(t);
      this.follow(true);
    });
    const label = { role: 'group', 'aria-label': 'What happened' };
    this.list = el('div', { class: 'entries', ...label }, this.entries);
    this.element = el('div', { class: 'player' },
      el('div', { class: 'screen' }, this.stage, this.notice),
      el('div', { class: 'timeline' }, marks(this.track), this.range),
      el('div', { class: 'controls' }, this.button, this.clock, speed,
        el('label', {}, this.skip, 'Skip pauses'), el('label', {}, this.whole, 'Whole path'),
        el('span', { class: 'hint' }, 'Space plays; comma and full stop step.')),
      this.list);
    this.element.addEventListener('keydown', (event) => this.key(event));
  }

  layOut() {
    const { clientWidth, clientHeight } = this.stage;
    const fits = this.tiles.length > 1 ? 1 : clientHeight / this.sheet.h; // one image: all of it
    this.scale = Math.min(1, fits, clientWidth / this.sheet.w);
    this.paper.style.width = `${this.sheet.w * this.scale}px`;
    this.paper.style.height = `${this.sheet.h * this.scale}px`;
    this.ratio = window.devicePixelRatio;
    this.canvas.width = clientWidth * this.ratio;
    this.canvas.height = clientHeight * this.ratio;
    this.canvas.style.width = `${clientWidth}px`;
    this.canvas.style.height = `${clientHeight}px`;
    this.left = this.paper.offsetLeft;
    this.seek(this.t);
  }

  /** Moves an element to (x, y), in CSS px of the recorded document, on the scaled sheet. */
  place(element, x, y) {
    const left = (x - this.sheet.x) * this.scale;
    element.style.transform = `translate(${left}px, ${(y - this.sheet.y) * this.scale}px)`;
  }

  seek(t) {
    this.t = Math.min(Math.max(t, 0), this.track.end);
    const page = this.page.seek(this.t);
    this.range.value = String(this.t);
    this.clock.value = `${duration(this.t, true)} / ${duration(this.track.end, true)}`;
    this.notice.hidden = !page.hidden;
    if (!this.scale) return;
    this.tiles.forEach((tile, slot) => this.showTile(tile, slot, page));
    this.showIcons(page);
    const cursor = cursorAt(this.track.points, this.t);
    this.cursor.hidden = !cursor;
    if (cursor) {
      this.place(this.cursor, cursor.x, cursor.y);
      this.cursor.classList.toggle('resting', cursor.age > 600);
      this.cursor.classList.toggle('touch', cursor.s === 'touch');
    }
    const last = lastBefore(this.track.actions, this.t);
    this.entries.forEach((entry, k) => entry.classList.toggle('past', k <= last));
    this.current = this.entries[last];
    this.paint();
  }

  showTile(tile, slot, page) {
    const box = page.boxes.get(slot);
    tile.hidden = !box;
    if (!box) return;
    this.place(tile, box.x, box.y);
    tile.style.width = `${box.w * this.scale}px`;
    tile.style.height = `${box.h * this.scale}px`;
    tile.classList.toggle('selected', page.selected.has(slot));
    tile.classList.toggle('over', page.over === slot);
    const point = page.selected.get(slot);
    tile.lastChild.hidden = !point;
    if (point) {
      tile.lastChild.style.left = `${100 * point.x}%`;
      tile.lastChild.style.top = `${100 * point.y}%`;
    }
  }

  showIcons(page) {
    const box = page.boxes.get(0);
    const shown = new Map(page.icons);
    if (page.dragged) shown.set(page.dragged.c, page.dragged);
    for (const [c, element] of this.icons) element.hidden = !shown.has(c);
    for (const [c, at] of shown) {
      if (!this.icons.has(c)) {
        const known = this.classes[c] ?? {name: `class ${c}`};
        const picture = known.icon ? el('img', { src: known.icon, alt: '' }) : null;
        this.icons.set(c, el('div', { class: 'chip' }, picture, known.name));
        this.cursor.before(this.icons.get(c));
      }
      const element = this.icons.get(c);
      element.classList.toggle('dragged', page.dragged?.c === c);
      if (box) this.place(element, box.x + at.x * box.w, box.y + at.y * box.h);
    }
  }

  paint() {
    if (!this.scale) return;
    const pen = this.canvas.getContext('2d');
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.clearRect(0, 0, this.stage.clientWidth, this.stage.clientHeight);
    const at = ({ x, y }) => [this.left + (x - this.sheet.x) * this.scale,
      (y - this.sheet.y) * this.scale - this.stage.scrollTop];
    this.paintPath(pen, at);
    pen.strokeStyle = INK;
    for (let k = lastBefore(this.ripples, this.t); k >= 0; k--) {
      const { t, place } = this.ripples[k];
      const age = (this.t - t) / RIPPLE_MS;
      if (age > 1) break;
      if (!place) continue;
      pen.globalAlpha = 1 - age;
      pen.lineWidth = 3;
      pen.beginPath();
      pen.arc(...at(place), 6 + 22 * age, 0, 2 * Math.PI);
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }

  /** A white line below the coloured one keeps the path visible on any photograph. */
  paintPath(pen, at) {
    const { points } = this.track;
    const last = lastBefore(points, this.t);
    const since = this.whole.checked ? 0 : this.t - TRAIL_MS;
    const first = Math.max(1, lastBefore(points, since) + 1);
    pen.lineCap = 'round';
    for (const [width, style] of [[5, '#fff'], [2.5, INK]]) {
      pen.lineWidth = width;
      pen.strokeStyle = style;
      for (let k = first; k <= last; k++) {
        const [from, to] = [points[k - 1], points[k]];
        if (to.t - from.t > PAUSE_MS || to.s === 'touch') continue;
        pen.globalAlpha = this.whole.checked ? 0.7 : 1 - (this.t - to.t) / TRAIL_MS;
        pen.beginPath();
        pen.moveTo(...at(from));
        pen.lineTo(...at(to));
        pen.stroke();
      }
    }
  }

  /** Scrolls so that the cursor is visible. */
  follow(always = false) {
    const cursor = cursorAt(this.track.points, this.t);
    if (cursor && (always || this.playing)) {
      const y = (cursor.y - this.sheet.y) * this.scale - this.stage.scrollTop;
      const { clientHeight } = this.stage;
      if (y < clientHeight * 0.15 || y > clientHeight * 0.85) {
        this.stage.scrollTop += y - clientHeight / 2;
      }
    }
    if (this.current) {
      const { offsetTop, offsetHeight } = this.current;
      this.list.scrollTop = offsetTop + offsetHeight - this.list.clientHeight;
    }
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (this.t >= this.track.end) this.seek(0);
    this.playing = true;
    this.button.textContent = 'Pause';
    let before = null;
    const step = (now) => {
      if (!this.playing) return;
      if (!this.element.isConnected) {
        this.pause();
        return;
      }
      let t = this.t + (before === null ? 0 : (now - before) * this.speed);
      before = now;
      const next = this.events[lastBefore(this.events, t) + 1];
      if (this.skip.checked && next && next.t - t > PAUSE_MS) t = next.t - 300;
      this.seek(t);
      this.follow();
      if (this.t >= this.track.end) this.pause();
      else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  pause() {
    this.playing = false;
    this.button.textContent = 'Play';
  }

  /** Space plays and pauses; , and . go to the previous and the next action. */
  key(event) {
    if (event.key === ' ' && !event.target.closest('button, input, select')) {
      event.preventDefault();
      this.toggle();
    } else if (event.key === ',' || event.key === '.') {
      const k = lastBefore(this.track.actions, this.t) + (event.key === '.' ? 1 : -1);
      this.pause();
      this.seek(this.track.actions[k]?.t ?? (k < 0 ? 0 : this.track.end));
      this.follow(true);
    }
  }
}
