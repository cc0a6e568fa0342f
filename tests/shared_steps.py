"""Runs of one test process share traced and compiled steps if nothing in their configs differs.

Tests start the same short run over and over, and tracing its steps takes longer than its training.
New processes, which tests start too, share nothing but the compilation cache.
"""

import functools
from collections.abc import Callable

from luab_jax.data.pipeline import EvalSplits
from luab_jax.runtime import parallel
from luab_jax.train import experiment


def share() -> None:
  """Makes all experiments and evaluations of this process share their steps."""
  for name in ('make_train_step', 'make_eval_step', 'make_localization_step'):
    setattr(experiment, name, _once_per_config(getattr(experiment, name)))
  parallel.map_step = functools.cache(parallel.map_step)
  start = EvalSplits.__init__
  views: dict[str, dict] = {}

  def shared_start(self: EvalSplits, *args, **kwargs) -> None:
    start(self, *args, **kwargs)
    self._views = views.setdefault(f'{self.data} {self.spec}', self._views)

  EvalSplits.__init__ = shared_start


def _once_per_config(make: Callable) -> Callable:
  made: dict[str, Callable] = {}

  def make_once(model, *args):
    # Functions (the optimizer and its schedules) follow from the config and the data set.
    key = str([model, *(value for value in args if not _is_made(value))])
    if key not in made:
      made[key] = make(model, *args)
    return made[key]

  return make_once


def _is_made(value) -> bool:
  return isinstance(value, tuple) and any(map(callable, value))
