"""MaxBoxAccV2, top-1 localisation, energy and pointing game against values worked out by hand."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from luab_jax.evaluate import localization
from tests.evaluate.box_batches import boxes_of, summary_of


def figures_of(maps, rows, right=None):
  """Metrics of single-label maps f32[B,n,n] in views of n x n pixels: nothing is interpolated."""
  maps = np.asarray(maps, np.float32)
  right = np.ones(len(maps), bool) if right is None else np.array(right)
  outputs = {'maps': {'cam': maps[..., None]}, 'correct': right}
  return summary_of([(outputs, boxes_of(rows))], maps.shape[-1], multi_label=False)


def block(*corners, size=8, value=1.0, on=None):
  """A map that is `value` in (x0, y0, x1, y1) and 0 (or `on`) elsewhere."""
  result = np.zeros((size, size)) if on is None else on.copy()
  x0, y0, x1, y1 = corners
  result[y0:y1, x0:x1] = value
  return result


def test_a_map_that_is_the_box_and_one_that_is_half_of_it():
  box = (0.25, 0.25, 0.75, 0.75)
  whole = figures_of([block(2, 2, 6, 6)], [[box]])
  assert whole == {
    'images_with_boxes': 1,
    'images_without_boxes': 0,
    'boxes_left_out': 0,
    'maxboxacc_v2_cam': 1,
    'top1_loc_cam': 1,
    'epg_cam': 1,
    'pointing_cam': 1,
  }
  half = figures_of([block(2, 2, 4, 6)], [[box]])  # IoU 8 / 16: enough for 0.3 and 0.5
  assert half['maxboxacc_v2_cam'] == pytest.approx(2 / 3) and half['top1_loc_cam'] == 1
  # IoU 9 / 27: enough for 0.3 only; some of its highest cells lie outside the box.
  wide = figures_of([block(3, 3, 8, 7)], [[box]])
  assert wide['maxboxacc_v2_cam'] == pytest.approx(1 / 3)
  assert wide['top1_loc_cam'] == 0 == wide['pointing_cam']


def test_the_best_of_all_components_against_the_best_of_all_boxes():
  two = block(0, 0, 1, 8, on=block(4, 4, 8, 8, value=0.5))  # the strong one hits nothing
  rows = [(0.25, 0, 0.5, 0.25), (0.5, 0.5, 1, 1)]
  assert figures_of([two], [rows])['maxboxacc_v2_cam'] == 1
  assert figures_of([two], [rows[:1]])['maxboxacc_v2_cam'] == 0
  # Touching at a corner makes one component, whose box is the whole view.
  corner = block(0, 0, 4, 4, on=block(4, 4, 8, 8))
  assert figures_of([corner], [[(0, 0, 1, 1)]])['maxboxacc_v2_cam'] == 1
  assert figures_of([corner], [[(0, 0, 0.5, 0.5)]])['maxboxacc_v2_cam'] == 0


def test_one_threshold_for_all_images():
  low = block(0, 0, 2, 2, on=block(0, 0, 8, 4, value=0.4))  # right up to 0.4 = level 102
  high = block(0, 0, 2, 2, on=block(0, 0, 8, 8, value=0.6))  # right above 0.6 = level 153
  high[7, 7] = 0
  rows = [[(0, 0, 1, 0.5)], [(0, 0, 0.25, 0.25)]]
  for i in range(2):
    assert figures_of([[low, high][i]], [rows[i]])['maxboxacc_v2_cam'] == 1
  both = figures_of([low, high], rows)
  assert both['maxboxacc_v2_cam'] == 0.5
  # The lowest of the best thresholds is that of `low`, so the class of that image decides.
  assert figures_of([low, high], rows, [True, False])['top1_loc_cam'] == 0.5
  assert figures_of([low, high], rows, [False, True])['top1_loc_cam'] == 0


def test_maps_that_tie():
  everywhere = [(0, 0, 1, 1)]
  flat = figures_of([np.full((8, 8), 3.0)], [everywhere])
  assert flat['maxboxacc_v2_cam'] == 0 and flat['pointing_cam'] == 1  # all cells are inside
  assert figures_of([np.full((8, 8), 3.0)], [[(0, 0, 1, 0.9)]])['pointing_cam'] == 0
  nan = block(0, 0, 8, 8, value=np.nan)
  assert figures_of([nan], [everywhere])['pointing_cam'] == 0
  two = block(0, 0, 1, 1, on=block(7, 7, 8, 8))
  assert figures_of([two], [[(0, 0, 0.5, 0.5)]])['pointing_cam'] == 0  # one of two inside
  assert figures_of([two], [[(0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)]])['pointing_cam'] == 1
  # A cell's centre on the border of a box is inside.
  assert figures_of([block(0, 0, 1, 1)], [[(1 / 16, 1 / 16, 1, 1)]])['pointing_cam'] == 1
  assert figures_of([block(0, 0, 1, 1)], [[(1 / 15, 0, 1, 1)]])['pointing_cam'] == 0


def test_the_share_of_the_mass_inside_the_boxes():
  left, middle = (0, 0, 0.5, 1), (0.25, 0, 0.75, 1)

  def epg(grid, *boxes):
    return figures_of([grid], [boxes])['epg_cam']

  flat = np.ones((8, 8))
  assert epg(flat, left) == 0.5 and epg(flat, middle) == 0.5
  assert epg(flat, left, middle) == 0.75  # the union: the overlap counts once
  assert epg(flat, (0, 0, 0.4375, 1)) == 0.5  # a pixel whose centre is on the border is inside
  assert epg(flat, (0, 0, 0.43, 1)) == 0.375
  # 4 x 8 pixels of 3 in the box, as many of 1 outside it.
  assert epg(block(0, 0, 4, 8, value=3, on=flat), left) == 0.75
  signed = block(0, 0, 4, 8, value=-3, on=flat)  # negative values count as 0, inside and outside
  assert epg(signed, left) == 0 and epg(signed, middle) == 0.5
  assert epg(-flat, left) == epg(0 * flat, left) == epg(np.nan * flat, left) == 0
  # A map that has collapsed to one cell has all of its mass inside, but a poor box.
  cell = figures_of([block(3, 3, 4, 4)], [[middle]])
  assert cell['epg_cam'] == 1 and cell['maxboxacc_v2_cam'] == 0


def test_the_mass_is_that_of_the_enlarged_map():
  maps = np.array([[1.0, 0.0]])[:, None]  # over 4 pixels: 1, 3/4, 1/4, 0
  inside = [localization.energy_inside(maps[0], np.array([[0, 0, x, 1]]), 4) for x in (0.25, 0.5)]
  assert inside == [pytest.approx(1 / 2), pytest.approx(7 / 8)]
  signed = np.array([[1.0, -1.0]])  # 1, 1/2, -1/2, -1: enlarged first
  assert localization.energy_inside(signed, np.array([[0, 0, 0.25, 1]]), 4) == pytest.approx(2 / 3)


def test_boxes_of_the_logarithm_of_the_attention_map():
  # e^0 at the peak, e^-1 on the rest of the object, e^-10 elsewhere.
  logarithm = block(0, 0, 1, 1, value=0, on=block(0, 0, 4, 4, value=-1, on=np.full((8, 8), -10.0)))
  underflown = np.where(logarithm == -10, 0, np.exp(logarithm))
  for attention in (np.exp(logarithm), underflown):
    outputs = {
      'maps': {'attention': attention[None, ..., None].astype(np.float32)},
      'correct': np.ones(1, bool),
    }
    found = summary_of([(outputs, boxes_of([[(0, 0, 0.5, 0.5)]]))], 8, multi_label=False)
    assert found['maxboxacc_v2_log_attention'] == found['top1_loc_log_attention'] == 1
    assert not {'epg_log_attention', 'pointing_log_attention'} & found.keys()


def test_outcomes_are_what_each_image_contributes():
  low = block(0, 0, 2, 2, on=block(0, 0, 8, 4, value=0.4))
  high = block(0, 0, 2, 2, on=block(0, 0, 8, 8, value=0.6))
  high[7, 7] = 0
  maps = np.stack([low, low, high])[..., None]
  batch = boxes_of([[(0, 0, 1, 0.5)], [], [(0, 0, 0.25, 0.25)]])
  with ThreadPoolExecutor(1) as pool:
    places = localization.Localization(pool, 8, multi_label=False)
    places.add({'maps': {'cam': maps}, 'correct': np.ones(3, bool)}, batch)
    padding = {**batch, 'example_mask': np.zeros(3)}
    places.add({'maps': {'cam': maps}, 'correct': np.ones(3, bool)}, padding)
    figures, outcomes = places.metrics(), places.outcomes()
  # At the lowest of the best common thresholds, the map of the first image is right.
  np.testing.assert_array_equal(outcomes['maxboxacc_v2_cam'], [1, np.nan, 0])
  np.testing.assert_array_equal(outcomes['pointing_cam'], [1, np.nan, 1])
  for name, values in outcomes.items():
    assert values.dtype == np.float32 and np.nanmean(values) == pytest.approx(figures[name])


def test_outcomes_of_several_classes_are_means_over_those_of_an_image():
  left, right = (0, 0, 0.5, 1), (0.5, 0, 1, 1)
  maps = np.stack([block(0, 0, 4, 8)] * 2, -1)[None]
  with ThreadPoolExecutor(1) as pool:
    places = localization.Localization(pool, 8, multi_label=True)
    places.add({'maps': {'cam': maps}}, boxes_of([[left, right]], label=[[0, 1]]))
    places.metrics()
  assert {k: v.tolist() for k, v in places.outcomes().items()} == {
    'maxboxacc_v2_cam': [0.5],
    'epg_cam': [0.5],
    'pointing_cam': [0.5],
  }


def test_images_without_boxes_and_padding_do_not_count():
  maps, box = [block(0, 0, 4, 4)] * 3, (0, 0, 0.5, 0.5)
  assert figures_of(maps, [[], [], []]) == {}
  found = figures_of(maps, [[], [box], []])
  assert found['images_with_boxes'] == 1 and found['images_without_boxes'] == 2
  assert found['maxboxacc_v2_cam'] == found['top1_loc_cam'] == found['pointing_cam'] == 1
  batch = boxes_of([[box], [box], []], overflow=2)
  batch['example_mask'][1:] = 0
  outputs = {'maps': {'cam': np.stack(maps)[..., None]}, 'correct': np.ones(3, bool)}
  counted = summary_of([(outputs, batch)], 8, multi_label=False)
  assert counted['images_with_boxes'] == 1 and counted['images_without_boxes'] == 0
  assert counted['boxes_left_out'] == 2


def test_several_classes_each_with_its_own_map_and_boxes():
  left, right = (0, 0, 0.5, 1), (0.5, 0, 1, 1)
  maps = np.stack([block(0, 0, 4, 8), block(0, 0, 4, 8), block(4, 0, 8, 8)], -1)[None]
  boxes = boxes_of([[left, right, right]], label=[[0, 1, 2]])
  assert summary_of([({'maps': {'cam': maps}}, boxes)], 8, multi_label=True) == {
    'images_with_boxes': 1,
    'images_without_boxes': 0,
    'boxes_left_out': 0,
    'box_targets': 3,
    'maxboxacc_v2_cam': pytest.approx(2 / 3),
    'epg_cam': pytest.approx(2 / 3),
    'pointing_cam': pytest.approx(2 / 3),
  }


def test_any_number_of_threads_counts_the_same():
  rng = np.random.default_rng(0)
  outputs = {
    'maps': {kind: rng.normal(size=(20, 5, 5, 1)) for kind in ('cam', 'attention')},
    'correct': rng.uniform(size=20) < 0.5,
  }
  corner = rng.uniform(0, 0.5, (20, 1, 2))
  rows = np.concatenate([corner, corner + 0.5], -1)
  batches = [(outputs, boxes_of(rows.tolist()))] * 3
  one, eight = (summary_of(batches, 48, multi_label=False, threads=n) for n in (1, 8))
  assert one == eight and one['images_with_boxes'] == 60 and 0 < one['top1_loc_cam'] < 1


def test_maps_are_measured_while_the_caller_goes_on(monkeypatch):
  measure, go_on = localization.iou_by_level, threading.Event()

  def slow(*args):
    assert go_on.wait(60)
    return measure(*args)

  monkeypatch.setattr(localization, 'iou_by_level', slow)
  outputs = {'maps': {'cam': np.eye(4)[None, ..., None]}, 'correct': np.ones(1, bool)}
  with localization.thread_pool() as pool:
    places = localization.Localization(pool, 8, multi_label=False)
    for _ in range(100):  # returns at once, although no map can be measured yet
      places.add(outputs, boxes_of([[(0, 0, 1, 1)]]))
    go_on.set()
    assert places.metrics()['maxboxacc_v2_cam'] == 1


def test_an_error_in_a_thread_is_raised_and_gives_up_the_rest(monkeypatch):
  calls = []

  def failing(*_):
    calls.append(1)
    time.sleep(0.05)
    raise FloatingPointError

  monkeypatch.setattr(localization, 'iou_by_level', failing)
  outputs = {'maps': {'cam': np.eye(4)[None, ..., None]}, 'correct': np.ones(1, bool)}
  with pytest.raises(FloatingPointError), localization.thread_pool() as pool:
    places = localization.Localization(pool, 8, multi_label=False)
    for _ in range(1000):
      places.add(outputs, boxes_of([[(0, 0, 1, 1)]]))
    places.wait()
  assert len(calls) < 500


def test_enlarging_is_linear_between_centres_and_constant_beyond():
  large = localization.enlarge(np.array([[0.0, 0.0], [0.0, 1.0]]), 4)
  line = np.array([0, 0.25, 0.75, 1])
  np.testing.assert_allclose(large, 255 * line[:, None] * line, atol=1e-4)
  assert not localization.enlarge(np.ones((2, 2)), 4).any()
