"""The notebooks run from top to bottom with tiny settings and are stored without outputs."""

import json
import os
import pathlib
import re
import sys

import nbclient
import nbformat
import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))


def _code_cells(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == 'code']


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_bare_and_says_where_it_comes_from_once(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  cells = _code_cells(notebook)
  assert not [cell.source for cell in cells if cell.outputs or cell.execution_count], (
    f'python -m nbconvert --clear-output --inplace notebooks/{path.name}'
  )
  assert all(len(cell.source.splitlines()) <= 32 for cell in cells)
  assert cells[0].metadata.tags == ['parameters']
  text = '\n'.join(cell.source for cell in notebook.cells)
  assert len(re.findall(r"^REPO = '(https://github.com/\S+)'", text, re.M)) == 1
  repo = re.search(r"REPO = 'https://github.com/(\S+)'", text)[1]
  badge = f'https://colab.research.google.com/github/{repo}/blob/main/notebooks/{path.name}'
  assert badge in notebook.cells[0].source
  assert text.count(repo) == 2  # there and in the badge
  assert f"sed -i 's/{repo.split('/')[0]}/" in notebook.cells[0].source
  # Packages that must not be installed on a TPU runtime.
  installed = [line for line in text.splitlines() if re.match(r'\s*!.*install ', line)]
  assert installed
  for line in installed:
    assert not re.search(r'tensorflow-tpu|jax', line.partition('#')[0]), line


@pytest.fixture(scope='module')
def kernel(tmp_path_factory):
  """A kernel for all notebooks, because importing TensorFlow and JAX takes several CPU-seconds."""
  folder = tmp_path_factory.mktemp('jupyter')
  (folder / 'kernels' / 'this').mkdir(parents=True)
  (folder / 'kernels' / 'this' / 'kernel.json').write_text(
    json.dumps(
      {
        'argv': [sys.executable, '-m', 'ipykernel_launcher', '-f', '{connection_file}'],
        'display_name': 'this interpreter',
        'language': 'python',
      }
    )
  )
  with pytest.MonkeyPatch.context() as patch:
    for key, value in {
      'JUPYTER_PATH': os.fspath(folder),
      'JUPYTER_RUNTIME_DIR': os.fspath(folder),
      'PYTHONPATH': os.fspath(ROOT),
      'MPLBACKEND': 'module://matplotlib_inline.backend_inline',
      'IPYTHONDIR': os.fspath(folder / 'ipython'),
      'JAX_NUM_CPU_DEVICES': '1',
      'PATH': os.pathsep.join([os.path.dirname(sys.executable), os.environ['PATH']]),
    }.items():
      patch.setenv(key, value)
    client = nbclient.NotebookClient(nbformat.v4.new_notebook(), kernel_name='this')
    with client.setup_kernel():
      yield client.km


@pytest.fixture
def run_notebook(kernel, tmp_path):
  """Runs a notebook with other settings; returns (its text outputs, number of images drawn).

  Before it starts, the variables of earlier notebooks are removed.
  """

  def run(name, **settings):
    notebook = nbformat.read(ROOT / 'notebooks' / f'{name}.ipynb', as_version=4)
    parameters = _code_cells(notebook)[0]
    known = re.findall(r'\b([A-Z_]+)\b(?=[^#\n]*=)', parameters.source)
    assert settings.keys() <= set(known)
    source = '\n'.join(f'{key} = {value!r}' for key, value in settings.items())
    place = notebook.cells.index(parameters) + 1
    notebook.cells.insert(place, nbformat.v4.new_code_cell(source))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f'%reset -f\n%cd -q {tmp_path}'))
    nbclient.NotebookClient(notebook, km=kernel, timeout=None).execute()
    outputs = [output for cell in _code_cells(notebook) for output in cell.outputs]
    data = [output.get('data', {}) for output in outputs]
    text = ''.join(output.get('text', '') for output in outputs)
    assert 'os.fork()' not in text  # JAX warns about shell commands after its import
    return text + '\n'.join(d.get('text/markdown', '') for d in data), sum(
      'image/png' in d for d in data
    )

  run.folder = tmp_path
  return run


def test_byproducts_of_synthetic_releases(run_notebook):
  text, pictures = run_notebook('byproducts', RECORDS=60, PICTURES=4, EVERY=15)
  assert pictures == 4
  read = [int(number) for number in re.findall(r'^(\d+) records, 0 corrupt', text, re.M)]
  assert len(read) == 2 and all(50 <= number <= 60 for number in read)  # of 60 images, most
  assert [int(number) for number in re.findall(r'^\| of (\d+) images', text, re.M)] == read
  assert 'Points(x=array([' in text and 'left on the image: {' in text
  selected = float(re.search(r'\| selected, of \d+ times shown \| ([\d.]+)%', text)[1])
  assert 70 < selected < 100


def test_byproducts_of_files_that_are_named(run_notebook, shared):
  """The mini release has real photographs; the COCO records have no images here."""
  mini = shared / 'mini_release'
  archive = next((mini / 'imagenet_ab').glob('imagenet_ab_v1_0*'))
  text, pictures = run_notebook(
    'byproducts',
    IMAGENET_AB=os.fspath(archive),
    COCO_AB=os.fspath(shared / 'records/coco_ab_sample.json'),
    RECORDS=40,
    PICTURES=2,
  )
  assert pictures == 4 and 'luab_jax.tools.synthetic' not in text
  assert not (run_notebook.folder / 'data').exists()  # nothing was generated


def test_quickstart_compares_runs_with_and_without_clicks(run_notebook):
  text, pictures = run_notebook(
    'quickstart',
    TRAIN=80,
    VALIDATION=24,
    EPOCHS=1.0,
    REPORT_IMAGES=0,
    RUNS={'no clicks': ('spatial', 0.0), 'LUAB': ('spatial', 30.0)},
  )
  assert pictures == 2  # a batch, and where both models look
  rows = re.findall(r'^\| (no clicks|LUAB) \| .* \| (\S+) \|$', text, re.M)
  assert [name for name, _ in rows] == ['no clicks', 'LUAB']
  assert rows[0][1] == '-' and 0 < float(rows[1][1]) < 1
  assert (run_notebook.folder / 'runs/notebook/LUAB/summary.json').is_file()


def test_imagenet_ab_on_one_device(run_notebook, synthetic_imagenet_ab):
  text, pictures = run_notebook(
    'imagenet_ab_accelerators',
    DATA_DIR=synthetic_imagenet_ab,
    WORKDIR='run',
    IMAGES_PER_DEVICE=8,
    CHANGES={
      'data.name': 'imagenet_ab/local',
      'data.image_size': 32,
      'data.eval_resize': 32,
      'data.train_split': 'train[:80%]',
      'total_steps': 2,
      'model.name': 'tiny_conv',
      'data.eval_splits': {'validation': 'validation', 'heldout_clicks': 'train[80%:]'},
      'report_images': 0,
      'robustness.sets': (),
    },
  )
  assert pictures == 1
  assert '1 local devices, cpu' in text and re.search(r'^tensorflow(-cpu)? 2', text, re.M)
  assert re.search(r'^\d+ images/s on', text, re.M) and '2 steps on 1 x cpu' in text
  assert re.search(r'^\| heldout_clicks \| \d\.\d{3} \| \d\.\d{3} \|$', text, re.M)
  assert json.loads((run_notebook.folder / 'run/summary.json').read_text())['step'] == 2
