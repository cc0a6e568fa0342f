"""The rooms and the doors between them: imports, configs, who may know what."""

import ast
import importlib.metadata
import importlib.util
import pathlib
import re
import sys
import tomllib

import pytest

from luab_jax.tools import cli

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / 'configs').glob('[!_]*.py'))


def _imports():
  """{module of the project: names of the modules it imports}, also inside functions."""
  graph = {}
  for path in [*(ROOT / 'luab_jax').rglob('*.py'), *(ROOT / 'tfds_builders').rglob('*.py')]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        names |= {alias.name for alias in node.names}
      elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
    parts = path.relative_to(ROOT).with_suffix('').parts
    graph['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = names
  return graph


def test_what_is_imported_is_declared():
  listed = re.findall(r'^[a-z][\w-]+', (ROOT / 'requirements.txt').read_text(), re.M)
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  listed += [
    re.match(r'[\w-]+', e)[0] for x in project['optional-dependencies'].values() for e in x
  ]
  distributions = importlib.metadata.packages_distributions()
  ours = {'luab_jax', 'configs', 'tfds_builders'} | sys.stdlib_module_names
  undeclared = {}
  for module, names in _imports().items():
    for name in {name.split('.')[0] for name in names} - ours:
      found = ['protobuf'] if name == 'google' else distributions[name]
      if module.endswith('_test') or {d.lower().replace('_', '-') for d in found} & set(listed):
        continue
      undeclared[name] = module
  assert undeclared == {}
  assert len(listed) > 20


def test_imports_have_no_cycle():
  graph = {module: names - {module} for module, names in _imports().items()}
  graph = {module: names & graph.keys() for module, names in graph.items()}
  done, under_way = set(), []

  def visit(module):
    assert module not in under_way, ' -> '.join([*under_way, module])
    if module in done:
      return
    under_way.append(module)
    for name in sorted(graph[module]):
      visit(name)
    done.add(under_way.pop())

  for module in graph:
    visit(module)
  assert len(done) > 15


def test_the_library_knows_neither_configs_nor_builders():
  for module, names in _imports().items():
    if module.startswith('luab_jax'):
      assert not [n for n in names if n.split('.')[0] in ('configs', 'tfds_builders')], module


@pytest.mark.parametrize(
  ('package', 'rooms'),
  [
    # Raw records are plain Python and numpy; coordinates and pipeline know no model.
    ('tensorflow', ['luab_jax.byproducts', 'luab_jax.tools.synthetic']),
    (
      'jax',
      [
        'luab_jax.byproducts',
        'luab_jax.tools.synthetic',
        'luab_jax.data.geometry',
        'luab_jax.data.pipeline',
        'luab_jax.data.tfrecords',
        'luab_jax.data.targets',
        'tfds_builders',
      ],
    ),
    (
      'flax',
      ['luab_jax.runtime.checkpoint', 'luab_jax.runtime.parallel', 'luab_jax.train.metric_log'],
    ),
  ],
)
def test_rooms_without_a_package(package, rooms):
  graph = _imports()
  for room in rooms:
    modules = [m for m in graph if m == room or m.startswith(room + '.')]
    assert modules, room
    for module in modules:
      assert package not in {name.split('.')[0] for name in graph[module]}, (module, package)


def test_pmap_lives_in_one_file():
  users = [p.name for p in (ROOT / 'luab_jax').rglob('*.py') if 'jax.pmap(' in p.read_text()]
  assert users == ['parallel.py']


# What turns data into code, or runs what a file says; see SECURITY.md.
_MODULES = {
  'pickle',
  'cPickle',
  'dill',
  'cloudpickle',
  'joblib',
  'marshal',
  'shelve',
  'torch',
  'yaml',
  'jsonpickle',
  'importlib',
  'runpy',
  'code',
}
_READ_ONLY = {'importlib.metadata'}  # versions of what is installed
_CALLS = {
  'eval',
  'exec',
  'compile',
  '__import__',
  'os.system',
  'os.popen',
  'tfds.load',
  'tfds.builder',
  'os.execv',
  'os.execvp',
  'os.spawnv',
}


# A pickle calls what its names stand for. Here they stand for functions of this file alone.
_UNPICKLER = 'torch_pickle.py'


def _ways_to_execute(source):
  """Names of the imports, calls and options in Python source that would execute data."""
  found = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names if alias.name.split('.')[0] in _MODULES}
    elif isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] in _MODULES:
      found |= {node.module} - _READ_ONLY
    elif isinstance(node, ast.Call):
      name = ast.unparse(node.func)
      found |= {name} & _CALLS
      if name in ('np.load', 'numpy.load') and 'allow_pickle' not in {w.arg for w in node.keywords}:
        found.add(name)
      found |= {
        keyword.arg
        for keyword in node.keywords
        if keyword.arg in ('shell', 'allow_pickle') and ast.unparse(keyword.value) != 'False'
      }
  return found


