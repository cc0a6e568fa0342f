"""The one-line description of a run, and summary.json: its results, duration and machine."""

import contextlib
import json
import pathlib
import platform
from typing import Any

import jax

from luab_jax.runtime import hosts
from luab_jax.runtime.workdir import write_json
from luab_jax.train.experiment import Experiment, Results


def describe(experiment: Experiment, start: int) -> str:
  """One line: model, data, steps and devices of a run that starts or continues at step `start`."""
  config, device = experiment.config, jax.devices()[0]
  begin = f'continues at step {start} of' if start else 'starts:'
  return (
    f'{config.model.name} ({experiment.num_params:,} parameters), {config.model.head} head on '
    f'{config.data.name}; {begin} {experiment.total_steps} steps of {config.batch_size} images on '
    f'{jax.device_count()} {device.device_kind} in {jax.process_count()} process(es)'
  )


def write_summary(
  experiment: Experiment,
  workdir: pathlib.Path,
  step: int,
  results: Results,
  *,
  seconds: float,
  steps: int,
  ms_per_step: float | None = None,
) -> dict[str, Any]:
  """Returns the summary of a run; the main host writes it to summary.json.

  Args:
    experiment, workdir: of the run.
    step, results: of the evaluation, {split: metrics}.
    seconds, steps: duration of this start, and the number of steps it trained.
    ms_per_step: of this start, None if unknown.
  """
  path = workdir / 'summary.json'
  if not steps:  # nothing was trained now: an earlier measurement stays valid
    with contextlib.suppress(OSError, ValueError):  # the file is missing or damaged
      ms_per_step = json.loads(path.read_text(encoding='utf-8')).get('ms_per_step')
  summary = {
    'step': step,
    'total_steps': experiment.total_steps,
    'parameters': experiment.num_params,
    'results': results,
    'not_prepared': experiment.robustness.missing,
    'seconds_in_this_start': round(seconds, 1),
    'steps_in_this_start': steps,
    'ms_per_step': ms_per_step,
    'machine': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'versions': {**experiment.project, 'python': platform.python_version(), 'jax': jax.__version__},
    'contents': experiment.contents,
  }
  if hosts.is_main_host():
    write_json(path, summary)
  return summary
