"""The robustness suite on small stand-ins in TFDS's own formats, against results by hand."""

import shutil

import jax
import ml_collections
import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs import quickstart
from luab_jax.data import pipeline, robustness_sets
from luab_jax.errors import UserError
from luab_jax.evaluate import robustness
from luab_jax.runtime import parallel
from tests import benchmark_sets
from tests.benchmark_sets import GreyModel, grey, labelled, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def spec(tmp_path_factory):
  """DatasetSpec of a model of ImageNet's 1000 classes."""
  info = tfds.builder('imagenet_a', data_dir=str(tmp_path_factory.mktemp('none'))).info
  names = info.features['label'].names
  return pipeline.DatasetSpec('imagenet_ab/ilsvrc2012', names, 1000, False, 1, {})


def _evaluate(spec, data_dir, *sets):
  options = ml_collections.ConfigDict({'sets': sets, 'data_dir': str(data_dir)})
  found = robustness.prepared(options, spec)
  config = quickstart.get_config()
  config.data.image_size, config.data.eval_resize = 16, 32
  model = GreyModel()
  variables = model.init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32), train=False)
  evaluator = robustness.SetEvaluator(
    model,
    parallel.replicate(variables),
    config.data,
    batch_size=8,
    progress=lambda batches, total, name: batches,
  )
  results = evaluator.evaluate(found.sources)
  assert results.keys() == robustness.split_names(found.sources)
  return results, found.missing


def test_every_example_counts_once_in_the_padded_last_batch(spec, tmp_path):
  # 11 images in batches of 8 on 8 devices: 3 correct, 2 more within the top 5.
  pairs = [(10, 40), (20, 80), (30, 120), (40, 161), (50, 202), *[(60, 500)] * 6]
  write('imagenet_sketch', 'test', labelled(pairs), tmp_path)
  results, missing = _evaluate(spec, tmp_path, 'imagenet_sketch')
  assert results == {'imagenet_sketch': {'examples': 11, 'top1': 3 / 11, 'top5': 5 / 11}}
  assert not missing


def test_predictions_are_among_the_classes_that_are_present(spec, tmp_path):
  # Over all classes grey 10 is class 40; among those present, 43 is nearest.
  names = ('imagenet_r', 'imagenet_a', 'imagenet_sketch')
  for name in names:
    write(name, 'test', labelled([(10, 43), (20, 80), (30, 43)]), tmp_path)
  results, _ = _evaluate(spec, tmp_path, *names)
  expected = {'imagenet_r': 2 / 3, 'imagenet_a': 2 / 3, 'imagenet_sketch': 1 / 3}
  assert {name: found['top1'] for name, found in results.items()} == pytest.approx(expected)


def test_real_counts_any_of_its_labels_and_drops_images_without(spec, tmp_path):
  labels = [(10, [7, 40]), (20, [80]), (30, [5, 6]), (40, [])]
  write(
    'imagenet2012_real',
    'validation',
    [
      {'image': grey(level), 'original_label': 0, 'real_label': right, 'file_name': f'{level}'}
      for level, right in labels
    ],
    tmp_path,
  )
  results, _ = _evaluate(spec, tmp_path, 'imagenet2012_real')
  assert results['imagenet2012_real']['examples'] == 3
  assert results['imagenet2012_real']['top1'] == pytest.approx(2 / 3)


def test_variants_are_reported_one_by_one(spec, tmp_path):
  write('imagenet_v2/topimages', 'test', labelled([(10, 40)]), tmp_path)
  write(
    'siscore/size',
    'test',
    [
      {'image_id': i, 'image': grey(10), 'label': label, 'dataset_label': 3}
      for i, label in enumerate([40, 41, 40, 40])
    ],
    tmp_path,
  )
  results, missing = _evaluate(spec, tmp_path, 'imagenet_v2', 'siscore', 'imagenet2012')
  assert results['imagenet_v2/topimages']['top1'] == 1
  assert results['siscore/size']['top1'] == 0.75
  assert missing['imagenet_v2'] == (
    'imagenet_v2/matched-frequency, imagenet_v2/threshold-0.7: '
    f'`tfds build imagenet_v2 --data_dir={tmp_path}`'
  )
  assert 'tfds build imagenet2012 --manual_dir=' in missing['imagenet2012']
  assert set(results) == {'imagenet_v2/topimages', 'siscore/size'}  # missing sets stop nothing


def _corrupted(right, names):
  """Input of `corrupted`: for corruption i at severity s, right(i, s) of the images are correct."""
  return {
    f'{name}_{s}': {'examples': 10, 'top1': right(i, s)}
    for i, name in enumerate(names)
    for s in robustness.SEVERITIES
  }


def test_corruption_error_is_one_for_alexnet_itself():
  names = (*robustness.ALEXNET_ERROR, *robustness.EXTRA_CORRUPTIONS)
  error = {**robustness.ALEXNET_ERROR, **dict.fromkeys(robustness.EXTRA_CORRUPTIONS, 0)}
  figures = robustness.corrupted(_corrupted(lambda i, s: 1 - error[names[i]] / 100, names))
  assert figures['mCE'] == pytest.approx(1)
  assert figures['top1'] == pytest.approx(1 - np.mean([*robustness.ALEXNET_ERROR.values()]) / 100)
  assert figures['top1_by_corruption']['saturate'] == 1  # shown, but in neither mean
  assert figures['examples'] == 950
  # Severities are averaged first: half of AlexNet's error on one of fifteen corruptions.
  half = robustness.corrupted(
    _corrupted(lambda i, s: 1 - error[names[i]] / 100 * ((s - 1) / 4 if i == 0 else 1), names)
  )
  assert half['mCE'] == pytest.approx(14.5 / 15)


