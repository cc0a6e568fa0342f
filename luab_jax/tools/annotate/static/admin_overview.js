// Progress, pay, links and export.

import { count, moment, plural, spell } from './format.js';
import { answerTable } from './admin_lists.js';
import { el } from './ui.js';

const PAY = 'pay per page'; // localStorage

function fact(label, value, note = '') {
  return el('div', { class: 'fact' }, el('dt', {}, label), el('dd', {}, value,
    note && el('small', {}, note)));
}

function progress({ pages, answers, active, end }) {
  const wanted = answers.done + answers.left;
  const share = wanted ? answers.done / wanted : 0;
  let pace = 'Nobody has answered in the last hour, so there is no estimate of the end.';
  if (!answers.left) pace = 'All answers are in.';
  else if (end) pace = `Expected end at the pace of the last hour: ${moment(end)}.`;
  return el('section', { class: 'card' },
    el('h2', {}, el('b', {}, count(answers.done)), ` of ${plural(wanted, 'answer')}`),
    el('progress', { max: '1', value: share, 'aria-label': 'Answers' }),
    el('p', { class: 'quiet' }, pace),
    el('dl', { class: 'facts' },
      fact('Pages done', count(pages.done), `of ${count(pages.all)}`),
      fact('Pages in progress', count(pages.started)),
      fact('Pages left', count(pages.all - pages.done - pages.started)),
      fact('Working now', count(active), active === 1 ? 'worker' : 'workers'),
      fact('Rejected', count(answers.rejected), 'assigned again')));
}

function pay() {
  const field = el('input', {
    type: 'number', min: '0', step: 'any', inputmode: 'decimal', id: 'pay',
    value: localStorage.getItem(PAY) ?? '', placeholder: '0.50',
  });
  const result = el('output', { for: 'pay', class: 'pay' });
  const time = el('dl', { class: 'facts one' });
  let median = null;
  const show = () => {
    localStorage.setItem(PAY, field.value);
    const hourly = Number(field.value) * 3600000 / median;
    result.textContent = field.value && median ? `${hourly.toFixed(2)} per hour` : '–';
    time.replaceChildren(fact('Median time per page', median ? spell(median) : '–',
      median ? 'with the page visible' : ''));
  };
  field.addEventListener('input', show);
  const element = el('section', { class: 'card' }, el('h2', {}, 'Time and pay'), time,
    el('p', { class: 'row' }, el('label', { for: 'pay' }, 'Pay per page'), field,
      el('span', {}, 'means'), result));
  const update = (ms) => {
    median = ms;
    show();
  };
  return { element, update };
}

function copyRow(url, name) {
  const shown = el('code', { class: 'url', tabindex: '0' }, url);
  const button = el('button', { class: 'plain small', onclick: async () => {
    getSelection().selectAllChildren(shown);
    // Pages without TLS have no clipboard API: execCommand copies the selected link.
    if (navigator.clipboard) await navigator.clipboard.writeText(url);
    else document.execCommand('copy');
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  } }, 'Copy');
  return el('li', { class: 'row' }, name ? el('span', { class: 'quiet' }, name) : null, shown,
    button);
}

function links({ everyone, personal }) {
  const own = Object.entries(personal);
  return el('section', { class: 'card' }, el('h2', {}, 'Links for workers'),
    el('p', { class: 'quiet' },
      'The link for everyone: each browser that consents becomes a worker.'),
    el('ul', { class: 'links' }, copyRow(everyone, '')),
    own.length ? el('details', {}, el('summary', {}, plural(own.length, 'personal link')),
      el('ul', { class: 'links' }, own.map(([worker, url]) => copyRow(url, worker)))) : null);
}

function exporter(api) {
  const result = el('div', { role: 'status' });
  const button = el('button', { class: 'primary', onclick: async () => {
    button.disabled = true;
    result.replaceChildren(el('p', { class: 'quiet' }, 'Exporting … this may take minutes.'));
    try {
      const { folder, text } = await api('export', {});
      result.replaceChildren(el('p', {}, 'Written to ', el('code', {}, folder)),
        el('pre', { tabindex: '0' }, text));
    } catch (error) {
      result.replaceChildren(el('p', { class: 'problem' }, error.message));
    }
    button.disabled = false;
  } }, 'Export');
  return el('section', { class: 'card' }, el('h2', {}, 'Export'),
    el('p', { class: 'quiet' }, 'Writes all answers except rejected ones, in the format of the ',
      'release, to a folder next to the study.'), button, result);
}

export async function overview(context) {
  const { api, status } = context;
  const known = await api('links');
  const top = el('div');
  const timing = pay();
  const latest = el('div');
  const update = async (now) => {
    const nobody = !now.answers.done && !now.answers.rejected && !now.active;
    top.replaceChildren(
      nobody ? el('section', { class: 'card hello' }, el('h2', {}, 'Nobody has answered yet'),
        el('p', {}, 'Send workers the link for everyone. This page updates by itself.')) : '',
      progress(now),
      now.reported.length ? el('section', { class: 'card warn' },
        el('h2', {}, `${plural(now.reported.length, 'image')} reported as broken`),
        el('ul', {}, now.reported.map((path) => el('li', {}, el('code', {}, path))))) : '');
    timing.update(now.page_ms);
    const answers = await api('answers');
    latest.replaceChildren(answers.length ? el('section', { class: 'card' },
      el('h2', {}, 'Latest answers'), answerTable(context, answers, ['page', 'worker'])) : '');
  };
  await update(status);
  const side = el('div', {}, timing.element, links(known));
  const columns = el('div', { class: 'columns' }, top, side);
  return { update, element: el('div', { class: 'overview' }, columns, latest, exporter(api)) };
}
