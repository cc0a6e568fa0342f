// Workers, pages, and one of each.

import { FLAGS, ago, count, moment, plural, spell } from './format.js';
import { el } from './ui.js';
import { heatFigure } from './heat.js';

const flagChips = (flags) => flags.map((word) =>
  el('span', { class: 'flag', title: FLAGS[word] }, word.replaceAll('_', ' ')));

/** A table whose rows become cards on a phone; `columns` [[head, class, cell(row)]]. */
function table(columns, rows) {
  return el('table', { class: 'list' },
    el('thead', {}, el('tr', {}, columns.map(([head, kind]) => el('th', { class: kind }, head)))),
    el('tbody', {}, rows.map((row) => el('tr', {}, columns.map(([head, kind, cell]) =>
      el('td', { class: kind, 'data-head': head }, cell(row)))))));
}

const time = (ms) => (ms ? spell(ms) : '–');

const nothing = (text) => el('p', { class: 'card quiet' }, text);

export async function workerList({ api, link }) {
  const element = el('div');
  const columns = [
    ['Worker', 'id', (row) => el('a', { href: link('worker', row.worker) }, row.worker)],
    ['Answers', 'number', (row) => count(row.answers)],
    ['Judged', 'number', (row) => count(row.judged)],
    ['Rejected', 'number', (row) => count(row.rejected)],
    ['Time per page', 'number', (row) => time(row.page_ms)],
    ['Code', 'id', (row) => row.codes || '–'],
    ['Last seen', '', (row) => (row.seen ? ago(row.seen) : '–')],
    ['Flags', 'flags', (row) => flagChips(row.flags)],
  ];
  const update = async () => {
    const workers = await api('workers');
    element.replaceChildren(el('h1', {}, plural(workers.length, 'worker')),
      workers.length ? table(columns, workers) : nothing('Nobody has consented yet.'));
  };
  await update();
  return { element, update };
}

export function answerTable({ link }, answers, columns) {
  const all = {
    page: ['Page', '', (row) => el('a', { href: link('page', row.page) }, row.title)],
    worker: ['Worker', 'id', (row) => el('a', { href: link('worker', row.worker) }, row.worker)],
  };
  return table([
    ['Answer', '', (row) => el('a', { href: link('answer', row.lease) }, 'Replay')],
    ...columns.map((name) => all[name]),
    ['Submitted', '', (row) => moment(row.submitted, '')],
    ['Time', 'number', (row) => time(row.page_ms)],
    ['Verdict', '', (row) => el('span', { class: `verdict ${row.verdict ?? ''}` },
      row.verdict ?? '–')],
    ['Flags', 'flags', (row) => flagChips(row.flags)],
  ], answers);
}

export async function workerView(context, id) {
  const element = el('div');
  const update = async () => {
    const answers = await context.api(`workers/${id}`);
    element.replaceChildren(el('h1', {}, 'Worker ', el('code', {}, id)),
      answers.length ? answerTable(context, answers, ['page'])
        : nothing('No pages submitted yet.'));
  };
  await update();
  return { element, update };
}

function pageState(row, wanted) {
  if (row.answers >= wanted) return el('span', { class: 'verdict accepted' }, 'done');
  return row.answers || row.rejected ? 'in progress' : 'open';
}

export async function pageList({ api, link, status }) {
  const columns = [
    ['Page', 'id', (row) => el('a', { href: link('page', row.page) }, String(row.number))],
    ['Content', '', (row) => row.title],
    ['Images', 'number', (row) => count(row.images)],
    ['Answers', 'number', (row) => `${row.answers} / ${status.wanted}`],
    ['State', '', (row) => pageState(row, status.wanted)],
    ['Flags', 'flags', (row) => flagChips(row.flags)],
  ];
  let rows = [];
  const element = el('div');
  const show = () => element.replaceChildren(
    el('h1', {}, plural(status.pages.all, 'page')), table(columns, rows),
    rows.length < status.pages.all
      ? el('button', { class: 'plain', onclick: more },
        `Show more (${count(status.pages.all - rows.length)} left)`)
      : '');
  const more = async () => {
    rows = [...rows, ...await api(`pages?from=${rows.length}`)];
    show();
  };
  await more();
  const update = async () => {
    const first = await api('pages?from=0');
    rows = [...first, ...rows.slice(first.length)];
    show();
  };
  return { element, update };
}

export async function pageView(context, id) {
  const page = await context.api(`pages/${id}`);
  const { answers, bins } = page;
  const what = context.status.task === 'grid' ? 'click' : 'icon';
  const layers = { clicks: true, dwell: true };
  const most = Math.max(1, ...page.images.flatMap((image) => Object.values(image.dwell)));
  const figures = page.images.map((image) => heatFigure(image, bins, most, layers,
    `${image.slot + 1}. ${plural(image.clicks.length, what)}`
    + (image.gold === 1 ? ' · gold: yes' : '') + (image.gold === 0 ? ' · gold: no' : '')
    + (image.state === 'reported' ? ' · reported as broken' : '')));
  const box = (name, label) => el('label', {}, el('input', { type: 'checkbox', checked: true,
    onchange: (event) => {
      layers[name] = event.target.checked;
      figures.forEach(({ draw }) => draw());
    }}), label);
  return { element: el('div', {},
    el('h1', {}, `Page ${page.number}`, ': ', page.title),
    answers.length ? answerTable(context, answers, ['worker'])
      : nothing('Nobody has submitted this page yet.'),
    el('div', { class: 'row heading' }, el('h2', {}, 'Cursor and clicks'),
      box('clicks', what === 'click' ? 'Clicks' : 'Icons'), box('dwell', 'Cursor dwell time')),
    el('div', { class: page.images.length > 1 ? 'heats' : 'heats one' },
      figures.map(({ figure }) => figure))) };
}
