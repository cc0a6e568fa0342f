"""Small archives for tests."""

import io
import tarfile
import zipfile


def make_tar(members, mode='w'):
  """Returns the bytes of a tar of [(name or TarInfo, bytes)]."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode=mode) as tar:
    for member, data in members:
      info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))
  return file.getvalue()


def make_zip(members):
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
    for member, data in members:
      archive.writestr(member, data)
  return file.getvalue()


def write(path, data):
  path.write_bytes(data)
  return path


MEMBERS = [('a/1.xml', b'one'), ('a/._1.xml', b'companion'), ('b/2.xml', b''), ('c', b'x' * 70_000)]
KEPT = [(name, data) for name, data in MEMBERS if '._' not in name]
PACKS = {'tar': make_tar, 'tgz': lambda members: make_tar(members, 'w:gz'), 'zip': make_zip}
