// The pages of icons: tabs, chips and the search.

import { el, shape } from './ui.js';

const MOST_FOUND = 10; // icons that the search shows

// A drawing, or else the initial on the colour of its page of icons.
export function disc({ name, icon, hue }) {
  const node = el('span', { class: 'disc', 'aria-hidden': 'true' });
  node.append(icon ? el('img', { src: icon, alt: '', draggable: 'false' }) : [...name][0].toUpperCase());
  node.style.setProperty('--hue', hue);
  return node;
}

export class Palette {
  // classes: [{c, name, group, icon, hue}]; groups: names of the pages; seen: Set of their indices.
  // opened(k, source, t): a page was opened; chosen(c, chip, event): a chip was clicked or pressed.
  constructor({ classes, groups, seen, tab, opened, chosen, ui }) {
    Object.assign(this, { classes, groups, seen, tab, opened, chosen, ui, placed: new Set() });
    this.tabs = groups.map((name, k) => this.makeTab(name, k));
    this.panels = groups.map((name, k) => this.makePanel(name, k));
    this.search = el('input', {
      type: 'search',
      placeholder: 'Search',
      'aria-label': 'Search icons',
      autocomplete: 'off',
      spellcheck: 'false',
      enterkeyhint: 'search',
    });
    this.found = el('div', { class: 'chips found', role: 'group', 'aria-label': 'Icons found' });
    this.list = el('div', { class: 'tabs', role: 'tablist', 'aria-label': 'Pages of icons' });
    this.list.append(...this.tabs);
    this.back = this.makeChevron('left', 'Previous page of icons', -1);
    this.on = this.makeChevron('right', 'Next page of icons', 1);
    this.progress = el('span', { class: 'progress', 'data-widest': this.seenOf(groups.length) });
    const search = el('label', { class: 'search' }, this.search, el('kbd', {}, '/'));
    this.node = el(
      'section',
      { class: 'palette', 'aria-label': 'Icons' },
      el('div', { class: 'strip' }, this.back, this.list, this.on),
      this.progress,
      search,
      el('div', { class: 'panels' }, ...this.panels, this.found),
    );
    this.listen();
    this.update();
  }

  makeTab(name, k) {
    const tab = el('button', { class: 'tab', type: 'button', role: 'tab', id: `tab${k}` }, name);
    tab.setAttribute('aria-controls', `icons${k}`);
    tab.dataset.name = name;
    tab.append(el('span', { class: 'seen' }));
    tab.addEventListener('click', (event) => this.open(k, event));
    return tab;
  }

  makePanel(name, k) {
    const chips = this.classes.filter((each) => each.group === name).map((each) => this.chip(each));
    const label = { role: 'tabpanel', id: `icons${k}`, 'aria-labelledby': `tab${k}` };
    chips.forEach((chip, place) => (chip.tabIndex = place ? -1 : 0));
    return el('div', { class: 'chips', ...label }, ...chips);
  }

  makeChevron(name, label, by) {
    const button = el('button', { class: 'chevron', type: 'button', 'aria-label': label });
    button.append(shape(name));
    button.addEventListener('click', (event) => this.open(this.tab + by, event));
    return button;
  }

  chip(each) {
    const node = el('button', { class: 'chip', type: 'button', 'data-c': String(each.c) });
    node.append(disc(each), el('span', { class: 'name' }, each.name), shape('check'));
    return node;
  }

  listen() {
    this.node.addEventListener('keydown', (event) => this.pressed(event));
    this.node.addEventListener('click', (event) => {
      const chip = event.target.closest('.chip');
      if (chip) this.chosen(Number(chip.dataset.c), chip, event);
    });
    this.node.addEventListener('focusin', ({ target }) => {
      if (!target.matches('.chip')) return;
      for (const chip of target.parentNode.children) chip.tabIndex = chip === target ? 0 : -1;
    });
    this.search.addEventListener('input', () => this.find());
    this.search.addEventListener('keydown', (event) => this.searched(event));
  }

  // event: what opened it, a click or a key
  open(k, event, source = null) {
    const focused = document.activeElement;
    this.clear();
    if (k < 0 || k >= this.groups.length || k === this.tab) return;
    source ??= event.type !== 'click' || !event.detail ? 'key' : event.pointerType || 'mouse';
    this.tab = k;
    this.seen.add(k);
    this.update();
    if (focused?.disabled) this.tabs[k].focus();
    this.opened(k, source, event.timeStamp);
    const number = this.panels[k].children.length;
    const place = `page ${k + 1} of ${this.groups.length}`;
    this.ui.announce(`${this.groups[k]}, ${place}, ${number} icons`);
  }

