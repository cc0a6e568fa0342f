// The grid task: which of these images show the class? A click selects an image and marks a point.

import { openCrosshair } from './crosshair.js';
import { pointIn, trackPointer } from './recorder.js';
import { Tile } from './tile.js';
import { el } from './ui.js';

const AT_ONCE = 6; // images that load and decode at the same time

export const KEYS = [
  ['← ↑ → ↓', 'go to another image'],
  ['Space', 'select or deselect the image'],
  ['Enter', 'choose a point on the image: arrows move the cross (Shift: faster), Enter selects'],
  ['Ctrl+Z', 'undo'],
  ['?', 'this list'],
];

export function instructions(study) {
  return [
    {
      heading: 'What you do',
      figure: {
        src: '/static/guide_grid.svg',
        alt: 'Two of three images show a kite: they are selected.',
      },
      items: [
        'Each page asks for one kind of thing, say “banana”, and shows its definition.',
        'Click every image that shows at least one. Click on the thing itself.',
        'Partial views count: the thing may be cut off, far away or half hidden.',
        'Photographs of the real thing count; drawings and toys do not, except in practice.',
        'When you have looked at all images of the page, press “Submit” below them.',
      ],
    },
    {
      heading: 'Good to know',
      items: [
        'A click on a selected image deselects it. “Undo” reverts the last click.',
        'Everything is saved as you go. You can reload, close the laptop or lose the network: ' +
          'open the same link again and continue where you left off.',
        `A practice page comes first, then ${study.pages} pages.`,
        'If an image does not load, try again, or report it and go on.',
        'Everything also works with the keyboard: press ? for the list of keys.',
      ],
    },
  ];
}

class Grid {
  constructor(root, page, study, recorder, ui) {
    Object.assign(this, { page, recorder, ui, keys: KEYS });
    Object.assign(this, { history: [], asked: false, ended: false });
    this.tiles = page.images.map((image) => new Tile(image, page.images.length));
    this.byNode = new Map(this.tiles.map((tile) => [tile.button, tile]));
    this.gone = new AbortController();
    const label = `Images: ${page.class.name}`;
    this.node = el('div', { class: 'grid', role: 'group', 'aria-label': label });
    this.node.classList.toggle('blurred', study.blur === 'on');
    this.node.classList.toggle('red', study.pointer === 'red');
    this.node.append(...this.tiles.map((tile) => tile.cell));
    root.append(this.node);
    for (const { i, x = null, y = null } of page.state.selected)
      this.tiles[i].set(true, x === null ? null : { x, y });
    this.tiles[0].button.tabIndex = 0;
    this.listen(study);
    this.count();
    this.loadAll();
  }

  listen(study) {
    const on = (type, handle, target = this.node) =>
      target.addEventListener(type, handle, { signal: this.gone.signal });
    const zoneOf = (node) => {
      const button = node.closest?.('.tile');
      return button && this.byNode.get(button)?.ready ? button : null;
    };
    const raw = study.track === 'raw';
    this.tracker = trackPointer(this.node, (point) => this.hovered(point), { raw, zoneOf });
    on('pointerup', (event) => this.released(event));
    on('click', (event) => this.clicked(event));
    on('keydown', (event) => this.pressed(event));
    on('focusin', (event) => this.focused(event));
    on('online', () => this.tiles.forEach((tile) => tile.retry?.()), window);
    if (study.pointer === 'red') this.follow(on);
  }

  // The red dot, as in the authors' version with a pointer.
  follow(on) {
    const dot = el('span', { class: 'follower', hidden: true });
    this.node.append(dot);
    on('pointermove', (event) => {
      dot.hidden = event.pointerType === 'touch' || !event.target.closest('.tile');
      dot.style.setProperty('--left', `${event.clientX}px`);
      dot.style.setProperty('--top', `${event.clientY}px`);
    });
    on('pointerleave', () => (dot.hidden = true));
  }

