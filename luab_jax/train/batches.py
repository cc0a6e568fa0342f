"""The training batches of a run, as the training loop gets them."""

from collections.abc import Callable, Iterator, Sequence

from luab_jax.data import pipeline
from luab_jax.data.dataset import Batch, DatasetSpec
from luab_jax.runtime.metric_writers import CaptionedImage, MetricWriters
from luab_jax.train.experiment import Experiment
from luab_jax.train.metric_log import RunLog

# (batch, spec, number of images) -> images of a training batch, for the metric writers.
DrawBatch = Callable[[Batch, DatasetSpec, int], Sequence[CaptionedImage]]


def train_batches(experiment: Experiment, start: int, log: RunLog) -> Iterator[Batch]:
  """This host's training batches from step `start` on; logs what filters dropped."""
  config, spec, rows = experiment.config, experiment.spec, experiment.rows
  batches = pipeline.train_batches(config.data, spec, rows, seed=config.seed, start_step=start)
  if batches.filtered:
    log.message(batches.filtered)
  return iter(batches)


def drawing_first(
  batches: Iterator[Batch], spec: DatasetSpec, writers: MetricWriters, draw_batch: DrawBatch
) -> Iterator[Batch]:
  """Yields the same batches and shows some images of the first one in the metric writers."""
  first = next(batches)
  writers.images(0, 'training', draw_batch(first, spec, writers.num_images))
  yield first
  yield from batches
