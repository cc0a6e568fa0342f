// Parts of the page that both tasks and all screens share.

const SVG = 'http://www.w3.org/2000/svg';

// el('button', {class: 'primary', onclick: f, 'aria-label': text}, child, 'text'), null left out.
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

const SHAPES = {
  check: 'M5 12.5l4.5 4.5L19 7.5',
  cross: 'M6 6l12 12M18 6L6 18',
  undo: 'M9 6L4 11l5 5M4 11h10a6 6 0 0 1 0 12h-2',
  left: 'M15 5l-7 7 7 7',
  right: 'M9 5l7 7-7 7',
};

// A line drawing of 24 x 24; it takes the colour of the text and is hidden from screen readers.
export function shape(name) {
  const svg = document.createElementNS(SVG, 'svg');
  const path = document.createElementNS(SVG, 'path');
  svg.setAttribute('viewBox', name === 'undo' ? '0 2 24 24' : '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  svg.classList.add('shape');
  path.setAttribute('d', SHAPES[name]);
  svg.append(path);
  return svg;
}

const PAUSES = [1000, 3000]; // ms before an image that did not load is tried again

// Resolves to whether the image can be shown, which has then been decoded.
export async function loadImage(image, src) {
  for (const pause of [...PAUSES, null]) {
    image.src = src;
    try {
      await image.decode();
      return true;
    } catch {
      image.removeAttribute('src');
    }
    if (pause !== null) await new Promise((resolve) => setTimeout(resolve, pause));
  }
  return false;
}

const STATUS = {
  saved: ['Saved'],
  saving: ['Saving…'],
  offline: ['Offline', ', kept here'], // a phone has no room for the second part
  full: ['Not saved', ', kept here'],
};
const EXPLAINED = {
  offline: 'No connection. Your answers are kept in this browser and sent later. You can go on.',
  full: 'The server is full. Your answers are kept in this browser until it has space.',
};

export class Ui {
  constructor() {
    this.main = document.getElementById('main');
    this.live = document.getElementById('live');
    this.toasts = document.getElementById('toast');
    this.statusNode = el('span', { class: 'status' });
    this.tell('saved');
    this.countNode = el('span', { class: 'count' });
  }

  // Shows these nodes instead of all others, from the top.
  show(...nodes) {
    for (const dialog of document.querySelectorAll('dialog')) dialog.close();
    this.main.inert = false;
    this.main.replaceChildren(...nodes);
    scrollTo(0, 0);
  }

  // A card in the middle: consent, instructions, the end.
  card(heading, ...nodes) {
    document.title = heading;
    const title = el('h1', { tabindex: '-1' }, heading);
    const card = el('section', { class: 'card' }, title, ...nodes);
    document.body.classList.remove('working');
    this.show(card);
    title.focus();
    return card;
  }

  toast(text) {
    clearTimeout(this.fading);
    this.toasts.replaceChildren(text);
    this.toasts.hidden = false;
    this.announce(text);
    this.fading = setTimeout(() => (this.toasts.hidden = true), 6000);
  }

  // For screen readers only.
  announce(text) {
    this.live.textContent = text;
  }

  count(text) {
    this.countNode.textContent = text;
  }

  // 'saved', 'saving', 'offline' or 'full'
  status(word) {
    if (word === this.word) return;
    this.tell(word);
    if (EXPLAINED[word]) this.toast((this.troubled = EXPLAINED[word]));
    else if (this.troubled && word === 'saved') {
      this.troubled = null;
      this.toast('Everything is saved again.');
    }
  }

  tell(word) {
    const [short, more = ''] = STATUS[word];
    this.word = word;
    this.statusNode.dataset.state = word;
    this.statusNode.replaceChildren(
      el('span', {}, short, el('span', { class: 'label' }, more)),
    );
  }

  // Asks a question, or without `no` shows a message. Resolves to whether `yes` was chosen.
  confirm(text, { yes = 'Yes', no = 'Go back', heading = null, danger = false } = {}) {
    return new Promise((resolve) => {
      const answer = (value) => () => {
        dialog.close();
        resolve(value);
      };
      const buttons = el('div', { class: 'buttons' });
      const add = (label, look, value, autofocus) =>
        buttons.append(el('button', { class: look, autofocus, onclick: answer(value) }, label));
      if (no) add(no, 'plain', false, danger);
      add(yes, danger ? 'danger' : 'primary', true, !danger);
      const title = heading && el('h2', {}, heading);
      const dialog = el('dialog', { class: 'sheet' }, title, el('p', {}, text), buttons);
      this.open(dialog, () => resolve(false));
    });
  }

  // keys: [[label, meaning], ...]
  sheet(keys, ...more) {
    const rows = keys.map(([label, meaning]) => [
      el('dt', {}, label.split(' ').map((key) => el('kbd', {}, key))),
      el('dd', {}, meaning),
    ]);
    const close = el('button', { class: 'primary', onclick: () => dialog.close() }, 'Close');
    const dialog = el(
      'dialog',
      { class: 'sheet wide' },
      el('h2', { tabindex: '-1', autofocus: true }, 'Keys'),
      el('dl', { class: 'keys' }, ...rows.flat()),
      ...more,
      el('div', { class: 'buttons' }, close),
    );
    this.open(dialog, () => {});
  }

  open(dialog, closed) {
    const before = document.activeElement;
    dialog.addEventListener('close', () => {
      dialog.remove();
      before?.focus?.({ preventScroll: true });
      closed();
    });
    document.body.append(dialog);
    dialog.showModal();
  }
}
