"""metrics.jsonl: a line {step, split, **metrics} per training interval and evaluated split."""

import json
import os
import pathlib
from typing import Any

from luab_jax.errors import UserError
from luab_jax.runtime.workdir import write_text

Metrics = dict[str, Any]


def read_lines(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """All lines of a run's metrics.jsonl as dicts, oldest first; [] if there is none yet.

  Raises UserError if the file exists but cannot be read.
  """
  path = pathlib.Path(workdir) / 'metrics.jsonl'
  try:
    return _complete_lines(path.read_text(encoding='utf-8', errors='replace'))
  except FileNotFoundError:
    return []
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error}') from error


def all_results(workdir: str | os.PathLike) -> dict[int, dict[str, Metrics]]:
  """{step: {split: metrics}} of the evaluations in metrics.jsonl."""
  results: dict[int, dict[str, Metrics]] = {}
  for line in read_lines(workdir):
    if line['split'] != 'train':
      metrics = {k: v for k, v in line.items() if k not in ('step', 'split')}
      results.setdefault(line['step'], {})[line['split']] = metrics
  return results


def results_at(workdir: str | os.PathLike, step: int) -> dict[str, Metrics]:
  """{split: metrics} of one step's evaluation; {} if there was none."""
  return all_results(workdir).get(step, {})


def replace_lines(workdir: str | os.PathLike, step: int, results: dict[str, Metrics]) -> None:
  """Writes {split: metrics} of a step to metrics.jsonl, replacing its lines of those splits."""
  path = pathlib.Path(workdir) / 'metrics.jsonl'
  lines = [
    line for line in read_lines(workdir) if line['step'] != step or line['split'] not in results
  ]
  lines += [{'step': step, 'split': split, **metrics} for split, metrics in results.items()]
  _write(path, lines)


def repair(path: pathlib.Path, start_step: int, drop_evaluation: bool, unwritten: str) -> None:
  """Drops lines of steps that will be repeated and a half-written last line; adds `unwritten`.

  `drop_evaluation` also drops the results of `start_step`. Raises UserError if the file cannot be
  read or written.
  """
  lines = read_lines(path.parent)
  known = {(line['step'], line['split']) for line in lines}
  # In file order: lines unwritten at the checkpoint may have been written after it, at least some.
  lines += [
    line for line in _complete_lines(unwritten) if (line['step'], line['split']) not in known
  ]
  _write(
    path,
    [
      line
      for line in lines
      if line['step'] < start_step
      or (line['step'] == start_step and (line['split'] == 'train' or not drop_evaluation))
    ],
  )


def _complete_lines(text: str) -> list[dict[str, Any]]:
  """The lines as dicts, up to one that was cut off when the process was killed."""
  lines = []
  for line in text.splitlines():
    try:
      content = json.loads(line)
      lines.append({'step': content['step'], 'split': content['split'], **content})
    except (json.JSONDecodeError, KeyError, TypeError):
      break
  return lines


def _write(path: pathlib.Path, lines: list[dict[str, Any]]) -> None:
  write_text(path, ''.join(json.dumps(line) + '\n' for line in lines))
