"""Damage to an archive never goes unnoticed."""

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luab_jax.byproducts.archives import reader
from luab_jax.errors import UserError
from tests.byproducts.archive_files import KEPT, MEMBERS, PACKS, make_tar, write


def _outcome(path):
  """Returns the outcome of reading all members: complete, silently wrong or reported."""
  try:
    return 'complete' if list(reader.iter_members(path)) == KEPT else 'silently wrong'
  except UserError as error:
    assert '\n' not in str(error) and path.name in str(error)
    return 'reported'


@pytest.mark.parametrize('pack', PACKS.values(), ids=PACKS)
def test_truncation_anywhere_is_reported(tmp_path, pack):
  data = pack(MEMBERS)
  # A tar is complete with the first zero block after its 4 headers and 2 + 137 data blocks. The
  # rest is padding.
  end = 512 * (4 + 2 + 137 + 1) if pack is make_tar else len(data)
  lengths = {*range(0, end, 512), *range(1, end, 977), end - 1}
  for length in [*sorted(lengths)[:80], end - 513, end - 512, end - 1]:
    path = write(tmp_path / 'cut', data[:length])
    assert _outcome(path) == 'reported', length


@given(offset=st.integers(0, 5 * 512 - 1), value=st.integers(1, 255))
@settings(
  max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_header_never_ends_a_tar_silently(tmp_path, offset, value):
  """tarfile alone silently drops the members after a damaged header."""
  data = bytearray(make_tar([('a', b'1' * 10), ('b', b'2' * 10), ('c', b'3' * 10)]))
  data[offset] ^= value
  path = write(tmp_path / 'flip.tar', bytes(data))
  try:
    members = list(reader.iter_members(path, refused=lambda *_: None))
  except UserError:
    return
  assert len(members) == 3


@given(offset=st.integers(0, 10_000), value=st.integers(1, 255))
@settings(
  max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_flipped_byte_of_compressed_data_is_never_accepted(tmp_path, offset, value):
  data = bytearray(gzip.compress(make_tar(MEMBERS), mtime=0))
  offset = 10 + offset % (len(data) - 10)  # after the gzip header, whose fields may differ
  data[offset] ^= value
  # Some flips only change the encoding of the same bytes.
  assert _outcome(write(tmp_path / 'flip.tgz', bytes(data))) != 'silently wrong'


@given(st.binary(max_size=2000))
@settings(
  max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_give_members_or_a_user_error(tmp_path, data):
  path = write(tmp_path / 'noise', data)
  for read in (reader.iter_members, reader.iter_class_members, reader.class_names):
    try:
      list(read(path))
    except UserError as error:
      assert 'noise' in str(error)
