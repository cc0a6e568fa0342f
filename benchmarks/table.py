"""Writes benchmarks/results.jsonl as Markdown to docs/benchmarks.md.

The goals go between `<!-- benchmarks:goals -->` and `<!-- benchmarks:end -->`, all figures between
`<!-- benchmarks:all -->` and `<!-- benchmarks:end -->`.
"""

import argparse
import pathlib
import re

from benchmarks import harness
from benchmarks.__main__ import BENCHMARKS

FILE = harness.ROOT / 'docs' / 'benchmarks.md'
_NO_RESULTS = {'table', 'augment_parity', 'timm_parity'}  # they only print


def in_order(lines):
  """The results in the order of BENCHMARKS."""
  order = list(BENCHMARKS)
  return sorted(lines, key=lambda line: order.index(line['benchmark']))


def goals(lines):
  """Markdown: one row per goal, and one for each benchmark that was never run."""
  rows = [['what', 'goal', 'found', '', 'command']]
  for line in lines:
    rows += [
      [
        f'{line["case"]}: {goal["what"]}',
        goal['goal'],
        harness.digits(goal['found']),
        'met' if goal['met'] else '**not met**',
        f'`python -m benchmarks {line["benchmark"]}`',
      ]
      for goal in line['goals']
    ]
  rows += [
    [text, '', 'not run', '', f'`python -m benchmarks {name}`']
    for name, text in BENCHMARKS.items()
    if name not in _NO_RESULTS and name not in {line['benchmark'] for line in lines}
  ]
  return _markdown(rows)


def everything(lines):
  """Markdown: a section with a table for each case."""
  return '\n\n'.join(_section(line) for line in lines)


def _section(line):
  shown = [
    key for key in line['show'] if any(key in figures for figures in line['alternatives'].values())
  ]
  rows = [[line.get('unit', ''), *(text for key in shown for text in (key, 'ratio'))]]
  for name, figures in line['alternatives'].items():
    cells = [name]
    for key in shown:
      summary = figures.get(key, {})
      cells += [_cell(summary), _cell(summary.get('ratio'))]
    rows.append(cells)
  machine = line['machine']
  where = (
    f'{machine["cpu"]}, {machine["cores"]} cores, {machine["ram_gib"]} GiB, load '
    f'{machine["load"]} at the start'
  )
  versions = ', '.join(f'{name} {version}' for name, version in line['versions'].items())
  return '\n'.join(
    [
      f'### {line["benchmark"]}: {line["case"]}',
      '',
      _markdown(rows),
      '',
      *(f'{note}\n' for note in line['notes']),
      f'`{line["command"]}`, {line["time"]}, commit {line["commit"]}, median (min…max) of '
      f'{line["rounds"]} rounds; {where}; {versions}.',
    ]
  )


def _cell(spread):
  return harness.format_spread(spread) if spread else '–'


def _markdown(rows):
  rows = [[cell.replace('|', '/') for cell in row] for row in rows]
  rows.insert(1, ['---'] * len(rows[0]))
  return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)


def fill(path, parts):
  """Puts each text between its markers in a file; returns whether there were any."""
  text = path.read_text(encoding='utf-8')
  filled = text
  for name, part in parts.items():
    filled = re.sub(
      rf'(<!-- benchmarks:{name} -->).*?(<!-- benchmarks:end -->)',
      lambda found, part=part: f'{found[1]}\n{part}\n{found[2]}',
      filled,
      flags=re.DOTALL,
    )
  if filled != text:
    path.write_text(filled, encoding='utf-8')
  return filled != text


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--results', type=pathlib.Path, default=harness.RESULTS)
  options = parser.parse_args()
  lines = in_order(harness.read_results(options.results).values())
  parts = {'goals': goals(lines), 'all': everything(lines)}
  if fill(FILE, parts):
    print(f'written to {FILE}')
