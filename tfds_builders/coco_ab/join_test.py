"""COCO's instances files and the join: what is refused."""

import numpy as np
import pytest

from luab_jax.byproducts import coco_ab
from luab_jax.errors import UserError
from tfds_builders.coco_ab.join import Join
from tfds_builders.coco_ab.small_release import ANNOTATIONS, RECORDS, annotation, write_release


@pytest.mark.parametrize(
  ('match', 'bad'),
  [
    ('annotation 1 has category_id 2, which is not listed', annotation(1, 9, 2, [0, 0, 1, 1])),
    (
      r'Expected `float` >= 0.0 - at `\$.annotations\[0\].bbox\[2\]`',
      annotation(1, 9, 1, [0, 0, -1, 1]),
    ),
    ('Expected `array` of length 4 - at', annotation(1, 9, 1, [0, 0, 1])),
    (r'JSON is malformed: invalid character \(byte \d+', annotation(1, 9, 1, [0, np.nan, 1, 1])),
    ('missing required field `category_id`', {'id': 1, 'image_id': 9}),
  ],
)
def test_wrong_instances_are_refused(tmp_path, match, bad):
  write_release(tmp_path, annotations={**ANNOTATIONS, 'train2014': [bad]})
  with pytest.raises(UserError, match=match):
    Join().add_instances(
      tmp_path / 'annotations_trainval2014.zip', 'annotations/instances_train2014.json'
    )


def test_of_several_records_of_an_image_the_last_counts(tmp_path):
  again = [RECORDS[1] | {'worker_id': f'W{i}'} for i in range(3)]
  write_release(tmp_path, records=[again[0], RECORDS[0], *again[1:]])
  join = Join()
  replaced = list(join.add_records(coco_ab.read_records(tmp_path / coco_ab.FILE_NAME)))
  assert [(record.number, record.worker_id) for record in replaced] == [(0, 'W0'), (2, 'W1')]
  assert join.take(9)[1].worker_id == 'W2'
  assert join.take(25)[1].worker_id == 'W1'  # another image's
