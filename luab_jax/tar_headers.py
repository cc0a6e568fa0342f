"""Tar headers as archives.py reads them: strictly, and the plain ones fast."""

import re
import tarfile

_OCTAL = re.compile(rb'[0-7]+')

class StrictTarInfo(tarfile.TarInfo):
  """tarfile takes a damaged header, or a file that just ends, for the end of the archive.

  Then all later members would be lost without a word. Only the two zero blocks end a tar here.
  """

  @classmethod
  def fromtarfile(cls, tar):
    try:
      return super().fromtarfile(tar)
    except tarfile.EmptyHeaderError as error:
      raise tarfile.ReadError('the end of the archive is missing') from error
    except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as error:
      raise tarfile.ReadError(f'at byte {tar.offset}: {error}') from error

  @classmethod
  def frombuf(cls, buf, encoding, errors):
    """Reads the header of a plain file with a short name 4 × faster than tarfile.

    Only what is used here, and only if the checksum fits; tarfile reads all other headers. It
    takes longer over a header than gzip over an average XML of ImageNet-AB.
    """
    name = buf[:100]
    plain = (len(buf) == tarfile.BLOCKSIZE and buf[156:157] == tarfile.REGTYPE
             and buf[345:346] == b'\0' and buf[135:136] in b'\0 ' and name.isascii())
    if plain and _OCTAL.fullmatch(size := buf[124:135]) and _OCTAL.fullmatch(buf[148:154]):
      if int(buf[148:154], 8) == sum(buf) - sum(buf[148:156]) + 8 * ord(' '):
        member = cls(name.partition(b'\0')[0].decode('ascii'))
        member.size = int(size, 8)
        return member
    return super().frombuf(buf, encoding, errors)
