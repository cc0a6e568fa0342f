"""Ground-truth boxes, from the records to the metrics of an evaluation."""

import functools

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from luab_jax.data import pipeline
from luab_jax.data.examples import MAX_BOXES
from luab_jax.evaluate import localization, steps
from luab_jax.runtime import parallel
from luab_jax.train.experiment import Experiment
from tests import painted_data
from tests.painted_data import config, encode, store
from tests.short_run import short_config
from tests.small_models import random_state

BOXES = ('box', 'box_mask', 'box_label', 'box_overflow')


def rectangle(height, width, box):
  """uint8[height, width, 3], bright inside the box (y0, x0, y1, x1) in whole pixels."""
  image = np.full((height, width, 3), painted_data.BACKGROUND, np.uint8)
  image[box[0] : box[2], box[1] : box[3]] = 255
  return image


def with_objects(features, columns):
  objects = tfds.features.Sequence({'bbox': tfds.features.BBoxFeature(), **columns})
  return tfds.features.FeaturesDict({**dict(features.items()), 'objects': objects})


def relative(box, height, width):
  return tfds.features.BBox(
    ymin=box[0] / height, xmin=box[1] / width, ymax=box[2] / height, xmax=box[3] / width
  )


@pytest.fixture(scope='module')
def painted(tmp_path_factory):
  """(data_dir of 'one', 'plain' and 'several', [(height, width, box in pixels)] of 'one')."""
  folder, rng = tmp_path_factory.mktemp('boxes'), np.random.default_rng(3)
  examples, truth = [], []
  for i in range(40):
    height, width = (int(n) for n in rng.integers(60, 200, 2))
    y, x = int(rng.integers(0, height - 12)), int(rng.integers(0, width - 12))
    box = (y, x, int(rng.integers(y + 10, height + 1)), int(rng.integers(x + 10, width + 1)))
    example = painted_data.imagenet_example(
      i, encode(rectangle(height, width, box), 'PNG'), label=i
    )
    # The first has no box, the second more than fit.
    count = {0: 0, 1: MAX_BOXES + 3}.get(i, 1)
    objects = {'bbox': [relative(box, height, width)] * count, 'label': ['n0'] * count}
    examples.append(example | {'objects': objects})
    truth.append((height, width, box))
  features = painted_data.imagenet_features(40)
  store(folder, 'one', with_objects(features, {'label': tfds.features.Text()}), {'train': examples})
  store(
    folder,
    'plain',
    features,
    {'train': [{k: v for k, v in e.items() if k != 'objects'} for e in examples[:8]]},
  )
  instances = [
    (7, False, (0, 0, 50, 100)),
    (9, True, (0, 0, 100, 200)),
    (9, False, (0, 80, 50, 99)),
    (3, False, (0, 0, 100, 50)),
  ]
  coco = painted_data.coco_example(
    0, rectangle(100, 200, (0, 0, 1, 1)), labels=[3, 7, 9], icons=[(3, 0.1, 0.5), (7, 0.5, 0.5)]
  )
  coco['objects'] = {
    'bbox': [relative(box, 100, 200) for *_, box in instances],
    'label': [c for c, *_ in instances],
    'is_crowd': [crowd for _, crowd, _ in instances],
    'area': [1024.0, 99999.0, 1023.0, 9216.0],
  }
  columns = {
    'label': tfds.features.ClassLabel(names=painted_data.NAMES),
    'is_crowd': np.bool_,
    'area': np.float32,
  }
  store(
    folder,
    'several',
    with_objects(painted_data.coco_features(), columns),
    {'train': [coco]},
    num_shards=1,
  )
  return folder, truth


def _examples(folder, name, *, rows=None, **options):
  """{column: all real examples of the train split, with boxes}."""
  data = config(folder, name, image_size=64, eval_resize=72)
  batches, _ = pipeline.eval_batches(
    data, pipeline.dataset_spec(data), 'train', rows or pipeline.Rows(16), boxes=True, **options
  )
  columns = list(batches)
  batch = {key: np.concatenate([b[key] for b in columns]) for key in columns[0]}
  real = batch['example_mask'] > 0
  assert not batch['box_mask'][~real].any()
  return {key: value[real] for key, value in batch.items()}


@pytest.fixture(scope='module')
def examples(painted):
  """Cached function (name, whole) -> `_examples` of that data set."""
  return functools.cache(lambda name, whole: _examples(painted[0], name, whole=whole))


@pytest.mark.parametrize('whole', [False, True])
def test_painted_rectangles_are_in_the_emitted_boxes(examples, whole):
  batch = examples('one', whole)
  level = (batch['image'].mean(-1) - painted_data.BACKGROUND) / 225
  away = 0
  for i in range(len(level)):
    label, row = batch['label'][i], batch['box_mask'][i] > 0
    assert not batch['box'][i][~row].any() and (batch['box_label'][i][row] == label).all()
    assert batch['box_overflow'][i] == (3 if label == 1 else 0)
    if label == 0:
      assert not row.any()
      continue
    ys, xs = np.nonzero(level[i] > 0.5)
    if not len(ys):
      away += 1
      continue
    assert row.sum() == (MAX_BOXES if label == 1 else 1)
    seen = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / 64
    assert np.abs(batch['box'][i][row] - seen).max() <= 1 / 64
  assert away == 0 if whole else 0 < away < 10


