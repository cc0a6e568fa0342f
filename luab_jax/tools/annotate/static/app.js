// The worker's path: consent, instructions, practice, pages, completion code. A reload at any point
// continues from what the server and the outbox hold.

import { Api } from './api.js';
import { Outbox } from './outbox.js';
import { Recorder } from './recorder.js';
import * as screens from './screens.js';
import { openStore } from './store.js';
import { Ui, el, shape } from './ui.js';

const study = JSON.parse(document.getElementById('study').textContent);
const task = await (study.task === 'grid' ? import('./grid.js') : import('./icons.js'));
const PLATFORMS = // parameters of Prolific and MTurk
  'PROLIFIC_PID STUDY_ID SESSION_ID workerId hitId assignmentId turkSubmitTo'.split(' ');
const TAKE_OVER = 150; // ms for another tab to store what it has not sent

// The token is in the fragment. Platforms add their parameters to the query, or after the token.
function readLink() {
  const [token, behind = ''] = location.hash.slice(1).split('?');
  const all = [...new URLSearchParams(location.search), ...new URLSearchParams(behind)];
  const given = all.filter(([name]) => PLATFORMS.includes(name));
  const platform = given.length ? Object.fromEntries(given) : null;
  return { token, platform, key: `luab_jax ${token} ${JSON.stringify(given)}` };
}

const link = readLink();
const ui = new Ui();
const tabs = new BroadcastChannel('luab_jax');
const random = crypto.getRandomValues(new Uint8Array(8));
const tab = [...random].map((byte) => byte.toString(16).padStart(2, '0')).join('');
const store = await openStore();
const kept = await store.session(link.key);
const api = new Api(kept ?? link.token);
const outbox = new Outbox(api, store, tab, {
  status: (word) => ui.status(word),
  moved: () => leave(() => screens.moved(ui)),
  refused: (error) => leave(() => stuck('This page cannot continue', error)),
});
const recorder = new Recorder(outbox);
let page = null; // the mounted task
let lease = null;

ui.reportImage = (slot) =>
  call('report', { lease: lease.lease, slot }).catch((error) => ui.toast(error.message));

function leave(show) {
  page?.destroy();
  page = null;
  recorder.end();
  show();
}

function stuck(heading, error) {
  screens.stuck(ui, study, heading, error.message || String(error));
}

