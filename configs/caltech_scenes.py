"""LUAB on composites of real photographs: objects of 19 Caltech-101 classes pasted into scenes.

Paper: none; ours, after the composites of Xiao et al. 2020 (arXiv:2006.09994). In 70 % of the
training images the object is on the scene of its class. The clicks are simulated from hand-drawn
outlines, not recorded.
Command, once the data have been made (docs/real_photographs.md):
`python run.py --config=configs/caltech_scenes.py`.
Hardware: 2 CPU cores, 11 minutes on a busy machine. Expected: top-1 0.469 on
bg_same, 0.108 on bg_rand and 0.255 on the photographs; click error 0.183 (one seed, on the copy
of the data described in docs/real_photographs.md).
"""

from configs import quickstart


def get_config():
  """The quickstart's network and optimizer, on 64 px images."""
  c = quickstart.get_config()
  c.num_epochs = 60.0
  c.log_every = 50
  c.eval_every_epochs = 0.0
  c.checkpoint_every_steps = 500

  c.data.data_dir = 'data/caltech_scenes/built'
  c.data.train_split = 'train_bg70[:90%]'
  # Only training images have clicks, so a tenth of them is held out to measure the click error;
  # the other composite of the same object may be in the training set. In mixed_same, mixed_rand
  # and only_fg the objects are centred: they test little about position and are left out.
  c.data.eval_splits = {
    'bg_same': 'bg_same',  # on the scene of the class
    'bg_rand': 'bg_rand',  # the same objects at the same positions on another scene
    'photographs': 'validation',  # the photographs that these objects come from
    'only_bg_t': 'only_bg_t',  # with the object removed
    'heldout_clicks': 'train_bg70[90%:]',
  }
  c.data.image_size = 64
  c.data.eval_resize = 64
  # On 1,474 images without augmentation, the validation loss rises within 60 epochs.
  c.data.color_jitter = 0.4
  c.data.augment = 'randaugment'
  c.data.augment_magnitude = 5
  c.data.shuffle_buffer = 2048

  c.loss.point_weight = 10.0

  c.study.map_weight = 1.0
  c.study.unit = r'(\w+?_\d{4})'  # the photograph that a composite's object comes from
  return c
