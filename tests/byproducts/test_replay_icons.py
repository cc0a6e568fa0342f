"""Replay of icon placements against a naive model."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.byproducts import coco_ab
from tests.byproducts.test_coco_ab import point, record

points = st.none() | st.builds(point, st.floats(-1, 2), st.floats(-1, 2))
histories = st.lists(
  st.builds(
    lambda kind, icon, to: {
      'actionType': kind, 'iconType': icon, 'pointFrom': None, 'pointTo': to, 'timeAt': 1},
    st.sampled_from(coco_ab.ACTION_NAMES),
    st.sampled_from(['person', 'cup', 'toothbrush', 'Person', 'unicorn', '']),
    points,
  ),
  max_size=12,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(history=histories)
def test_replay_equals_a_naive_model(tmp_path_factory, history):
  path = tmp_path_factory.mktemp('replay') / 'coco_ab_v1_0.json'
  path.write_text(json.dumps([record(actionHistories=history)]))
  (got,) = coco_ab.read_records(path)
  icons, unknown = coco_ab.replay_icons(got.actions)
  # The model: an icon is where the last action that moved or removed it left it.
  expected = {}
  for name in coco_ab.CLASS_NAMES:
    telling = [
      a
      for a in history
      if a['iconType'] == name and (a['actionType'] == 'remove' or a['pointTo'] is not None)
    ]
    if telling and telling[-1]['actionType'] != 'remove':
      expected[name] = (telling[-1]['pointTo']['x'], telling[-1]['pointTo']['y'])
  assert icons == expected
  assert list(icons) == [name for name in coco_ab.CLASS_NAMES if name in expected]
  names = {a['iconType'] for a in history}
  assert unknown == sorted(names & {'Person', 'unicorn', ''})