  seenOf(number) {
    return `${number} of ${this.groups.length} pages seen`;
  }

  update() {
    this.tabs.forEach((tab, k) => {
      const isOpen = k === this.tab && !this.search.value;
      tab.setAttribute('aria-selected', String(isOpen));
      tab.tabIndex = k === this.tab ? 0 : -1;
      tab.classList.toggle('new', !this.seen.has(k));
      this.panels[k].classList.toggle('open', isOpen);
    });
    this.found.classList.toggle('open', this.search.value !== '');
    this.back.disabled = this.tab === 0;
    this.on.disabled = this.tab === this.groups.length - 1;
    this.progress.textContent = this.seenOf(this.seen.size);
    this.reveal();
  }

  // Scrolls the strip, and nothing else, so that the open tab and its neighbours are visible.
  reveal() {
    const [tab, strip] = [this.tabs[this.tab], this.list];
    const left = tab.offsetLeft - (strip.clientWidth - tab.offsetWidth) / 2;
    strip.scrollTo({ left });
  }

  chips() {
    return [...(this.search.value ? this.found : this.panels[this.tab]).children];
  }

  setPlaced(c, isPlaced) {
    if (isPlaced) this.placed.add(c);
    else this.placed.delete(c);
    for (const chip of this.node.querySelectorAll(`.chip[data-c="${c}"]`)) this.mark(chip);
  }

  mark(chip) {
    const isPlaced = this.placed.has(Number(chip.dataset.c));
    chip.classList.toggle('placed', isPlaced);
    const name = chip.textContent && chip.querySelector('.name').textContent;
    chip.setAttribute('aria-label', isPlaced ? `${name}, on the image` : name);
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches('.chip')) this.pressedChip(event);
    else if (event.target.matches('.tab')) this.pressedTab(event);
  }

  pressedTab(event) {
    const ends = { Home: 0, End: this.groups.length - 1 };
    const steps = { ArrowLeft: this.tab - 1, ArrowRight: this.tab + 1, ...ends };
    if (event.key === 'ArrowDown') this.chips()[0].focus();
    else if (!(event.key in steps)) return;
    else this.open(steps[event.key], event);
    if (event.key !== 'ArrowDown') this.tabs[this.tab].focus();
    event.preventDefault();
  }

  pressedChip(event) {
    const chips = this.chips();
    const place = chips.indexOf(event.target);
    const columns = getComputedStyle(event.target.parentNode).gridTemplateColumns.split(' ').length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = chips[place + steps[event.key]];
    if (next) next.focus();
    else if (event.key === 'ArrowUp') (this.search.value ? this.search : this.tabs[this.tab]).focus();
    else if (event.key !== 'ArrowDown' && !this.search.value) this.turn(steps[event.key], event);
  }

  // Beyond the last chip comes the first one of the next page.
  turn(by, event) {
    const before = this.tab;
    this.open(this.tab + by, event);
    if (this.tab === before) return;
    this.chips().at(by > 0 ? 0 : -1).focus();
  }

  find() {
    const text = this.search.value.trim().toLowerCase();
    const rank = ({ name }) => {
      const place = ` ${name.toLowerCase()}`.indexOf(` ${text}`);
      return place < 0 ? 1000 + name.toLowerCase().indexOf(text) : place;
    };
    const fits = this.classes.filter(({ name }) => name.toLowerCase().includes(text));
    const shown = fits.sort((a, b) => rank(a) - rank(b)).slice(0, MOST_FOUND);
    this.found.replaceChildren(...shown.map((each) => this.chip(each)));
    this.chips().forEach((chip) => this.mark(chip));
    if (!shown.length) this.found.append(el('p', { class: 'none' }, `No icon is called “${text}”.`));
    this.update();
    this.ui.announce(`${shown.length} icons found`);
  }

  searched(event) {
    const first = this.found.querySelector('.chip');
    if (event.key === 'Escape') this.clear();
    else if (event.key === 'ArrowDown') first?.focus();
    else if (event.key === 'Enter' && first && this.search.value) this.goTo(first, event);
    else return;
    event.preventDefault();
  }

  // Opens the page of an icon that was found.
  goTo(chip, event) {
    const { c } = chip.dataset;
    const { group } = this.classes[c];
    this.open(this.groups.indexOf(group), event, 'search');
    this.panels[this.tab].querySelector(`[data-c="${c}"]`).focus();
  }

  clear() {
    if (!this.search.value) return;
    this.search.value = '';
    this.update();
  }
}