def test_corruptions_that_are_not_there_leave_no_mean(spec, tmp_path):
  for severity in robustness.SEVERITIES:
    # The model sees the middle 16 of 32 pixels; only the whole image has its label's grey level.
    image = grey(0)
    image[8:24, 8:24] = 40
    image = np.kron(image, np.ones((7, 7, 1), np.uint8))  # 224 px
    write(
      f'imagenet2012_corrupted/fog_{severity}',
      'validation',
      [{'image': image, 'label': 40 if severity < 5 else 41, 'file_name': 'a'}],
      tmp_path,
    )
  write(
    'imagenet2012_corrupted/snow_1',
    'validation',
    [{'image': image, 'label': 40, 'file_name': 'a'}],
    tmp_path,
  )
  results, missing = _evaluate(spec, tmp_path, 'imagenet2012_corrupted')
  assert results['imagenet2012_corrupted'] == {
    'examples': 6,
    'top1_by_corruption': {'fog': pytest.approx(0.8)},
  }
  assert (
    'and 86 more: `tfds build imagenet2012_corrupted --manual_dir'
    in (missing['imagenet2012_corrupted'])
  )


def _write_imagenet9(builder, splits):
  builder.info.features['label'].names = [f'{i:02}_class' for i in range(9)]
  benchmark_sets.write_as(builder, splits)


def _imagenet9(data_dir):
  """Writes both configs: half of each image is foreground; classes of grey 20 to 59 are right."""
  from tfds_builders.backgrounds_challenge import backgrounds_challenge_dataset_builder as module

  def example(level, right, **more):
    return {
      'image': grey(level, (16, 16)),
      'label': 0,
      'right_labels': right,
      'file_name': 'a/b',
      **more,
    }

  dim, bright = list(range(80, 240)), list(range(240, 400))
  splits = {name: [example(30, dim)] for name in robustness.VARIATIONS}
  splits['mixed_rand'] = [example(30, dim), example(30, bright)]
  # Nine images, so that not every device gets a second one; black and grey 40.
  splits['only_bg_t'] = [example(0, dim)] * 8 + [example(40, bright)]
  _write_imagenet9(module.Builder(config='variations', data_dir=data_dir), splits)
  mask = np.zeros((16, 16, 1), np.uint8)
  mask[:, :8] = 255
  # 60 over 0 and 40: 30 and 50, both in `dim`. 90: 45 and 65, which is not. 20: 10, not, and 30.
  _write_imagenet9(
    module.Builder(config='foregrounds', data_dir=data_dir),
    {
      'test': [
        example(60, dim, mask=mask),
        example(90, dim, mask=mask),
        example(20, dim, mask=mask),
        example(59, dim, mask=mask),
      ]
    },
  )


def test_backgrounds_challenge(spec, tmp_path):
  _imagenet9(tmp_path)
  results, missing = _evaluate(spec, tmp_path, 'backgrounds_challenge')
  figures = results['backgrounds_challenge']
  assert figures['top1_original'] == 1 and figures['top1_only_bg_t'] == 0
  assert figures['bg_gap'] == 0.5  # mixed_same 1, mixed_rand 0.5
  assert figures['challenge'] == 0.5  # 60 and 59 are right on all nine backgrounds
  assert figures['examples'] == 6 + 9 + 2
  assert not missing
  shutil.rmtree(tmp_path / 'backgrounds_challenge' / 'variations')
  results, missing = _evaluate(spec, tmp_path, 'backgrounds_challenge')
  assert results == {'backgrounds_challenge': {'examples': 0}}
  assert '--config=variations' in missing['backgrounds_challenge']


def test_missing_backgrounds_challenge_names_our_builder(spec, tmp_path):
  results, missing = _evaluate(spec, tmp_path, 'backgrounds_challenge')
  assert not results
  assert missing['backgrounds_challenge'] == (
    'backgrounds_challenge/variations, backgrounds_challenge/foregrounds: `tfds build '
    f'tfds_builders/backgrounds_challenge --manual_dir=FOLDER_OF_RAW_FILES --data_dir={tmp_path}`'
  )


def test_mistakes_are_one_line(spec, tmp_path):
  write('imagenet_a', 'test', labelled([(10, 43)]), tmp_path)
  few = spec._replace(class_names=['disc', 'ring'], num_classes=2)
  for changed, sets, message in (
    (spec, ['imagenet_b'], "no set 'imagenet_b': choose from imagenet2012"),
    (few, ['imagenet_a'], 'has the classes n01440764 … n15075141 .1000 of them., the model disc'),
    (spec._replace(multi_label=True), ['imagenet_a'], 'several'),
  ):
    with pytest.raises(UserError, match=message) as error:
      _evaluate(changed, tmp_path, *sets)
    assert '\n' not in str(error.value)
  part = robustness_sets.Part('imagenet_a', 'test', 'real_label')
  with pytest.raises(UserError, match="no columns 'image' and 'real_label'"):
    robustness_sets.Source(part, tmp_path, spec.class_names)


def test_an_unreadable_image_is_named(spec, tmp_path, monkeypatch):
  write('imagenet_a', 'test', labelled([(10, 43), (20, 80)]), tmp_path)
  monkeypatch.setattr(
    robustness_sets.Source,
    'parse',
    lambda self, record: {'image': b'no JPEG', 'valid_labels': np.zeros(1000, bool)},
  )
  monkeypatch.setattr(
    robustness_sets.Source,
    'parse_file',
    lambda self, record: {
      'image': np.bytes_(b'no JPEG'),
      'file_name': robustness_sets.tf.constant('0.JPEG'),
    },
  )
  with pytest.raises(UserError, match='0.JPEG in split test'):
    _evaluate(spec, tmp_path, 'imagenet_a')