def test_boxes_beside_the_view_are_masked(painted, examples):
  batch, (_, truth) = examples('one', False), painted
  outside = 0
  for label, row in zip(batch['label'], batch['box_mask'], strict=True):
    height, width, (y0, x0, y1, x1) = truth[label]
    # The view shows the central 64/72 of the shorter side, and as many pixels of the longer one.
    half = min(height, width) * 64 / 72 / 2
    gaps = [
      height / 2 - half - y1,
      y0 - height / 2 - half,
      width / 2 - half - x1,
      x0 - width / 2 - half,
    ]
    if label and abs(max(gaps)) > 2:  # any closer and rounding decides
      assert row.any() == (max(gaps) < 0)
      outside += max(gaps) > 0
  assert outside


def test_the_whole_view_has_the_whole_boxes_of_all_images(painted, examples):
  batch, (_, truth) = examples('one', True), painted
  for label, box, mask in zip(batch['label'], batch['box'], batch['box_mask'], strict=True):
    height, width, (y0, x0, y1, x1) = truth[label]
    assert mask.any() == (label != 0)
    expected = [x0 / width, y0 / height, x1 / width, y1 / height]
    assert np.abs(box[mask > 0] - expected).max(initial=0) < 1e-6
  several = examples('several', True)
  expected = [[0, 0, 0.5, 0.5], [0.4, 0, 0.495, 0.5], [0, 0, 0.25, 1]]
  np.testing.assert_allclose(several['box'][0, :3], expected, atol=1e-6)
  assert several['box_label'][0, :3].tolist() == [7, 9, 3]
  # Icons are mapped to this view, too.
  np.testing.assert_allclose(several['point'][0, [3, 7]], [(0.1, 0.5), (0.5, 0.5)], atol=1e-6)


@pytest.mark.slow
def test_the_first_images_are_the_same_on_any_number_of_hosts(painted, examples):
  (folder, _), everything = painted, examples('one', True)
  parts = [
    _examples(folder, 'one', whole=True, max_examples=25, rows=pipeline.Rows(16, 4, host))
    for host in range(4)
  ]
  labels = np.concatenate([part['label'] for part in parts])
  assert sorted(labels) == sorted(everything['label'][:25])
  all_of_them = _examples(folder, 'one', whole=True, max_examples=1000)
  np.testing.assert_array_equal(all_of_them['box'], everything['box'])


def test_boxes_leave_the_other_columns_alone(painted, examples):
  batch, data = examples('one', False), config(painted[0], 'one', image_size=64, eval_resize=72)
  (plain,) = pipeline.eval_batches(data, pipeline.dataset_spec(data), 'train', pipeline.Rows(40))[0]
  assert batch.keys() - plain.keys() == set(BOXES)
  for key, value in plain.items():
    np.testing.assert_array_equal(value, batch[key])


def test_a_set_without_the_column_has_no_boxes(painted):
  batch = _examples(painted[0], 'plain')
  assert not any(batch[key].any() for key in BOXES)


def test_instances_have_their_class_and_crowds_are_no_boxes(examples):
  batch = examples('several', False)
  # 100 x 200 becomes 72 x 144 and loses 4 and 40 pixels on each side, and with them class 3.
  mask = batch['box_mask'][0] > 0
  assert batch['box_label'][0][mask].tolist() == [7, 9]
  expected = np.array([[0, 0, 72 - 40, 36 - 4], [57.6 - 40, 0, 71.28 - 40, 36 - 4]]) / 64
  np.testing.assert_allclose(batch['box'][0][mask], expected, atol=1e-5)


def test_groups_of_labels_are_those_of_the_whole_image(examples):
  batch = examples('several', False)
  assert {c: n for c, n in enumerate(batch['size_group'][0]) if n} == {3: 3, 7: 2, 9: 1}
  # One of the icons is outside the view; the image still counts as having it.
  assert {c: n for c, n in enumerate(batch['icon_group'][0]) if n != 1} == {3: 2, 7: 2}
  assert batch['point_mask'][0].nonzero()[0].tolist() == [7]


@pytest.mark.slow
def test_evaluation_on_eight_devices_equals_one_call_of_the_model(synthetic_imagenet_ab):
  config = short_config(synthetic_imagenet_ab)
  config.data.eval_splits = {'boxes': 'validation', 'some': 'train[:40]'}
  run = Experiment(config)
  state = random_state(run)
  found = run.evaluate(
    parallel.map_step(run.eval_step), parallel.replicate(state), show_progress=False, final=True
  )
  model = jax.jit(functools.partial(run.model.apply, train=False))
  for name, split in config.data.eval_splits.items():
    (batch,) = pipeline.eval_batches(
      config.data,
      pipeline.dataset_spec(config.data),
      split,
      pipeline.Rows(found[name]['examples']),
      boxes=True,
      whole=True,
    )[0]
    variables = state.eval_variables()
    output = model(variables, batch['image'])
    maps = steps.localization_maps(output, batch['label'], multi_label=False)
    right = output['logits'].argmax(-1) == batch['label']
    with localization.thread_pool() as pool:
      places = localization.Localization(pool, 32, multi_label=False)
      places.add(jax.device_get({'maps': maps, 'correct': right}), batch)
      expected = places.metrics()
    # Counts agree exactly; shares of mass depend on the last bits of the maps.
    assert {key: found[name][key] for key in expected} == pytest.approx(expected, rel=1e-5)
    assert expected['images_with_boxes'] + expected['images_without_boxes'] == len(batch['label'])
    assert (expected['images_without_boxes'] == 0) == (name == 'boxes')
    assert 0 < expected['maxboxacc_v2_attention'] < 1 and 0 < expected['pointing_cam'] < 1
