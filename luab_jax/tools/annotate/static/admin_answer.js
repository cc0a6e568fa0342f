// One answer: replay, what stands out, verdict.

import { FLAGS, moment, spell } from './format.js';
import { el } from './ui.js';
import { Player } from './replay.js';

const of = (count, all) => (all ? `${count} of ${all}` : null);

/** quality.Features for people: [[label, value]], without what does not apply. */
function measured(f, task) {
  const thing = task === 'grid' ? 'images' : 'icons';
  return [
    ['Visible', spell(f.visible_ms)],
    ['Active', spell(f.active_ms)],
    [task === 'grid' ? 'Selected' : 'Icons on the image',
      task === 'grid' ? of(f.chosen, f.images) : f.chosen],
    ['Gold found', of(f.gold_found, f.gold_positive)],
    ['False alarms', of(f.gold_false, f.gold_negative)],
    [`Chosen ${thing} shared with other answers`, of(f.agreed, f.compared)],
    ['Clicks without a preceding movement', of(f.unmoved_clicks, f.mouse_clicks)],
    ['Straight movements', of(f.straight_movements, f.movements)],
    ['Points in known boxes', of(f.in_box, f.boxed)],
  ].filter(([, value]) => value !== null);
}

function facts(answer, task) {
  if (!answer.features) return [el('p', { class: 'quiet' }, 'Not measured yet.')];
  return [
    answer.flags.length
      ? el('ul', { class: 'found' }, answer.flags.map((word) =>
        el('li', {}, el('b', {}, word.replaceAll('_', ' ')), `: ${FLAGS[word]}`)))
      : el('p', { class: 'quiet' }, 'No flags.'),
    el('dl', { class: 'measured' }, measured(answer.features, task).map(([what, value]) => [
      el('dt', {}, what), el('dd', {}, String(value))]).flat()),
  ];
}

export async function answerView({ api, link, status }, id) {
  const answer = await api(`answers/${id}`);
  const { classes } = await api('classes');
  const player = new Player(answer, classes);
  const message = el('p', { role: 'status', class: 'quiet' });
  const buttons = el('div', { class: 'row' });
  const judge = async (verdict) => {
    try {
      await api(`answers/${id}/verdict`, { verdict });
      answer.verdict = verdict;
      message.textContent = verdict === 'rejected' ? 'Rejected: the page is assigned again.'
        : verdict === 'accepted' ? 'Accepted.' : 'Verdict withdrawn.';
    } catch (error) {
      message.textContent = error.message;
    }
    show();
  };
  const button = (verdict, label, kind) => el('button', {
    class: `plain small ${kind}`, 'aria-pressed': String(answer.verdict === verdict),
    onclick: () => judge(answer.verdict === verdict ? null : verdict),
  }, label);
  const show = () => buttons.replaceChildren(
    button('accepted', 'Accept', 'accept'), button('rejected', 'Reject', 'reject'),
    answer.next ? el('a', { href: link('answer', answer.next) }, 'Next to judge →')
      : el('span', { class: 'quiet' }, 'No other answer is waiting for a verdict.'));
  show();
  return {
    element: el('div', {},
      el('h1', {}, answer.title, el('small', {}, ' by ',
        el('a', { href: link('worker', answer.worker) }, answer.worker),
        `, ${moment(answer.submitted)}, `,
        el('a', { href: link('page', answer.page) }, 'page'))),
      el('div', { class: 'verdicts' }, buttons, message),
      el('div', { class: 'review' }, player.element,
        el('aside', {}, el('h2', {}, 'What stands out'), facts(answer, status.task)))),
  };
}
