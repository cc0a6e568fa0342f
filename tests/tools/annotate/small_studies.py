"""Studies of a few images, for tests that write the answers."""

from luab_jax.tools.annotate import events as ev
from tests.tools.annotate import recorded

WORKERS = ['00000000a1', '00000000a2', '00000000a3', '00000000a4']
CATS = [f'cat/{k}.png' for k in range(4)]
DOGS = [f'dog/{k}.png' for k in range(3)]


def batches(slots, *events, unseen=()):
  """The batches of a page with `slots` images, all of them seen except `unseen`."""
  boxes = [ev.Box(1, s, 0, 0, 300, 200) for s in range(slots) if s not in unseen]
  events = [ev.Page(0, 1280, 720, 2), *boxes, *events]
  return [ev.Batch(1, '0' * 16, 0, 1.8e12, events[-1].t + 1, events)]


class Study(recorded.Recorder):
  """A study whose workers are given by their index in WORKERS."""

  def answer(self, page, worker, batches, **options):
    self.add_answer(page, WORKERS[worker], batches, recorded.submit(self.task, batches), **options)


def grid_study(tmp_path):
  """A grid study of seven images of two classes."""
  recorded.paint(tmp_path / 'images', [*CATS, *DOGS])
  study = Study(tmp_path / 'study', tmp_path / 'images', 'grid', ['cat', 'dog'])
  for path in [*CATS, *DOGS]:
    study.add_image(path, path.partition('/')[0])
  return study


def icons_study(tmp_path):
  """An icons study of four images, with three classes in two tabs."""
  recorded.paint(tmp_path / 'images', CATS)
  classes = [('cup', 'things'), ('fork', 'things'), ('wug', 'animals')]
  study = Study(tmp_path / 'study', tmp_path / 'images', 'icons', classes, ['things', 'animals'])
  for path in CATS:
    study.add_image(path)
  return study
