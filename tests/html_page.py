"""Parses HTML pages for tests. Not a test itself."""

import base64
import html.parser
import io
from xml.etree import ElementTree

import numpy as np
import PIL.Image


class Page(html.parser.HTMLParser):
  """The content of a page; fails on unclosed tags and event handlers, collects addresses."""

  VOID = frozenset({'meta', 'link', 'img'})

  def __init__(self, path):
    super().__init__()
    self.images, self.tags, self.text, self.open, self.addresses = [], set(), '', [], []
    self.code = []
    self.feed(path.read_text(encoding='utf-8'))
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.tags.add(tag)
    assert not [name for name in attrs if name.startswith('on')]
    self.addresses += [attrs[name] for name in ('src', 'href') if name in attrs]
    if tag == 'img':
      self.images.append(attrs)
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data
    if self.open and self.open[-1] == 'code':
      self.code.append(data)

  def check(self):
    """Images decode, are not blank and have alt texts; nothing is loaded from elsewhere."""
    assert 'script' not in self.tags and self.images
    assert all(address.startswith(('data:', '#')) for address in self.addresses)
    assert 'url(' not in self.text and '@import' not in self.text
    for image in self.images:
      assert len(image['alt']) > 10
      kind, content = image['src'].split('base64,')
      content = base64.b64decode(content)
      if 'svg' in kind:
        tags = [element.tag for element in ElementTree.fromstring(content).iter()]
        assert sum(tag.endswith(('path', 'text')) for tag in tags) > 10, image['alt']
        continue
      pixels = np.asarray(PIL.Image.open(io.BytesIO(content)).convert('RGB'))
      assert min(pixels.shape[:2]) >= 100 and pixels.std() > 10, image['alt']
    return self
