// The pages around the work, as cards: consent, instructions, completion code, errors and ends.

import { el } from './ui.js';

const list = (items) => el('ul', {}, items.map((item) => el('li', {}, item)));

function questions(study) {
  const { contact } = study.consent;
  return contact ? el('p', { class: 'muted' }, `Questions: ${contact}`) : null;
}

const ACTS = {
  grid: 'where and when you click or tap an image, or select it with the keyboard;',
  icons: 'where and when you place, move and remove icons;',
};

// Resolves when the worker agrees. preview: MTurk shows the task before it is accepted.
export function consent(ui, study, { preview, platform }) {
  const pages = study.pages === 1 ? 'one page' : `up to ${study.pages} pages`;
  const lead = `You will work on ${pages} of photographs, after a short practice.`;
  const hint = preview
    ? 'This is a preview: accept the task to begin.'
    : 'If you do not agree, just close this page: nothing has been recorded.';
  return new Promise((resolve) => {
    const agree = { class: 'primary', disabled: preview, onclick: resolve };
    ui.card(
      study.title,
      study.consent.what ? el('p', {}, study.consent.what) : null,
      el('p', {}, lead),
      el('h2', {}, 'What is recorded'),
      list([
        ACTS[study.task],
        'how the mouse moves over the images;',
        'when you open, leave and submit a page, and the size of its window.',
      ]),
      el('h2', {}, 'What is not recorded'),
      list([
        platform
          ? 'your name and IP address; your platform ID is stored separately, only for payment;'
          : 'your name and IP address;',
        'anything outside this page, and anything before you agree.',
      ]),
      el('p', {}, 'You may stop at any time. “Withdraw” deletes everything you did.'),
      questions(study),
      el('div', { class: 'buttons' }, el('button', agree, 'I agree, start')),
      el('p', { class: 'muted end' }, hint),
    );
  });
}

// The screens of instructions, one after the other; resolves after the last.
export async function instructions(ui, screens) {
  for (let place = 0; place < screens.length; place += 1) {
    const back = await screen(ui, screens, place);
    if (back) place -= 2;
  }
}

function screen(ui, screens, place) {
  const { heading, items, figure } = screens[place];
  const last = place === screens.length - 1;
  return new Promise((resolve) => {
    const back = el('button', { class: 'plain', onclick: () => resolve(true) }, 'Back');
    const on = last ? 'Start practising' : 'Next';
    ui.card(
      heading,
      el('p', { class: 'muted' }, `${place + 1} of ${screens.length}`),
      figure ? el('img', { class: 'figure', width: 560, height: 210, ...figure }) : null,
      list(items),
      el(
        'div',
        { class: 'buttons' },
        place ? back : null,
        el('button', { class: 'primary', onclick: () => resolve(false) }, on),
      ),
    );
  });
}

// The work is done. answer: {code, return_url, submit_to}
export function done(ui, study, { code, return_url: back, submit_to: form }) {
  if (!code) {
    const text = 'All pages have been answered already, so there is nothing left to do.';
    return ui.card('Thank you', el('p', {}, text), questions(study));
  }
  const value = el('output', { class: 'code', 'aria-label': 'Completion code' }, code);
  const copy = async () => {
    getSelection().selectAllChildren(value);
    // Pages without TLS have no clipboard API: execCommand copies the selected code.
    if (navigator.clipboard) await navigator.clipboard.writeText(code);
    else document.execCommand('copy');
    ui.toast('Copied.');
  };
  const buttons = el('div', { class: 'buttons' });
  const look = back || form ? 'plain' : 'primary';
  buttons.append(el('button', { class: look, onclick: copy }, 'Copy the code'));
  const link = { class: 'primary', href: back, rel: 'noreferrer' };
  if (back) buttons.append(el('a', link, 'Finish and return'));
  if (form) buttons.append(handIn(form));
  ui.card(
    'All done, thank you!',
    el('p', {}, 'Every page is saved. This is your completion code:'),
    value,
    buttons,
    questions(study),
  );
}

function handIn({ action, fields }) {
  const hidden = ([name, value]) => el('input', { type: 'hidden', name, value });
  const send = el('button', { class: 'primary' }, 'Hand in');
  return el('form', { method: 'post', action }, ...Object.entries(fields).map(hidden), send);
}

export function moved(ui) {
  ui.card(
    'This page continues in another tab',
    el('p', {}, 'You opened it there, so this tab has stopped. Nothing is lost.'),
    el('div', { class: 'buttons' },
      el('button', { class: 'primary', onclick: () => location.reload() }, 'Continue here')),
  );
}

// Resolves after `seconds`, or when asked to check again.
export function wait(ui, seconds) {
  return new Promise((resolve) => {
    setTimeout(resolve, seconds * 1000);
    ui.card(
      'One moment, please',
      el('p', {}, 'Other people are working on the remaining pages.'),
      el('p', {}, 'This page checks again automatically.'),
      el('div', { class: 'buttons' },
        el('button', { class: 'plain', onclick: resolve }, 'Check again')),
    );
  });
}

export function withdrawn(ui) {
  ui.card(
    'You have withdrawn',
    el('p', {}, 'Everything you did here has been deleted. You can close this page.'),
  );
}

// Nothing can be done here; `text` says why.
export function stuck(ui, study, heading, text) {
  ui.card(
    heading,
    el('p', {}, text),
    questions(study),
    el('div', { class: 'buttons' },
      el('button', { class: 'plain', onclick: () => location.reload() }, 'Try again')),
  );
}
