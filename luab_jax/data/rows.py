"""Which rows of every global batch belong to a host."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from luab_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Rows:
  """The rows of each global batch that belong to one host: contiguous ones.

  `Rows(batch_size)` is all rows, for a single host.
  """

  batch_size: int  # global
  num_hosts: int = 1
  host: int = 0

  @property
  def count(self) -> int:
    """How many rows of each batch are the host's."""
    return self.batch_size // self.num_hosts

  @property
  def first(self) -> int:
    """The host's first row in each batch."""
    return self.host * self.count

  def check(self) -> None:
    """Raises UserError unless the batch divides evenly over the hosts."""
    if self.batch_size < 1 or self.batch_size % self.num_hosts:
      raise UserError(
        f'batch_size={self.batch_size} does not split evenly over {self.num_hosts} hosts: choose '
        f'a multiple of {self.num_hosts}'
      )

  def span(self, num_examples: int) -> tuple[int, int]:
    """(start, stop) of the host's contiguous share of all examples, where order does not matter."""
    start, stop = (num_examples * host // self.num_hosts for host in (self.host, self.host + 1))
    return start, stop

  def select(
    self, records: tf.data.Dataset, number_of: Callable[..., tf.Tensor]
  ) -> tf.data.Dataset:
    """Keeps the host's records.

    Args:
      records: of all hosts.
      number_of: function of an element's components -> its int64 number in the global stream.
    """
    if self.num_hosts == 1:
      return records
    return records.filter(
      lambda *record: number_of(*record) % self.batch_size // self.count == self.host
    )
