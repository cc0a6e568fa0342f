"""The rooms (subpackages) of luab_jax: which may import which, as in docs/architecture.md."""

import ast
import functools
import graphlib
import importlib.metadata
import pathlib
import re
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Packages that a room must not import, not even inside a function.
DRAWING = {'matplotlib', 'jinja2'}
FORBIDDEN = {
  'byproducts': {'tensorflow', 'tensorflow_datasets', 'jax', 'flax', *DRAWING},
  'data': {'jax', 'flax', *DRAWING},
  'runtime': {'flax', *DRAWING},
  **dict.fromkeys(('models', 'evaluate', 'train'), DRAWING),
}


def _imports(path):
  """Full names of everything that a file imports, also inside functions."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative import'
      names |= {f'{node.module}.{alias.name}' for alias in node.names}
  return names


@functools.cache
def _graph(folder):
  """{module: names that it imports} of one of the project's packages."""
  return {
    '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): _imports(path)
    for path in sorted((ROOT / folder).rglob('*.py'))
  }


def _room(name):
  """The room that a dotted name belongs to; '' for luab_jax itself and for other packages."""
  parts = name.split('.')
  there = parts[0] == 'luab_jax' and len(parts) > 1 and (ROOT / 'luab_jax' / parts[1]).is_dir()
  return parts[1] if there else ''


def _table():
  """{room: rooms it may import} from the table in docs/architecture.md."""
  rows = re.findall(r'^\| `(\w+)` \|.*\|(.*)\|$', (ROOT / 'docs/architecture.md').read_text(), re.M)
  return {room: set(re.findall(r'`(\w+)`', allowed)) for room, allowed in rows}


def test_the_table_names_the_rooms_there_are():
  folders = {path.name for path in (ROOT / 'luab_jax').iterdir() if path.is_dir()}
  assert _table().keys() == folders - {'__pycache__'}
  files = {path.name for path in (ROOT / 'luab_jax').iterdir() if path.is_file()}
  assert files <= {'__init__.py', 'errors.py', 'py.typed'}, 'a file outside of all rooms'


def test_the_table_has_no_cycle():
  assert len(list(graphlib.TopologicalSorter(_table()).static_order())) == 8


def test_rooms_import_what_the_table_allows():
  table = _table()
  for module, names in _graph('luab_jax').items():
    room = _room(module)
    for name in names:
      if (other := _room(name)) and other != room:
        assert room and other in table[room], f'{module} imports {name}'


def test_modules_have_no_cycle():
  graph = _graph('luab_jax') | _graph('tfds_builders')
  # `from package import name` imports the package, and the module `name` if there is one.
  known = {
    module: {n for name in names for n in (name, name.rpartition('.')[0]) if n in graph} - {module}
    for module, names in graph.items()
  }
  graphlib.TopologicalSorter(known).prepare()  # CycleError names the cycle


@pytest.mark.parametrize(('room', 'packages'), FORBIDDEN.items())
def test_rooms_without_a_package(room, packages):
  modules = {m: names for m, names in _graph('luab_jax').items() if _room(m) == room}
  assert modules
  for module, names in modules.items():
    assert not packages & {name.split('.')[0] for name in names}, module


def test_the_library_imports_neither_configs_nor_builders():
  for module, names in _graph('luab_jax').items():
    assert not {'configs', 'tfds_builders'} & {name.split('.')[0] for name in names}, module


def test_builders_import_readers_alone():
  allowed = ('luab_jax.byproducts', 'luab_jax.data.image_files', 'luab_jax.errors')
  for module, names in _graph('tfds_builders').items():
    if not module.endswith('_test'):
      for name in names:
        assert not _room(name) or name.startswith(allowed), f'{module} imports {name}'


def test_pmap_is_called_in_one_file():
  users = [p.name for p in (ROOT / 'luab_jax').rglob('*.py') if 'jax.pmap(' in p.read_text()]
  assert users == ['parallel.py']


def test_what_is_imported_is_declared():
  listed = re.findall(r'^[a-z][\w-]+', (ROOT / 'requirements.txt').read_text(), re.M)
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  listed += [
    re.match(r'[\w-]+', e)[0] for x in project['optional-dependencies'].values() for e in x
  ]
  distributions = importlib.metadata.packages_distributions()
  ours = {'luab_jax', 'configs', 'tfds_builders'} | sys.stdlib_module_names
  undeclared = {}
  for module, names in (_graph('luab_jax') | _graph('tfds_builders')).items():
    for name in {name.split('.')[0] for name in names} - ours:
      found = ['protobuf'] if name == 'google' else distributions[name]
      if module.endswith('_test') or {d.lower().replace('_', '-') for d in found} & set(listed):
        continue
      undeclared[name] = module
  assert undeclared == {}
  assert len(listed) > 20
