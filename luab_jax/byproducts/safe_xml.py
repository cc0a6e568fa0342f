"""Parses untrusted XML without expanding entities."""

from xml.etree import ElementTree

from luab_jax.byproducts import BadRecord


def parse(data: bytes) -> ElementTree.Element:
  """Returns the root of a document without a document type, which therefore declares no entities.

  UTF-8 is forced, whatever the file declares, so that a document type can be spelled only with the
  bytes searched for; UTF-16, which expat recognizes by its first two bytes, contains NUL bytes.

  Raises:
    BadRecord: it is not well-formed, or has a document type (which enables entity bombs) or NUL
      bytes.
  """
  if b'\0' in data or b'<!DOCTYPE' in data or b'<!ENTITY' in data:
    raise BadRecord('it has a document type or NUL bytes, which are refused')
  parser = ElementTree.XMLParser(encoding='utf-8')
  try:
    parser.feed(data)
    return parser.close()
  except ElementTree.ParseError as error:
    raise BadRecord(f'it is not well-formed XML ({error})') from error
