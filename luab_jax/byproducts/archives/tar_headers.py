"""Reads a tar forwards and strictly, in little memory, whatever its headers claim.

A header is parsed by tarfile's own `TarInfo.frombuf`; tarfile.TarFile itself is not for files of
strangers. It takes a damaged header, or a file that just ends, for the end of the archive, so that
later members are lost without a word; it remembers every member; it reads an extension header whole
whatever its size, recurses over chains of them, and some sparse files and negative sizes keep it
busy for ever or end in a ValueError (Python 3.11.7; later ones mended some of it).
"""

import re
import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from luab_jax.byproducts.archives.forward_files import CHUNK

_MAX_EXTENSION = 1 << 20  # bytes; a path has 4 KiB, an extended attribute 64
_MAX_SIZE = 1 << 48  # bytes of a member: a position in the file has to stay a 64-bit integer
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX_RECORD = re.compile(rb'(\d{1,10}) ([^=\n]+)=')
_OCTAL = re.compile(rb'[0-7]+')


class Header(NamedTuple):
  """One member of a tar."""

  name: str  # bytes that are no UTF-8 are surrogate escapes
  size: int  # bytes of data behind the header
  is_file: bool  # a regular file that is not sparse
  is_dir: bool


def iter_headers(file: IO[bytes]) -> Iterator[Header]:
  """Yields the header of each member of a tar up to the block of zeros that ends it.

  Before going on, the caller may read the member's data, or the beginning of it, from the file.

  Args:
    file: has read(size), tell() and seek(position), which is only used forwards.

  Raises:
    tarfile.TarError: the tar is damaged or truncated.
  """
  while (header := _next_header(file)) is not None:
    end = file.tell() + -(-header.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    yield header
    if end > file.tell():
      file.seek(end - 1)
      if not file.read(1):
        raise tarfile.ReadError(f'unexpected end of data in {header.name!r:.80}')


def read_data(file: IO[bytes], size: int) -> bytes:
  """Reads that many bytes; a claim alone allocates no more than CHUNK bytes.

  Raises:
    EOFError: there are fewer.
  """
  parts, missing = [], size
  while missing and (data := file.read(min(missing, CHUNK))):
    parts.append(data)
    missing -= len(data)
  if missing:
    raise EOFError(f'unexpected end of data, {missing} of {size} bytes are missing')
  return parts[0] if len(parts) == 1 else b''.join(parts)


def _next_header(file) -> Header | None:
  """Returns the next member, its extension headers applied; None at the end of the tar."""
  extended: dict[bytes, bytes] = {}
  while True:
    block = file.read(tarfile.BLOCKSIZE)
    plain = _plain_header(block)
    if plain and not extended:
      return plain
    try:
      info = tarfile.TarInfo.frombuf(block, 'utf-8', 'surrogateescape')
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
      if extended:
        raise tarfile.ReadError('it ends behind an extension header') from None
      return None
    except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
      raise tarfile.ReadError('the end of the archive is missing') from error
    except tarfile.HeaderError as error:
      raise tarfile.ReadError(f'before byte {file.tell()}: {error}') from error
    if not 0 <= info.size <= _MAX_SIZE:
      raise tarfile.ReadError(f'before byte {file.tell()}: a size of {info.size} bytes')
    if info.type not in _EXTENSIONS:
      return _header(file, block, info, extended)
    data = _extension(file, info.size)
    if info.type in _PAX:
      extended |= _pax_records(data)
    elif info.type == tarfile.GNUTYPE_LONGNAME:
      extended[b'path'] = data.partition(b'\0')[0]
    # Global fields and the targets of links say nothing that is used here.


def _plain_header(block) -> Header | None:
  """Reads the header of a plain file with a short name 4 × faster than tarfile, else None.

  tarfile takes longer over a header than gzip over an average XML of ImageNet-AB.
  """
  plain = (
    len(block) == tarfile.BLOCKSIZE
    and block[156:157] == tarfile.REGTYPE
    and block[345:346] == b'\0'
    and block[135:136] in b'\0 '
    and block[:100].isascii()
  )
  if plain and _OCTAL.fullmatch(size := block[124:135]) and _OCTAL.fullmatch(block[148:154]):
    if int(block[148:154], 8) == sum(block) - sum(block[148:156]) + 8 * ord(' '):
      name = block[:100].partition(b'\0')[0].decode('ascii')
      return Header(name, int(size, 8), is_file=True, is_dir=False)
  return None


def _header(file, block, info, extended) -> Header:
  """Returns a member's header, changed as the pax records and long names before it say."""
  sparse = info.type == tarfile.GNUTYPE_SPARSE
  if sparse:
    _skip_sparse_map(file, block)
  sparse = sparse or any(key.startswith(b'GNU.sparse.') for key in extended)
  name = extended.get(b'GNU.sparse.name', extended.get(b'path'))
  size = extended.get(b'size')
  if size is not None and not re.fullmatch(rb'\d{1,14}', size):
    raise tarfile.ReadError(f'a pax header with a size of {size!r:.40}')
  size = info.size if size is None else int(size)
  has_data = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
  return Header(
    info.name if name is None else name.decode('utf-8', 'surrogateescape'),
    size if has_data else 0,
    is_file=info.isreg() and not sparse,
    is_dir=info.isdir(),
  )


def _extension(file, size) -> bytes:
  """Reads the data of an extension header, and the padding behind it."""
  if size > _MAX_EXTENSION:
    raise tarfile.ReadError(f'an extension header of {size} bytes')
  data = read_data(file, size)
  read_data(file, -size % tarfile.BLOCKSIZE)
  return data


def _pax_records(data) -> dict[bytes, bytes]:
  """Parses '<length> <key>=<value>' lines; the length is that of the whole line."""
  records, start = {}, 0
  data = data.rstrip(b'\0')
  while start < len(data):
    match = _PAX_RECORD.match(data, start)
    end = start + int(match[1]) if match else 0
    if not match or end <= match.end() or data[end - 1 : end] != b'\n':
      raise tarfile.ReadError('a damaged pax header')
    records[match[2]] = data[match.end() : end - 1]
    start = end
  return records


def _skip_sparse_map(file, block) -> None:
  """Passes over the blocks that list the pieces of an old sparse file."""
  more = block[482]
  while more:
    more = read_data(file, tarfile.BLOCKSIZE)[504]