def test_nothing_that_is_read_can_be_executed():
  paths = [
    ROOT / 'run.py',
    *CONFIGS,
    *(ROOT / 'luab_jax').rglob('*.py'),
    *(p for p in (ROOT / 'tfds_builders').rglob('*.py') if not p.name.endswith('_test.py')),
  ]
  assert len(paths) > 50
  found = {p.name: names for p in paths if (names := _ways_to_execute(p.read_text()))}
  assert found == {_UNPICKLER: {'pickle'}}
  (path,) = [p for p in paths if p.name == _UNPICKLER]
  assert _is_restricted_unpickler(path.read_text())
  # It would be noticed.
  for line in (
    'import pickle',
    'from torch import load',
    'def f():\n  import yaml',
    'eval(x)',
    'np.load(x)',
    'np.load(x, allow_pickle=True)',
    'numpy.load(x)',
    'f(x, shell=True)',
    'g(x, allow_pickle=y)',
    'os.system(x)',
    'from importlib import import_module',
  ):
    assert _ways_to_execute(line), line
  assert not _ways_to_execute('model.eval(); re.compile(x); np.load(x, allow_pickle=False)')


def _is_restricted_unpickler(source):
  """Whether pickle serves only as the base of classes that choose themselves what names mean.

  Such a class defines find_class and persistent_load without a call of the inherited ones.
  """
  tree = ast.parse(source)
  uses = sorted(
    ast.unparse(node)
    for node in ast.walk(tree)
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == 'pickle'
  )
  classes = [
    node
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef) and 'pickle.Unpickler' in map(ast.unparse, node.bases)
  ]
  methods = [
    {f.name: ast.unparse(f) for f in node.body if isinstance(f, ast.FunctionDef)}
    for node in classes
  ]
  return (
    set(uses) == {'pickle.Unpickler', 'pickle.UnpicklingError'}
    and uses.count('pickle.Unpickler') == len(classes)
    and 'getattr' not in source
    and all(
      'super()' not in code and '.find_class(' not in code
      for found in methods
      for code in (found['find_class'], found['persistent_load'])
    )
  )


def test_an_unpickler_that_is_not_restricted_would_be_noticed():
  (path,) = (ROOT / 'luab_jax').rglob(_UNPICKLER)
  source = path.read_text()
  assert not _is_restricted_unpickler(source + '\npickle.loads(b"")')
  assert not _is_restricted_unpickler(source + '\npickle.Unpickler(file).load()')
  refusal = "raise BadTorchFile(\n      f'it names"
  assert refusal in source
  assert not _is_restricted_unpickler(
    source.replace(refusal, f'return super().find_class(module, name)\n    {refusal}')
  )


def _load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_locked_and_says_what_it_is(path):
  module = _load(path)
  with pytest.raises(AttributeError, match='Did you mean "momentum"'):
    module.get_config().optimizer.momentun = 0.9
  if path.stem == 'default':
    return
  for word in ('Paper:', 'Command', 'Hardware:', 'Expected:'):
    assert word in module.__doc__, f'{path.name}: its docstring says nothing of {word}'


def test_every_key_of_the_default_config_has_a_comment():
  source = (ROOT / 'configs/default.py').read_text()
  text = cli.describe(_load(ROOT / 'configs/default.py').get_config(), source)
  keys = re.findall(r'^  c\.([\w.]+) = (?!ml_collections)', source, re.M)
  assert len(keys) > 60
  for key in keys:
    assert re.search(rf'^{key} = .+\n    \S', text, re.M), key


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_its_model_and_schedules(path):
  from luab_jax import models
  from luab_jax.train import optimizer

  config = _load(path).get_config()
  coco = config.data.name.startswith('coco_ab')
  classes = 80 if coco else 10
  models.build_model(
    config.model, num_classes=classes, num_points=classes if coco else 1, multi_label=coco
  )
  schedules = optimizer.make_schedules(config, 1000, 10)
  optimizer.make_optimizer(config.optimizer, schedules.learning_rate)
  assert float(schedules.learning_rate(1000)) == pytest.approx(0, abs=1e-6)