  async loadAll() {
    const rest = [...this.tiles];
    const one = async () => {
      while (rest.length && !this.ended) await this.load(rest.shift());
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
  }

  async load(tile) {
    tile.button.dataset.state = 'loading';
    const loaded = await tile.load();
    if (this.ended) return;
    if (loaded) this.recorder.watchBox(tile.slot, tile.button);
    else tile.broken(() => this.load(tile), () => this.report(tile));
  }

  report(tile) {
    this.recorder.record({ e: 'broken', t: performance.now(), i: tile.slot });
    this.ui.reportImage(tile.slot);
  }

  hovered({ type, zone, x, y, t }) {
    const tile = this.byNode.get(zone);
    if (type !== 'move') this.recorder.record({ e: type, t, i: tile.slot });
    else if (!tile.selected) this.recorder.record({ e: 'move', t, i: tile.slot, x, y });
  }

  // A click's point is taken from its pointerup, as `click` has whole pixels only.
  released(event) {
    const button = event.target.closest('.tile');
    this.up = button && {
      button,
      id: event.pointerId,
      source: event.pointerType,
      t: event.timeStamp,
      point: pointIn(button, event),
    };
  }

  clicked(event) {
    const button = event.target.closest('.tile');
    const tile = this.byNode.get(button);
    const up = this.up;
    this.up = null;
    if (!tile?.ready) return;
    // Some browsers' `click` has no pointerId.
    const same = up?.button === button && up.id === (event.pointerId ?? up.id);
    const pointed = event.detail > 0 && same;
    const made = pointed ? up : { source: 'key', t: event.timeStamp, point: null };
    this.change(tile, !tile.selected, tile.selected ? null : made.point, made);
  }

  change(tile, selected, point, made) {
    this.history.push({ tile, selected: tile.selected, point: tile.point });
    this.set(tile, selected, point, made);
  }

  set(tile, selected, point, { source, t }) {
    this.tracker.flush();
    const event = { t, i: tile.slot, s: source };
    if (tile.selected) this.recorder.record({ e: 'off', ...event });
    if (selected) this.recorder.record({ e: 'on', ...event, ...point });
    tile.set(selected, point);
    tile.mark('');
    this.count();
  }

  undo() {
    const last = this.history.pop();
    if (!last) return this.ui.toast('There is nothing to undo.');
    const { tile, selected, point } = last;
    this.set(tile, selected, point, { source: 'undo', t: performance.now() });
    tile.button.focus();
    this.ui.announce(`Undone: ${tile.name} is ${selected ? '' : 'not '}selected`);
  }

  count() {
    this.ui.count(`${this.tiles.filter((tile) => tile.selected).length} selected`);
  }

  focused(event) {
    const tile = this.byNode.get(event.target);
    if (!tile) return;
    for (const other of this.tiles) other.button.tabIndex = other === tile ? 0 : -1;
  }

  pressed(event) {
    const tile = this.byNode.get(event.target);
    if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
    const columns = getComputedStyle(this.node).gridTemplateColumns.split(' ').length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const ends = { Home: 0, End: this.tiles.length - 1 };
    const next = this.tiles[ends[event.key] ?? tile.slot + steps[event.key]];
    if (event.key === 'Enter') this.aim(tile);
    else if (!(event.key in steps || event.key in ends)) return;
    event.preventDefault();
    next?.button.focus();
  }

  aim(tile) {
    if (!tile.ready) return;
    const put = (point, t) => this.change(tile, true, point, { source: 'key', t });
    const start = tile.point ?? { x: 0.5, y: 0.5 };
    openCrosshair(tile.button, tile.button, { start, put, ui: this.ui });
  }

  state() {
    return { selected: this.tiles.filter((tile) => tile.selected).map((tile) => tile.slot) };
  }

  check() {
    const open = this.tiles.filter((tile) => !tile.ready && !tile.reported);
    if (open.some((tile) => tile.retry))
      return { ok: false, refuse: 'An image does not load: try again, or report it.' };
    if (open.length) return { ok: false, refuse: `Images still loading: ${open.length}.` };
    if (this.state().selected.length || this.asked) return { ok: true };
    this.asked = true;
    const { name } = this.page.class;
    return { ok: false, ask: `You selected no images. Is it right that none shows “${name}”?` };
  }

  // answers: the slots that show the class
  feedback(answers) {
    const kinds = this.tiles.map(({ slot, selected }) => {
      if (answers.includes(slot) === selected) return '';
      return selected ? 'wrong' : 'missed';
    });
    this.tiles.forEach((tile, place) => tile.mark(kinds[place]));
    const number = (kind) => kinds.filter((each) => each === kind).length;
    const [missed, wrong] = [number('missed'), number('wrong')];
    if (!missed && !wrong) return { ok: true, text: 'You found all of them.' };
    this.tiles[kinds.findIndex((kind) => kind)].cell.scrollIntoView({ block: 'center' });
    const parts = [missed && `${missed} missed`, wrong && `${wrong} that show something else`];
    const found = parts.filter(Boolean).join(', ');
    return { ok: false, text: `Not yet: ${found}. They are marked; please change them.` };
  }

  destroy() {
    this.ended = true;
    this.tracker.flush();
    this.tracker.stop();
    this.gone.abort();
  }
}

export function mount(root, page, study, recorder, ui) {
  return new Grid(root, page, study, recorder, ui);
}
