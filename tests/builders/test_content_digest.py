"""The digest of a split: independent of the order of examples, changed by any other change."""

import copy

import ml_collections
import numpy as np
import pytest

from luab_jax.data.contents import check_contents, contents
from luab_jax.errors import UserError
from tfds_builders import build, content_digest
from tfds_builders.imagenet_ab import small_release


def _examples():
  clicks = {'x': np.array([0.25, 0.5], np.float32), 'block': np.array([0, 1], np.int32)}
  return [
    (
      f'a/{n}.jpg',
      {
        'image': b'jpeg' * (n + 1),
        'label': n,
        'clicks': clicks,
        'names': np.array(['a', 'é'], object),
        'boxes': [(0.1, 0.2, 0.3, 0.4)],
        'has_xml': True,
      },
    )
    for n in range(5)
  ]


def _digest(examples):
  digests = {}
  assert list(content_digest.digested(examples, digests, 'train')) == examples
  return digests['train']


def test_the_order_of_examples_and_columns_does_not_count():
  turned = [(key, dict(reversed(example.items()))) for key, example in reversed(_examples())]
  assert _digest(turned) == _digest(_examples())
  # Pinned: if a new version computed another digest, every rebuilt data set would be refused.
  assert _digest(_examples()) == '04bec715ed9998c4'


def test_any_change_counts():
  def change(key, value, *path):
    examples = copy.deepcopy(_examples())
    target = examples[3][1]
    for name in path:
      target = target[name]
    target[key] = value
    return _digest(examples)

  digests = [
    _digest(_examples()),
    _digest(_examples()[:4]),
    _digest([('b/0.jpg', _examples()[0][1]), *_examples()[1:]]),
    change('label', 4),
    change('image', b'jpeg' * 3 + b'jpej'),
    change('has_xml', False),
    change('boxes', []),
    change('x', np.array([0.25, 0.5000001], np.float32), 'clicks'),
    change('names', np.array(['a', 'e'], object)),
    change('names', np.array(['aé'], object)),
  ]
  assert len(set(digests)) == len(digests)


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """Builds a release with the given options of write_release and returns its `data` config."""

  def build_release(**options):
    folder = tmp_path_factory.mktemp('built')
    raw = small_release.write_release(folder / 'raw', **options)
    build.build('imagenet_ab/local', manual_dir=raw, data_dir=folder / 'data')
    return ml_collections.ConfigDict(
      {
        'name': 'imagenet_ab/local',
        'data_dir': str(folder / 'data'),
        'train_split': 'train[:90%]',
        'eval_splits': {'validation': 'validation', 'both': 'train[90%:]+validation'},
      }
    )

  return build_release


def _click_moved():
  moved = small_release.CLICKED.replace(b'<x>0.25</x>', b'<x>0.75</x>')
  assert len(moved) == len(small_release.CLICKED) and moved != small_release.CLICKED
  return {'xmls': {'cat/1': moved, 'dog/1': small_release.xml(small_release.metadata())}}


def test_a_rebuilt_data_set_is_known_by_its_contents(built):
  data = built()
  before = contents(data)
  assert before.keys() == {'train', 'validation'}
  assert contents(built()) == before
  image = small_release.image
  same_clicks = {'cat/1': small_release.CLICKED}
  for options, changed in (
    (_click_moved(), 'train'),
    ({'xmls': same_clicks}, 'train'),
    ({'classes': {**small_release.CLASSES, 'cat': {'1.JPEG': image('gold')}}}, 'train'),
    ({'validation': {'cat': {'9.JPEG': image('plum')}}}, 'validation'),
    ({'validation': {'dog': {'9.JPEG': image('pink')}}}, 'validation'),
  ):
    now = contents(built(**options))
    assert {name for name in now if now[name] != before[name]} == {changed}
    with pytest.raises(UserError, match=f'rebuilt with other contents.* {changed}.*--workdir'):
      check_contents(before, now, data)
  check_contents(before, before, data)
  check_contents(before, {}, data)  # from a builder that stored no digests
  check_contents({}, before, data)