// Repeats a call until the server answers.
async function call(path, body) {
  for (let delay = 500; ; delay = Math.min(2 * delay, 10_000)) {
    try {
      const answer = await api.post(path, body);
      outbox.show();
      return answer;
    } catch (error) {
      if (!error.passing) throw error;
      ui.status(error.word === 'full' ? 'full' : 'offline');
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }
}

async function agree() {
  const { platform } = link;
  const preview = platform?.assignmentId === 'ASSIGNMENT_ID_NOT_AVAILABLE';
  await screens.consent(ui, study, { preview, platform });
  const pointer = matchMedia('(pointer: coarse)').matches ? 'coarse' : 'fine';
  const session = await call('session', { consent: true, pointer, platform });
  api.token = session.token;
  await store.keepSession(link.key, session.token);
}

// Another tab of this session stops, and stores what it has not sent.
function takeOver() {
  return new Promise((resolve) => {
    setTimeout(resolve, TAKE_OVER);
    tabs.addEventListener('message', ({ data }) => data === `released ${api.token}` && resolve());
    tabs.postMessage(`taking ${api.token}`);
  });
}

tabs.addEventListener('message', async ({ data }) => {
  if (data !== `taking ${api.token}` || outbox.session === null) return;
  leave(() => screens.moved(ui));
  await outbox.stop();
  tabs.postMessage(`released ${api.token}`);
});

async function start() {
  if (!link.token) {
    const text = 'The link to this page is incomplete: the part from “#” on is missing.';
    return screens.stuck(ui, study, 'This link is incomplete', text);
  }
  try {
    if (kept) await takeOver();
    else await agree();
    await outbox.open(api.token);
    await outbox.flush();
    await next();
  } catch (error) {
    if (error.status !== 401) return stuck('This page cannot continue', error);
    if (!kept) return stuck('This link does not work', error);
    await store.keepSession(link.key, null);
    location.reload();
  }
}

async function next() {
  const answer = await call('lease', { tab });
  if (answer.done) {
    screens.done(ui, study, answer);
    return ui.main.append(el('footer', {}, withdrawLink()));
  }
  if (answer.wait) {
    await screens.wait(ui, answer.wait);
    return next();
  }
  lease = answer;
  if (lease.kind === 'practice' && lease.next_seq === 0)
    await screens.instructions(ui, task.instructions(study));
  await recorder.begin(lease.lease, lease.next_seq);
  await outbox.fill(lease.missing);
  show();
}

function show() {
  const practice = lease.kind === 'practice';
  const where = practice ? 'Practice' : `Page ${lease.number} of ${lease.of}`;
  document.title = `${where} · ${study.title}`;
  document.body.classList.add('working');
  const root = el('div', { class: 'work' });
  const submit = el('button', { class: 'primary large', id: 'submit', onclick: handIn }, 'Submit');
  const end = el('div', { class: 'buttons end' }, submit);
  ui.show(head(where), root, end, foot());
  page = task.mount(root, lease, study, recorder, ui);
}

function head(where) {
  const { class: asked } = lease;
  const question = asked
    ? ['Which images show ', el('strong', {}, asked.name), '?']
    : ['What is in this image?'];
  const definition = asked?.definition && el('p', { class: 'definition' }, asked.definition);
  const strip = asked?.examples?.length
    ? asked.examples.map((src) => el('img', { src, alt: 'Example' }))
    : null;
  const tool = (label, onclick, ...inside) =>
    el('button', { class: 'plain small', 'aria-label': label, onclick }, ...inside);
  const word = el('span', { class: 'label' }, 'Undo');
  const undo = tool('Undo', () => page?.undo(), shape('undo'), word);
  const help = tool('Keys', sheet, '?');
  const share = lease.of ? (lease.number - 1) / lease.of : 0;
  const bar = el('div', { class: 'bar' });
  bar.style.setProperty('--share', lease.kind === 'practice' ? 0 : share);
  const header = el(
    'header',
    { class: 'head' },
    el('div', { class: 'line' },
      el('span', { class: 'where' }, where), ui.countNode, ui.statusNode,
      el('span', { class: 'tools' }, undo, help)),
    el('div', { class: 'asked' },
      el('div', {}, el('h1', { class: 'question' }, ...question), definition || null),
      strip && el('div', { class: 'examples' }, strip)),
    bar,
  );
  new ResizeObserver(() =>
    document.documentElement.style.setProperty('--head', `${header.offsetHeight}px`),
  ).observe(header);
  return header;
}

function withdrawLink() {
  return el('button', { class: 'link', onclick: withdrawing }, 'Withdraw');
}

function foot() {
  const again = el('button', { class: 'link', onclick: () => sheet() }, 'Instructions');
  const { contact } = study.consent;
  const questions = contact ? el('span', {}, `Questions: ${contact}`) : null;
  return el('footer', {}, again, withdrawLink(), questions);
}

function sheet() {
  if (!page || document.querySelector('dialog')) return;
  const more = task.instructions(study).map(({ heading, items }) => [
    el('h2', {}, heading),
    el('ul', {}, items.map((item) => el('li', {}, item))),
  ]);
  ui.sheet(page.keys, ...more.flat());
}

async function withdrawing() {
  const text = 'Everything you did in this study will be deleted. This cannot be undone.';
  const choice = { heading: 'Withdraw?', yes: 'Delete and stop', no: 'Go back', danger: true };
  if (!(await ui.confirm(text, choice))) return;
  leave(() => ui.card('Deleting…', el('p', {}, 'Please leave this page open for a moment.')));
  await outbox.forget();
  try {
    await call('withdraw', {});
  } catch (error) {
    if (error.status !== 401) return stuck('Not deleted yet', error); // 401: already deleted
  }
  await store.keepSession(link.key, null);
  screens.withdrawn(ui);
}

async function practised() {
  const { ok, text } = page.feedback(lease.answers);
  await ui.confirm(text, {
    heading: ok ? 'Well done' : 'Nearly there',
    yes: ok ? 'Start with page 1' : 'Look again',
    no: null,
  });
  return ok;
}

async function handIn() {
  const verdict = page.check();
  if (verdict.refuse) return ui.toast(verdict.refuse);
  if (verdict.ask && !(await ui.confirm(verdict.ask, { yes: 'Yes, submit' }))) return;
  if (lease.kind === 'practice' && !(await practised())) return;
  const state = page.state();
  page.destroy();
  page = null;
  recorder.end();
  ui.main.inert = true;
  document.getElementById('submit').textContent = 'Sending…';
  try {
    await submit(state);
    await next();
  } catch (error) {
    if (error.word === 'moved') return screens.moved(ui);
    if (error.word === 'state' || error.word === 'done') return location.reload();
    stuck('This page could not be submitted', error);
  }
}

async function submit(state) {
  const last_seq = await outbox.seal();
  const body = { lease: lease.lease, tab, last_seq, ...state };
  try {
    await call('submit', body);
  } catch (error) {
    if (error.word !== 'missing') throw error;
    await outbox.fill(error.answer.missing);
    await call('submit', body);
  }
}

addEventListener('keydown', (event) => {
  if (!page || document.querySelector('dialog') || event.target.matches('input')) return;
  const commanded = (event.ctrlKey || event.metaKey) && !event.shiftKey;
  if (commanded && event.key.toLowerCase() === 'z') page.undo();
  else if (event.key === '?') sheet();
  else return;
  event.preventDefault();
});

start();
