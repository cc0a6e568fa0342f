"""Impossible studies: a one-line error before anything is trained."""

from types import SimpleNamespace

import pytest

from luab_jax.data.pipeline import dataset_spec
from luab_jax.errors import UserError
from luab_jax.tools.study import duration, study
from luab_jax.train import loop
from tests.tools.pretended_runs import tiny_study

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'seeds': 0}, 'study.seeds=0'),
    ({'spatial_point_weight': 0.0}, 'spatial_point_weight=0.0.*above 0'),
    ({'map_weight': 0.0}, 'map_weight=0.0.*above 0'),
    ({'map_loss': 'huge'}, 'arm linear_map: .*huge'),
    ({'arms': ('baseline', 'shuffled')}, "no arm 'shuffled': choose from baseline, luab_linear"),
    ({'unit': 'x_[0-9]+'}, 'has no group: put the part of the file name'),
    ({'unit': '(x'}, 'not a regular expression: missing'),
    ({'data_fractions': (0.0, 1.0)}, 'data_fractions=.0.0, 1.0.: 0.0 is not a fraction'),
    ({'byproduct_fractions': (10.0,)}, '10.0 is not a fraction between 0 and 1'),
    ({'data_fractions': ('half',)}, 'half is not a fraction between 0 and 1'),
  ],
)
def test_mistakes(synthetic_imagenet_ab, tmp_path, changes, message):
  with pytest.raises(UserError, match=message):
    study.run_study(tiny_study(synthetic_imagenet_ab, **changes), tmp_path)
  assert not list(tmp_path.iterdir())


def test_nothing_to_compare(synthetic_imagenet_ab, monkeypatch, tmp_path):
  config = tiny_study(synthetic_imagenet_ab)
  config.data.eval_splits = {'few': 'validation[:0]'}
  with pytest.raises(UserError, match='validation'):
    study.run_study(config, tmp_path)
  config.data.eval_splits = {}
  with pytest.raises(UserError, match='eval_splits is empty'):
    study.run_study(config, tmp_path)
  config.data.eval_splits = {'validation': 'validation'}
  spec = dataset_spec(config.data)._replace(num_classes=1)
  monkeypatch.setattr(study, 'Experiment', lambda config: SimpleNamespace(spec=spec))
  with pytest.raises(UserError, match='has a single class: every arm is always right'):
    study.run_study(config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_a_run_that_fails_is_named(synthetic_imagenet_ab, monkeypatch, tmp_path):
  def fail(config, workdir, *, verbose):
    raise UserError('step 2: the loss is nan')

  monkeypatch.setattr(loop, 'train_and_evaluate', fail)
  monkeypatch.setattr(duration, 'announce', lambda missing, number: None)  # it times steps
  with pytest.raises(UserError, match='^baseline/seed0: step 2: the loss is nan'):
    study.run_study(tiny_study(synthetic_imagenet_ab), tmp_path)
