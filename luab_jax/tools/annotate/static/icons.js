// The icons task: an icon for each kind of thing in the image, dragged onto it.

import { openCrosshair } from './crosshair.js';
import { watchDrags } from './dragging.js';
import { KEYS, instructions } from './guide.js';
import { judge } from './judging.js';
import { Magnifier } from './magnifier.js';
import { Palette, disc } from './palette.js';
import { pointIn, trackPointer } from './recorder.js';
import { Scene, percent } from './scene.js';
import { el } from './ui.js';

export { instructions };

const LIMIT = 10; // drag events are clamped to this many widths or heights of the image
const within = (value) => Math.min(LIMIT, Math.max(-LIMIT, value));

class Icons {
  constructor(root, page, study, recorder, ui) {
    Object.assign(this, { recorder, ui, keys: KEYS, history: [], placed: new Map(), asked: false });
    this.gone = new AbortController();
    this.magnifier = new Magnifier();
    const [{ classes, groups }, { state }] = [page.classes ? page : study, page];
    const hue = (group) => Math.round((groups.indexOf(group) * 360) / groups.length + 265) % 360;
    this.classes = classes.map((each, c) => ({ ...each, c, hue: hue(each.group) }));
    this.required = study.require_all_pages;
    this.seen = new Set([0, ...state.seen]);
    this.scene = new Scene({
      image: page.images[0],
      classes: this.classes,
      ready: () => this.ready(),
      broken: () => this.scene.offer({ report: () => this.report() }),
      removing: (c, event) => this.remove(c, event),
    });
    this.palette = new Palette({
      classes: this.classes,
      groups,
      seen: this.seen,
      tab: state.tab,
      ui,
      opened: (k, s, t) => this.opened(k, s, t),
      chosen: (c, chip, event) => this.chosen(c, chip, event),
    });
    root.classList.add('icons');
    root.append(this.scene.node, this.palette.node);
    this.palette.update(); // now that the strip has a width
    for (const { c, x, y } of state.icons) this.show(c, { x, y });
    this.listen(study.track === 'raw', root);
    this.count();
  }

  listen(raw, root) {
    const on = (type, handle, target = root) =>
      target.addEventListener(type, handle, { signal: this.gone.signal });
    const { stage } = this.scene;
    this.tracker = trackPointer(stage, (point) => this.moved(point), { raw });
    this.drags = watchDrags(root, {
      pick: (event) => this.pick(event),
      start: (item) => this.start(item),
      move: (item, event) => this.dragged(item, event),
      show: (item, event) => this.follow(item, event),
      drop: (item, event) => this.drop(item, event),
      cancel: (item) => this.end(item),
      raw,
    });
    on('pointerup', (event) => (this.up = { event, point: this.scene.pointOf(event) }));
    on('click', (event) => this.clicked(event), stage);
    on('keydown', (event) => this.pressed(event), window);
  }

  ready() {
    if (this.gone.signal.aborted) return;
    this.magnifier.use(this.scene.image.src);
    this.recorder.watchBox(0, this.scene.stage);
  }

  report() {
    this.reported = true;
    this.recorder.record({ e: 'broken', t: performance.now(), i: 0 });
    this.ui.reportImage(0);
  }

  opened(k, s, t) {
    this.tracker.flush();
    this.recorder.record({ e: 'tab', t, k, s });
  }

  moved({ type, x, y, t }) {
    const isInside = x >= 0 && x <= 1 && y >= 0 && y <= 1; // not on a name that juts out
    if (type === 'move' && isInside && !this.dragging)
      this.recorder.record({ e: 'move', t, i: 0, x, y });
  }

  // Dragging
  pick(event) {
    const found = this.scene.nearest(event) ?? event.target.closest('.chip');
    if (!found || !this.scene.loaded) return null;
    return { node: found, c: Number(found.dataset.c), isPlaced: found.matches('.icon') };
  }

  start(item) {
    this.disarm();
    this.tracker.flush();
    this.dragging = true;
    const each = this.classes[item.c];
    item.ghost = el('div', { class: 'ghost', 'aria-hidden': 'true' }, disc(each));
    item.ghost.append(el('span', { class: 'label' }, each.name));
    document.body.append(item.ghost);
    document.body.classList.add('dragging');
    item.node.classList.add('lifted');
  }

  dragged({ c }, event) {
    const { x, y } = pointIn(this.scene.stage, event);
    this.recorder.record({ e: 'drag', t: event.timeStamp, c, x: within(x), y: within(y) });
  }

  follow({ ghost, isPlaced }, event) {
    const point = this.scene.pointOf(event);
    ghost.style.transform = `translate(${event.clientX}px, ${event.clientY}px)`;
    ghost.classList.toggle('over', point !== null);
    ghost.classList.toggle('away', isPlaced && point === null);
    this.scene.stage.classList.toggle('target', point !== null);
    if (point) this.magnifier.show(this.scene.stage.getBoundingClientRect(), point);
    else this.magnifier.hide();
  }

  drop(item, event) {
    this.end(item);
    const { c } = item;
    const point = this.scene.pointOf(event);
    const made = { t: event.timeStamp, s: event.pointerType };
    if (point) this.change(c, point, made);
    else if (item.isPlaced) this.change(c, null, made);
  }

  end({ ghost, node }) {
    this.tracker.flush(); // a position that was held back belongs to the drag
    this.dragging = false;
    ghost.remove();
    node.classList.remove('lifted');
    document.body.classList.remove('dragging');
    this.scene.stage.classList.remove('target');
    this.magnifier.hide();
  }

