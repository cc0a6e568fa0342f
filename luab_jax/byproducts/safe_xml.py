"""Parses XML of unknown origin without expanding entities."""

from xml.etree import ElementTree

from luab_jax.byproducts import BadRecord


def parse(data: bytes) -> ElementTree.Element:
  """Returns the root of a document without a document type, which therefore declares no entities.

  The encoding is fixed to UTF-8, whatever the file declares, so that the bytes looked for are the
  only spelling of a document type; UTF-16, which expat recognizes by its first two bytes, would
  contain NUL bytes.

  Raises:
    BadRecord: it is not well-formed, or has a document type (the way to entity bombs) or NUL bytes.
  """
  if b'\0' in data or b'<!DOCTYPE' in data or b'<!ENTITY' in data:
    raise BadRecord('it has a document type or NUL bytes, which are refused')
  parser = ElementTree.XMLParser(encoding='utf-8')
  try:
    parser.feed(data)
    return parser.close()
  except ElementTree.ParseError as error:
    raise BadRecord(f'it is not well-formed XML ({error})') from error
