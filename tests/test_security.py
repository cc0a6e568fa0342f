"""Nothing read from outside can be executed; see SECURITY.md."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / 'configs').glob('*.py'))


# Modules that turn data into code or run code from files; see SECURITY.md.
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


# A pickle calls what its names stand for. In this file they only stand for its own functions.
_UNPICKLER = 'torch_pickle.py'


def _ways_to_execute(source):
  """Names of the imports, calls and options in Python source that could execute data."""
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
  # The check notices each of these.
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
  """Whether pickle is only used as the base of classes that resolve names themselves.

  Such a class defines find_class and persistent_load without calling the inherited ones.
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
  refusal = "raise BadTorchFile(\n      f'it refers to"
  assert refusal in source
  assert not _is_restricted_unpickler(
    source.replace(refusal, f'return super().find_class(module, name)\n    {refusal}')
  )
