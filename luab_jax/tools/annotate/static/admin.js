// The researcher's page: the token, views chosen by the fragment of the address, and live updates.

import { el } from './ui.js';
import { overview } from './admin_overview.js';
import { pageList, pageView, workerList, workerView } from './admin_lists.js';
import { answerView } from './admin_answer.js';

const POLL_MS = 4000;
const VIEWS = {
  '': overview, workers: workerList, worker: workerView, pages: pageList, page: pageView,
  answer: answerView,
};
const TABS = [['', 'Overview'], ['workers', 'Workers'], ['pages', 'Pages']];
const TAB_OF = { worker: 'workers', page: 'pages', answer: 'pages' };

const main = document.getElementById('view');
const live = document.getElementById('live');
let shown = null; // { hash, update(status) } of the view; some have no update
let status = null;
let timer = 0;

const token = () => location.hash.slice(1).split('/')[0];

/** The address of a view, with the token, so that links can be opened in another tab. */
const link = (...parts) => `#${[token(), ...parts].join('/')}`;

/** Resolves to the response; rejects with an Error whose message can be shown to people. */
async function api(path, body) {
  let response;
  try {
    response = await fetch(`/admin/api/${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        Authorization: `Bearer ${token()}`,
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store',
    });
  } catch {
    throw new Error('The server does not respond. Is “serve” still running?');
  }
  if (response.status === 401) {
    throw new Error('This is not the admin link of the study: open the one that “serve” printed.');
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok || answer === null) {
    throw new Error(answer?.message ?? `The server failed (${response.status}).`);
  }
  return answer;
}

function failure(error, again) {
  return el('div', { class: 'card problem', role: 'alert' }, el('p', {}, error.message),
    el('button', { class: 'plain', onclick: again }, 'Try again'));
}

/** Opens the view that the address names. */
async function open() {
  const hash = location.hash;
  const [name = '', ...rest] = hash.slice(1).split('/').slice(1);
  shown = { hash };
  const current = TAB_OF[name] ?? name;
  document.getElementById('nav').replaceChildren(...TABS.map(([view, label]) => el('a', {
    href: link(view).replace(/\/$/, ''), 'aria-current': view === current ? 'page' : null,
  }, label)));
  try {
    status = await api('status');
    document.getElementById('title').textContent = status.title;
    document.title = `${status.title} · admin`;
    const view = await (VIEWS[name] ?? overview)({ api, link, status, open }, ...rest);
    if (location.hash !== hash) return; // the user has moved on
    shown = { hash, ...view };
    main.replaceChildren(view.element);
    window.scrollTo(0, 0);
    (main.querySelector('.stage') ?? main).focus({ preventScroll: true });
    say(true);
  } catch (error) {
    if (location.hash === hash) main.replaceChildren(failure(error, open));
  }
  poll();
}

function say(ok) {
  live.textContent = ok ? 'live' : 'not connected';
  live.className = ok ? 'live' : 'lost';
}

/** Polls with one small request every few seconds, but not while the page is hidden. */
function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  timer = setTimeout(async () => {
    const { hash, update } = shown ?? {};
    try {
      const now = await api('status');
      const changed = JSON.stringify(now) !== JSON.stringify(status);
      status = now;
      say(true);
      if (changed && hash === shown?.hash) await update?.(now);
    } catch {
      say(false);
    }
    poll();
  }, POLL_MS);
}

window.addEventListener('hashchange', open);
document.addEventListener('visibilitychange', poll);
open();
