"""The metrics of a run named in words, and the accuracy of each class."""

import numpy as np

from luab_jax.evaluate.evaluate import metric_names
from luab_jax.report import results, style
from luab_jax.report.charts import curves


def test_every_metric_of_an_evaluation_has_a_name_in_words():
  known = {key for names in results.GROUPS.values() for key in names}
  for several in (False, True):
    names = metric_names('spatial', num_classes=6, multi_label=several, map_loss='energy')
    assert not set(names) - known


def test_metrics_are_grouped_and_have_two_decimals():
  metrics = {'top1': 0.948, 'click_error': 0.08081, 'click_error_px': 3.8789, 'class_loss': 0.16171}
  counts = {'examples': 1000, 'mine': 0.5, 'by_class': {'cat': 0.25}}
  section = results.results_section({'a_b': metrics | counts, 'c': {'top1': 1.0}}, '')
  tables = {table.caption: table.rows for table in section.tables}
  assert tables == {
    'Classification': [['Top-1 accuracy', '94.80 %', '100.00 %']],
    'Click position': [['Click error', '8.08 %', '–'], ['Click error in pixels', '3.88 px', '–']],
    'Losses': [['Classification loss', '0.1617', '–']],
    'Counts': [['Images', '1,000', '–']],
    'Other': [['mine', '50.00 %', '–']],
  }
  assert section.tables[0].head == ['', 'a b', 'c']
  assert section.collapsed[0].rows == [['cat', '25.00 %']]
  assert results.tiles({'a_b': metrics}) == [
    ('Top-1, a b', '94.80 %'),
    ('Click error, a b', '8.08 %'),
  ]


def test_accuracy_of_each_class_by_hand():
  outcomes = {
    'one/label': np.array([0, 0, 0, 1], np.int32),
    'one/prediction': np.array([0, 2, 2, 1], np.int32),
    'one/top1': np.array([1, 0, 0, 1], np.float32),
    'two/label': np.array([0], np.int32),
    'two/prediction': np.array([1], np.int32),
  }
  (section,) = results.class_sections(outcomes, ['cat', 'dog', 'owl'])
  (table,) = section.tables
  assert table.rows == [['cat', '33.33 %', '0.00 %'], ['dog', '100.00 %', '–']]
  assert table.notes == ['mistaken for owl: 2 of 4 images', '1 image']
  many = {'one/label': np.arange(30), 'one/prediction': np.arange(30)}
  (section,) = results.class_sections(many, [str(c) for c in range(30)])
  assert not section.tables and section.collapsed[0].caption == '30 classes'
  assert results.class_sections({'one/click_error': np.zeros(3)}, ['cat']) == []


def test_charts_follow_the_colour_scheme_and_are_the_same_file_each_time():
  charts = [curves('Loss $x <', {'train': [(1, 2.0), (2, 1.0)]}) for _ in range(2)]
  assert charts[0].content == charts[1].content and charts[0].mime == 'image/svg+xml'
  drawing = charts[0].content.decode()
  css = drawing.partition('</style>')[0]
  for light, dark in style.DARK.items():
    assert css.count(dark) == 1 and drawing.count(light) == 1  # and variables elsewhere
  assert 'prefers-color-scheme:dark' in css and 'Loss $x &lt;' in drawing
