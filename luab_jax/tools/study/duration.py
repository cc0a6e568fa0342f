"""Estimates how long the runs of a study will take, before the first of them is trained."""

import time
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from luab_jax.data import pipeline
from luab_jax.runtime import hosts, parallel
from luab_jax.train.experiment import Experiment
from luab_jax.train.state import init_state

# Steps that compile (the second one because its state comes from a step), and timed steps.
_WARM_UP, _STEPS = 2, 5
# Cost of evaluating an image, relative to training on it: no backward pass, but two views.
_EVALUATION = 0.7


def announce(missing: Sequence[ConfigDict], number: int) -> None:
  """Times a few steps of each network, and prints the number of runs and how long they will take.

  Args:
    missing: configs of the runs to train, in order.
    number: total number of runs in the study.
  """
  say = print if hosts.is_main_host() else lambda *args, **kwargs: None
  done = number - len(missing)
  kept = f', {done} {"is" if done == 1 else "are"} done' * bool(done)
  say(f'{len(missing)} of {number} runs to train{kept}. Timing a few steps …', flush=True)
  first = {config.model.name: config for config in reversed(missing)}
  seconds = {name: _run_seconds(Experiment(config)) for name, config in first.items()}
  total = sum(seconds[config.model.name] for config in missing)
  each = ', '.join(f'{describe(value)} per run of {name}' for name, value in seconds.items())
  say(f'Roughly {describe(total)} in all ({each}, with evaluation).', flush=True)


def _run_seconds(experiment: Experiment) -> float:
  images = sum(experiment.splits.num_examples().values())
  start, step = _measure(experiment)
  return start + step * (
    experiment.total_steps + _EVALUATION * images / experiment.config.batch_size
  )


def _measure(experiment: Experiment) -> tuple[float, float]:
  """(seconds of compilation and warm-up, seconds per step)."""
  config = experiment.config
  state = parallel.replicate(
    init_state(
      experiment.model,
      experiment.optimizer,
      seed=config.seed,
      image_size=config.data.image_size,
      ema=bool(config.optimizer.ema_decay),
    )
  )
  batches = parallel.prefetch(
    iter(pipeline.train_batches(config.data, experiment.spec, experiment.rows, seed=config.seed))
  )
  step = parallel.map_step(experiment.train_step, donate_state=True)
  times = [time.perf_counter()]
  for count in (_WARM_UP, _STEPS):
    for _ in range(count):
      state, sums = step(state, next(batches))
    jax.block_until_ready(sums)
    times.append(time.perf_counter())
  return times[1] - times[0], (times[2] - times[1]) / _STEPS


def describe(seconds: float) -> str:
  """'40 s', '12 min', '3 h 20 min', '4 days'."""
  minutes = seconds / 60
  if minutes < 2:
    return f'{seconds:.0f} s'
  if minutes < 60:
    return f'{minutes:.0f} min'
  if minutes < 48 * 60:
    return f'{int(minutes // 60)} h {int(minutes % 60)} min'
  return f'{minutes / 60 / 24:.0f} days'