  // Without dragging: an icon, then a place
  chosen(c, chip, event) {
    if (!this.scene.loaded) return;
    const wasArmed = this.armed?.c === c;
    this.disarm();
    if (!event.detail) this.aim(c, chip);
    else if (!wasArmed) this.arm(c, chip);
  }

  arm(c, chip) {
    this.armed = { c, chip };
    chip.classList.add('armed');
    this.scene.frame.classList.add('armed');
    this.scene.hint.textContent = `Now click the ${this.classes[c].name} in the image`;
    this.scene.hint.hidden = false;
    this.ui.announce(this.scene.hint.textContent);
  }

  disarm() {
    this.armed?.chip.classList.remove('armed');
    this.armed = null;
    this.scene.frame.classList.remove('armed');
    this.scene.hint.hidden = true;
  }

  // A click's point is taken from its pointerup, as `click` has whole pixels only.
  clicked(event) {
    const marker = event.target.closest('.icon');
    const { armed, up } = this;
    if (marker && !event.detail) this.aim(Number(marker.dataset.c), marker);
    if (!armed || !event.detail || !up?.point) return;
    this.disarm();
    this.change(armed.c, up.point, { t: up.event.timeStamp, s: up.event.pointerType });
  }

  // By keyboard: a cross on the image, while the focus stays on the chip or icon.
  aim(c, node) {
    const { name } = this.classes[c];
    this.scene.node.scrollIntoView({ block: 'nearest' });
    openCrosshair(this.scene.stage, node, {
      start: this.placed.get(c) ?? { x: 0.5, y: 0.5 },
      put: (point, t) => this.change(c, point, { t, s: 'key' }),
      closed: () => this.ui.announce(`${name}: not placed`),
      ui: this.ui,
    });
  }

  pressed(event) {
    const { target, key } = event;
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector('dialog[open]') || target.matches('input')) return;
    const held = target.closest('.chip, .icon');
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (key === 'Escape') return this.disarm();
    if (key === '/') this.palette.search.focus();
    else if (held && (key === 'Delete' || key === 'Backspace')) this.remove(Number(held.dataset.c), event);
    else if (step && !held) this.palette.open(this.palette.tab + step, event);
    else return;
    event.preventDefault();
  }

  // What is on the image
  remove(c, event) {
    const s = event.type === 'click' && event.detail ? event.pointerType || 'mouse' : 'key';
    if (this.placed.has(c)) this.change(c, null, { t: event.timeStamp, s });
  }

  // point: the new place of the icon of class c; null removes it
  change(c, point, made) {
    this.history.push({ c, point: this.placed.get(c) ?? null });
    this.set(c, point, made);
  }

  set(c, point, { t, s }) {
    const { name } = this.classes[c];
    this.tracker.flush();
    this.recorder.record(point ? { e: 'put', t, c, s, ...point } : { e: 'remove', t, c, s });
    this.show(c, point);
    this.count();
    this.ui.announce(point ? `${name}: ${percent(point)}` : `${name} removed`);
  }

  show(c, point) {
    if (point) this.placed.set(c, point);
    else this.placed.delete(c);
    if (point) this.scene.place(c, point);
    else this.scene.remove(c);
    this.palette.setPlaced(c, point !== null);
    this.scene.clearRings();
  }

  undo() {
    const last = this.history.pop();
    if (!last) return this.ui.toast('There is nothing to undo.');
    this.disarm();
    this.set(last.c, last.point, { t: performance.now(), s: 'undo' });
  }

  count() {
    const { size } = this.placed;
    this.ui.count(size === 1 ? '1 icon' : `${size} icons`);
  }

  state() {
    const icons = [...this.placed].map(([c, { x, y }]) => ({ c, x, y }));
    return { icons: icons.sort((a, b) => a.c - b.c) };
  }

  check() {
    if (this.reported) return { ok: true };
    if (!this.scene.loaded) return { ok: false, refuse: 'The image has not loaded yet.' };
    const left = this.palette.groups.filter((_, k) => !this.seen.has(k));
    if (this.required && left.length)
      return { ok: false, refuse: `Please look at all pages of icons first: ${left.join(', ')}.` };
    if (this.placed.size || this.asked) return { ok: true };
    this.asked = true;
    return { ok: false, ask: 'You placed no icons. Does the image really show none of these things?' };
  }

  // answers: as in judge()
  feedback(answers) {
    const { width, height } = this.scene.image;
    const { missed, misplaced, wrong } = judge(this.placed, answers, height / width);
    this.scene.clearRings();
    for (const c of wrong) this.scene.mark(c, 'wrong');
    for (const c of misplaced) this.scene.mark(c, 'misplaced');
    for (const c of [...missed, ...misplaced])
      this.scene.ring(this.classes[c].name, answers.find((spot) => spot.c === c));
    const say = (text, list) =>
      list.length ? `${text}: ${list.map((c) => this.classes[c].name).join(', ')}. ` : '';
    const text =
      say('Missed', missed) + say('Off the thing', misplaced) + say('Not in the image', wrong);
    if (!text) return { ok: true, text: 'You found everything.' };
    this.scene.node.scrollIntoView({ block: 'nearest' });
    return { ok: false, text: `${text}It is marked on the image; please change it.` };
  }

  destroy() {
    this.drags.stop();
    this.tracker.flush();
    this.tracker.stop();
    this.magnifier.remove();
    this.gone.abort();
  }
}

export function mount(root, page, study, recorder, ui) {
  return new Icons(root, page, study, recorder, ui);
}
