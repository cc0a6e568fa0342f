"""Overrides on the command line: malformed ones get a one-line error with the remedy."""

import pytest

from configs import quickstart
from luab_jax.errors import UserError
from luab_jax.tools import overrides


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--config.batch-size=3'], "the config has no key 'batch-size'; did you mean batch_size?"),
    (['--config.Batch_Size=3'], 'did you mean batch_size?'),
    (['--config.batch size=3'], "the config has no key 'batch size'; did you mean batch_size?"),
    (['--config.batch_size[0]=3'], 'did you mean batch_size?'),
    (['--config.batch_size:3'], 'did you mean batch_size?'),
    (['--config..batch_size=3'], 'did you mean batch_size?'),
    (['--config.=3'], "the config has no key ''; --help_config lists them all"),
    (['--config.batch_size'], '--config.batch_size needs a value, as in --config.batch_size=64'),
    (['--config.batch_size', '--mode=eval'], 'needs a value'),
    (['--config.data.name', '--workdir=x'], 'needs a value, as in --config.data.name=imagenet_ab/'),
    (['--config.batch_size='], '--config.batch_size=: batch_size is a whole number'),
    (['--config.batch_size=3.5'], '=3.5: batch_size is a whole number, as in --config.batch_size='),
    (['--config.batch_size', '3.5'], 'batch_size is a whole number'),
    (['--config.batch_size=(3,4)'], 'batch_size is a whole number'),
    (['--config.optimizer.learning_rate=0,1'], 'is a number, as in --config.optimizer.learning_ra'),
    (['--config.data.flip=2'], 'data.flip is true or false'),
    (['--noconfig.batch_size'], "--noconfig.batch_size: 'no' is for keys that are true or false"),
    (['--config.batch_size', '=3'], 'no space around ='),
    (['--config.data.name= x'], 'no space around ='),
    (['--config.batch_size==3'], 'no space around ='),
    (['--config.data.crop_scale=(a,b)'], 'crop_scale is a tuple of numbers, as in "--config.data.'),
    (['--config.data.crop_scale=(0.5,1'], 'data.crop_scale is a tuple'),
    (['--config.data.crop_scale[0]=0.3'], 'did you mean data.crop_scale'),
    (['--config.robustness.sets=(a, b'], 'robustness.sets is a tuple'),
    (['--config.optimizer=3'], "'optimizer' is a section of the config: set optimizer.beta1, "),
    (['--config.x.y.z=3'], "no key 'x.y.z' and no such section: there are data, "),
    (['--config.x.y.z'], "no key 'x.y.z' and no such section"),
    (['--config.data.eval_splits.x'], 'needs a value, as in --config.data.eval_splits.x=VALUE'),
    (['--config.data.eval_splits.x.y=3'], "no key 'data.eval_splits.x.y'"),
    (['--config.data.eval_splits=train'], 'data.eval_splits is a dict'),
  ],
)
def test_a_malformed_override_gets_one_line(arguments, message):
  with pytest.raises(UserError) as error:
    overrides.check(arguments, quickstart.get_config())
  assert message in str(error.value) and '\n' not in str(error.value)


def test_what_can_be_read_is_left_alone():
  config = quickstart.get_config()
  before = config.to_dict()
  overrides.check(
    [
      '--config.batch_size=3',
      '--config.optimizer.learning_rate',
      '-1',
      '--config.data.flip',
      '--noconfig.data.antialias',
      '-config.seed=3',
      '--config.data.crop_scale=0.5,1',
      '--config.robustness.sets=imagenet_v2',
      "--config.data.eval_splits={'a': 'train'}",
      '--',
      '--config.batch_size=x',
    ],
    config,
  )
  assert config.to_dict() == before


def test_a_split_can_be_added():
  config = quickstart.get_config()
  overrides.check(['--config.data.eval_splits.new=train[:5%]'], config)
  assert set(config.data.eval_splits) == {*quickstart.get_config().data.eval_splits, 'new'}
  assert config.is_locked


@pytest.mark.parametrize(
  'flag', ['batch_size', 'config-batch_size', 'config_batch_size', 'config:batch_size']
)
def test_a_flag_that_does_not_exist(flag):
  keys = overrides.flatten(quickstart.get_config())
  assert overrides.suggest_flag('workdri', keys) == ''
  assert overrides.suggest_flag(flag, keys) == '; did you mean --config.batch_size?'
