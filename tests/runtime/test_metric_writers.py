"""TensorBoard and Weights & Biases: what a run logs there, read back from their own files."""

import io
import json
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from luab_jax.errors import UserError
from luab_jax.report.data_page import first_images
from luab_jax.report.draw_run import train_and_report
from luab_jax.runtime import hosts, metric_writers
from luab_jax.train import loop, metric_log, metrics_file
from tests.short_run import short_config


@pytest.fixture
def wandb_home(tmp_path, monkeypatch):
  """W&B without an account or a network, writing only below tmp_path."""
  home = tmp_path / 'home'
  home.mkdir()
  for name in ('HOME', 'WANDB_CONFIG_DIR', 'WANDB_CACHE_DIR', 'WANDB_DATA_DIR'):
    monkeypatch.setenv(name, str(home))
  for name in ('WANDB_API_KEY', 'WANDB_PROJECT', 'WANDB_RUN_ID', 'WANDB_RESUME'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('WANDB_SILENT', 'true')
  monkeypatch.setenv('WANDB_MODE', 'offline')
  monkeypatch.setenv('WANDB_BASE_URL', 'http://127.0.0.1:9')
  import wandb

  yield
  wandb.teardown()  # otherwise the package reads these variables only once per process


def _config(data_dir, steps, **eval_splits):
  """`steps`: 9, as in tests/train, so that compiled steps are shared, or 12."""
  config = short_config(data_dir)
  config.total_steps = steps
  config.eval_every_epochs = 0.0
  config.report_images = 2
  config.data.eval_splits = eval_splits
  config.wandb = True
  return config


def _tensorboard(workdir):
  """{tag: [(step, summary value)]} of all event files, oldest first."""
  from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

  found = {}
  for path in sorted((workdir / 'tensorboard').iterdir()):
    for event in EventFileLoader(str(path)).Load():
      for value in event.summary.value:
        found.setdefault(value.tag, []).append((event.step, value))
  return found


def _wandb_runs(workdir):
  """The records of each offline run, oldest first: protobufs in LevelDB's log format."""
  import wandb
  from wandb.proto.wandb_internal_pb2 import Record

  wandb.teardown()  # its service writes the end of the file after `finish` has returned
  runs = []
  for path in sorted(workdir.glob('wandb/offline-run-*/run-*.wandb')):
    content, place, whole, records = path.read_bytes(), 7, b'', []  # after the file's own header
    while place + 7 <= len(content):
      rest = 32768 - place % 32768
      if rest < 7:  # too little space in the block for a record header
        place += rest
        continue
      _, size, kind = struct.unpack('<IHB', content[place : place + 7])
      whole += content[place + 7 : place + 7 + size]
      place += 7 + size
      if kind in (1, 4):  # a whole record, or the last part of one
        records.append(Record.FromString(whole))
        whole = b''
    runs.append(records)
  return runs


def _history(records):
  """{step: {name: value}} of an offline run."""
  lines = {}
  for record in records:
    if record.WhichOneof('record_type') == 'history':
      items = {
        '/'.join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item
      }
      lines.setdefault(items.pop('_step'), {}).update(items)
  return lines


@pytest.mark.slow
def test_both_writers_show_a_run_and_its_continuation(
  synthetic_imagenet_ab, tmp_path, wandb_home, capfd
):
  workdir = tmp_path / 'run'
  loop.train_and_evaluate(_config(synthetic_imagenet_ab, 9), workdir, draw_batch=first_images)
  assert 'planned' not in capfd.readouterr().err
  config = _config(synthetic_imagenet_ab, 12, clicks='train[:30%]')
  summary = train_and_report(config, workdir).summary
  assert 'planned for 9 steps and now has 12: at step 9 the' in capfd.readouterr().err
  lines = metrics_file.read_lines(workdir)
  assert [line['step'] for line in lines if line['split'] == 'train'] == [2, 4, 6, 8, 10, 12]
  assert [line['step'] for line in lines if line['split'] == 'clicks'] == [12]
  _check_tensorboard(_tensorboard(workdir), lines)

  runs = _wandb_runs(workdir)
  assert len(runs) == 2
  started = [next(r.run for r in records if r.HasField('run')) for records in runs]
  assert {run.run_id for run in started} == {(workdir / 'wandb_id.txt').read_text()}
  config = {item.key: json.loads(item.value_json) for item in started[1].config.update}
  assert config['batch_size'] == 32 and config['optimizer']['momentum'] == 0.9
  first, second = map(_history, runs)
  assert min(second) == 10  # continues without repeating steps
  shown = first | second
  for line in lines:
    for name, value in line.items():
      if isinstance(value, int | float) and name != 'step':
        assert shown[line['step']][f'{line["split"]}/{name}'] == pytest.approx(value, rel=1e-12)
  assert shown[0]['training/count'] == 2 and shown[12]['predictions/count'] == 2
  finals = {
    item.key: json.loads(item.value_json)
    for record in runs[1]
    if record.HasField('summary')
    for item in record.summary.update
    if item.key
  }
  assert finals['results.clicks.top1'] == summary['results']['clicks']['top1']
  newest = max(workdir.glob('wandb/offline-run-*'))
  page = (workdir / 'report.html').read_text()
  assert [p.read_text() for p in newest.glob('files/media/html/*.html')] == [page]


def _group(name):
  curves = ('loss', 'class_loss', 'point_loss', 'top1', 'click_error')
  return 'main' if name in curves else 'more'


def _check_tensorboard(values, lines):
  from tensorboard.plugins.hparams import api_pb2, metadata
  from tensorboard.util import tensor_util

  for line in lines:
    for name, value in line.items():
      if isinstance(value, int | float) and name != 'step':
        told = {
          step: float(tensor_util.make_ndarray(shown.tensor))
          for step, shown in values[f'{_group(name)}/{name}/{line["split"]}']
        }
        assert told[line['step']] == pytest.approx(value, rel=1e-6)
  groups = [tag.partition('/')[0] for tag in sorted(values) if not tag.startswith('_')]
  assert groups[0] == 'main' and set(groups) == {'main', 'more', 'predictions', 'training'}
  assert 'more/images_per_s/train' in values
  for tag, when, size in (('training', [0], (240, 240)), ('predictions', [12], (488, 240))):
    assert f'{tag}/1' in values and f'{tag}/2' not in values
    assert [step for step, _ in values[f'{tag}/0']] == when  # the training images only once
    picture = tensor_util.make_ndarray(values[f'{tag}/0'][0][1].tensor)[2]
    with Image.open(io.BytesIO(picture)) as image:
      assert image.size == size and np.asarray(image).std() > 10
  (_, start), (_, again) = values[metadata.SESSION_START_INFO_TAG]
  starts = [
    metadata.parse_session_start_info_plugin_data(v.metadata.plugin_data.content)
    for v in (start, again)
  ]
  assert starts[0].group_name == starts[1].group_name
  assert [s.hparams['total_steps'].number_value for s in starts] == [9, 12]
  assert starts[0].hparams['model.head'].string_value == 'spatial'
  assert starts[0].hparams['data.flip'].bool_value is True
  _, end = values[metadata.SESSION_END_INFO_TAG][-1]
  status = metadata.parse_session_end_info_plugin_data(end.metadata.plugin_data.content).status
  assert status == api_pb2.STATUS_SUCCESS


@pytest.mark.slow
def test_a_network_that_is_down_leaves_the_run_to_a_later_upload(
  synthetic_imagenet_ab, tmp_path, wandb_home, monkeypatch, capfd
):
  monkeypatch.setenv('WANDB_MODE', 'online')
  monkeypatch.setenv('WANDB_API_KEY', 40 * 'a')
  monkeypatch.setenv('WANDB_INIT_TIMEOUT', '1')
  with metric_writers.open_metric_writers(tmp_path, _config(synthetic_imagenet_ab, 4)) as opened:
    opened.scalars(2, 'train', {'loss': 1.5, 'by_class': {}})
  said = capfd.readouterr().err
  assert 'Weights & Biases cannot be reached' in said and 'wandb sync' in said
  (run,) = _wandb_runs(tmp_path)
  assert _history(run)[2]['train/loss'] == 1.5


@pytest.mark.slow
def test_wandb_without_an_account_or_the_package_is_a_line(
  synthetic_imagenet_ab, tmp_path, wandb_home, monkeypatch
):
  config = _config(synthetic_imagenet_ab, 4)
  monkeypatch.setenv('WANDB_MODE', 'online')
  with pytest.raises(UserError, match='wandb login.*WANDB_MODE=offline'):
    metric_writers.open_metric_writers(tmp_path, config)
  monkeypatch.setitem(sys.modules, 'wandb', None)
  with pytest.raises(UserError, match='pip install "wandb>=0.31"'):
    metric_writers.open_metric_writers(tmp_path, config)


def test_only_the_main_host_writes(synthetic_imagenet_ab, tmp_path, monkeypatch):
  monkeypatch.setattr(hosts, 'is_main_host', lambda: False)
  with metric_writers.open_metric_writers(tmp_path, _config(synthetic_imagenet_ab, 4)) as opened:
    opened.scalars(2, 'train', {'loss': 1.5})
    assert opened.num_images == 0
  assert not any(tmp_path.iterdir())


def test_a_writer_that_fails_is_dropped_and_the_log_goes_on(tmp_path, capfd):
  (tmp_path / 'tensorboard').write_text('in the way')
  config = short_config('unused')
  with metric_writers.open_metric_writers(tmp_path, config) as opened:
    log = metric_log.RunLog(tmp_path, config, total_steps=10, num_examples=8, writers=opened)
    for step in (1, 2, 3):
      log.write(step, 'validation', {'top1': 0.5})
    log.close()
  assert [line['step'] for line in metrics_file.read_lines(tmp_path)] == [1, 2, 3]
  assert capfd.readouterr().err.count('TensorBoard cannot be written') == 1
