"""The benchmark harness: its arithmetic, its tables, and the benchmarks in tiny form."""

import importlib
import json
import os
import subprocess
import sys
import time

import pytest

from benchmarks import harness, table
from benchmarks.__main__ import BENCHMARKS, main
from luab_jax import models


def test_alternatives_take_turns_to_and_fro():
  calls = []
  result = harness.compare(
    'case', {name: lambda name=name: calls.append(name) for name in 'ab'}, rounds=3
  )
  assert ''.join(calls) == 'baabbaab'
  assert result['rounds'] == 3 and set(result['alternatives']) == {'a', 'b'}
  assert 'images/s' not in result['alternatives']['a']


def test_ratios_are_those_of_neighbours():
  # On a machine that slows down, the ratio of the medians would be 20 / 10.
  first = [{'seconds': s} for s in (1, 10, 100)]
  turns = [{'seconds': s} for s in (3, 20, 300)]
  summary = harness.summarise(turns, first)['seconds']
  assert (summary['median'], summary['min'], summary['max']) == (20, 3, 300)
  assert summary['ratio'] == {'median': 3, 'min': 2, 'max': 3}
  assert 'ratio' not in harness.summarise([{'peak': 1.0}], [{'seconds': 1.0}])['peak']
  share = [{'waiting, %': 1.0}]  # a ratio of percentages is meaningless
  assert 'ratio' not in harness.summarise(share, share)['waiting, %']


def test_a_measurement_is_per_unit_and_what_the_work_says_takes_precedence():
  figures = harness.measure(lambda: (time.sleep(0.05), 5)[1], 'images')
  assert 0.01 <= figures['seconds'] < 0.05
  assert figures['images/s'] == pytest.approx(1 / figures['seconds'])
  assert figures['cpu_seconds'] < figures['seconds']  # it slept
  figures = harness.measure(lambda: (4, {'cpu_seconds': 0.5, 'peak_mib': 7}), 'images')
  assert figures['images/CPU-s'] == 2 and figures['peak_mib'] == 7


def test_a_fresh_process_is_charged_with_its_cpu_time_and_memory():
  work = harness.fresh_process(
    'import time\nx = b"1" * (64 << 20)\nwhile time.process_time() < 0.3: pass\n'
    'figures["units"] = 2'
  )
  figures = harness.measure(work, 'files')
  assert figures['cpu_seconds'] >= 0.15 and 64 < figures['peak_mib'] < 150
  with pytest.raises(subprocess.CalledProcessError):
    harness.fresh_process('raise SystemExit(3)')()


def test_goals():
  result = harness.compare(
    'case', {'a': lambda: (1, {'cost': 2.0}), 'b': lambda: (1, {'cost': 2.1})}, rounds=1
  )
  goal = harness.goal('b / a', harness.ratio(result, 'b', 'cost'), at_most=1.02)
  assert goal == {'what': 'b / a', 'goal': '≤ 1.02', 'found': pytest.approx(1.05), 'met': False}
  assert harness.goal('b', harness.median(result, 'b', 'cost'), at_least=2)['met']


def test_the_newest_result_is_kept_and_says_where_it_comes_from(tmp_path):
  path = tmp_path / 'results.jsonl'
  result = harness.compare('case', {'a': lambda: 3}, rounds=1, unit='images')
  for case, note in (('case', 'old'), ('another', ''), ('case', 'new')):
    result = {**result, 'case': case}
    harness.record('step', result, notes=[note], versions={'torch': '1'}, results=path)
  lines = harness.read_results(path)
  assert list(lines) == [('step', 'case'), ('step', 'another')]
  line = lines['step', 'case']
  assert line['benchmark'] == 'step' and line['notes'] == ['new']
  assert {'cpu', 'cores', 'ram_gib', 'load'} <= line['machine'].keys()
  assert {'python', 'jax', 'numpy', 'torch'} <= line['versions'].keys()


def _line(benchmark, case, seconds, **more):
  first = {
    'seconds': {
      'median': seconds,
      'min': seconds,
      'max': seconds + 1,
      'ratio': {'median': 1.0, 'min': 1.0, 'max': 1.0},
    }
  }
  second = {
    'seconds': {
      'median': 2 * seconds,
      'min': seconds,
      'max': 3 * seconds,
      'ratio': {'median': 2.0, 'min': 1.5, 'max': 2.5},
    }
  }
  return json.dumps(
    {
      'benchmark': benchmark,
      'case': case,
      'unit': 'steps',
      'rounds': 3,
      'show': ['seconds', 'none'],
      'alternatives': {'plain': first, 'a | b': second},
      'notes': ['A note.'],
      'time': 'today',
      'goals': [{'what': 'b / a', 'goal': '≤ 1.5', 'found': 2.0, 'met': False}],
      'command': f'python -m benchmarks {benchmark}',
      'commit': 'abc',
      'versions': {'jax': '0.10'},
      'machine': {'cpu': 'C', 'cores': 2, 'ram_gib': 8, 'load': 0.1},
      **more,
    }
  )


def test_the_table_has_every_result(tmp_path):
  results = tmp_path / 'results.jsonl'
  cases = [_line('step', 'one', 100), _line('input_pipeline', 'x', 7)]
  results.write_text('\n'.join([*cases, _line('step', 'two', 6, goals=[])]) + '\n')
  lines = table.in_order(harness.read_results(results).values())
  assert [(line['benchmark'], line['case']) for line in lines] == [
    ('input_pipeline', 'x'),
    ('step', 'one'),
    ('step', 'two'),
  ]  # sorted by name
  goals = table.goals(lines).splitlines()
  assert goals[3] == '| one: b / a | ≤ 1.5 | 2 | **not met** | `python -m benchmarks step` |'
  assert any('not run' in row and 'imagenet_ab_build' in row for row in goals)
  assert not any('not run' in row and 'input_pipeline' in row for row in goals)
  text = table.everything(lines)
  assert '| steps | seconds | ratio |' in text and 'none' not in text
  assert '| plain | 100 (100…101) | 1 |' in text
  assert '| a / b | 200 (100…300) | 2 (1.5…2.5) |' in text
  assert 'C, 2 cores, 8 GiB, load 0.1' in text and 'A note.' in text


def test_the_table_is_put_between_its_markers(tmp_path):
  path = tmp_path / 'page.md'
  path.write_text('before\n<!-- benchmarks:all -->\nold\n<!-- benchmarks:end -->\nafter\n')
  for _ in range(2):
    table.fill(path, {'all': r'new \1', 'goals': 'not asked for'})
  assert path.read_text() == (
    'before\n<!-- benchmarks:all -->\nnew \\1\n<!-- benchmarks:end -->\nafter\n'
  )


def test_a_damaged_result_is_named(tmp_path):
  path = tmp_path / 'results.jsonl'
  path.write_text(_line('step', 'one', 5) + '\n{"half of\n')
  with pytest.raises(SystemExit, match='results.jsonl, line 2 is no result'):
    harness.read_results(path)


def test_the_command_lists_and_runs_them(monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['benchmarks'])
  assert main() == 0
  said = capsys.readouterr().out
  assert [name for name in BENCHMARKS if f'  {name} ' not in said] == []
  monkeypatch.setattr(sys, 'argv', ['benchmarks', 'nothing'])
  assert main() == 2 and "'nothing'" in capsys.readouterr().err
  for name in BENCHMARKS.keys() - {'augment_parity', 'timm_parity'}:  # these need torch
    assert callable(importlib.import_module(f'benchmarks.{name}').main), name


@pytest.fixture
def tiny(monkeypatch, tmp_path):
  """Runs a benchmark in its tiny form; returns {case: line of its results}."""
  # No blocks at all: these tests spend most of their time compiling.
  monkeypatch.setitem(models.VITS, 'tiny_vit', (16, 0, 2, 8))

  def run(name, *options):
    path = tmp_path / 'results.jsonl'
    monkeypatch.setattr(
      sys, 'argv', ['benchmarks', name, '--tiny', '--rounds=1', f'--results={path}', *options]
    )
    assert not main()
    return {case: line for (_, case), line in harness.read_results(path).items()}

  return run


def test_coco_ab_read_in_its_tiny_form(tiny):
  (line,) = tiny('coco_ab_read').values()
  assert list(line['alternatives']) == ['json.load', 'read', 'joined with the instances']
  assert [goal['goal'] for goal in line['goals']] == ['≤ 6', '≤ 1430']


@pytest.mark.slow
def test_imagenet_ab_build_in_its_tiny_form(tiny, monkeypatch, capfd):
  for name in [name for name in os.environ if name.startswith('TF_')]:
    monkeypatch.delenv(name)  # set by conftest.py
  lines = tiny('imagenet_ab_build')
  assert list(lines) == ['20 XMLs out of the tar.gz', 'building imagenet_ab of 21 images']
  line = lines['building imagenet_ab of 21 images']
  assert list(line['alternatives']) == ['TFDS, images alone', 'luab_jax']
  assert capfd.readouterr().err == ''  # TensorFlow announces nothing in a benchmark


@pytest.mark.slow
def test_augment_in_its_tiny_form(tiny, synthetic_imagenet_ab):
  pixels, mixed = tiny('augment', f'--data_dir={synthetic_imagenet_ab}').values()
  assert list(pixels['alternatives']) == ['TrivialAugment']
  assert list(mixed['alternatives']) == ['with MixUp or CutMix']
  assert mixed['alternatives']['with MixUp or CutMix']['cpu_seconds']['median'] > 0


@pytest.mark.slow
def test_step_in_its_tiny_form(tiny):
  (line,) = tiny('step').values()
  assert list(line['alternatives']) == ['plain cross entropy', 'LUAB, linear head']
  assert line['goals'][0]['goal'] == '≤ 1.02'


@pytest.mark.slow
def test_scaling_in_its_tiny_form(tiny):
  (line,) = tiny('scaling').values()
  (figures,) = line['alternatives'].values()
  assert figures['compile, CPU-s']['median'] > 0
  assert figures['communication, %']['median'] < 100


@pytest.mark.slow
def test_annotate_in_its_tiny_form(tiny):
  (line,) = tiny('annotate').values()
  assert list(line['alternatives']) == ['fdatasync of 4 KB, meanwhile', 'batch', 'submit']
  lost, twice, _ = line['goals']
  assert (lost['found'], twice['found']) == (0, 0)
  assert line['alternatives']['submit']['sent']['median'] == 4 * (3 + 1) * 60


def test_scaling_on_paper_follows_its_formulas():
  from benchmarks import paper

  h100 = paper.MACHINES[0]
  assert paper.all_reduce_seconds(h100, 25_561_130) == pytest.approx(
    2 * 7 / 8 * 4 * 25_561_130 / 450e9 + 14 * 2e-6
  )
  assert paper.step_seconds(h100, 23.8e9, 0.5) == pytest.approx(256 * 23.8e9 / (989.4e12 / 2))
  from benchmarks.harness import ROOT

  assert paper.tables()[0] in (ROOT / 'docs' / 'scaling.md').read_text()


@pytest.mark.slow
def test_gpu_in_its_tiny_form_on_a_cpu(tiny, synthetic_imagenet_ab, tmp_path, capfd):
  lines = tiny(
    'gpu',
    '--batch=4',
    '--size=16',
    '--steps=1',
    f'--data_dir={synthetic_imagenet_ab}',
    f'--trace={tmp_path / "trace"}',
    '--torch_python=' + sys.executable,
  )
  there, read = lines.values()
  assert 'from JPEG to step' in read['case']
  assert any('timm: not run, No module named' in note for note in there['notes'])
  assert list(there['alternatives']) == ['cross entropy', 'LUAB, linear head']
  assert 0 < there['alternatives']['LUAB, linear head']['of the roofline, %']['median'] < 100
  assert any('cores would keep the card busy' in note for note in read['notes'])
  said = capfd.readouterr().out
  assert 'longest operations' in said and list((tmp_path / 'trace').rglob('*.xplane.pb'))


def test_gpu_without_a_gpu_is_not_run(monkeypatch, capsys, tmp_path):
  path = tmp_path / 'results.jsonl'
  monkeypatch.setattr(sys, 'argv', ['benchmarks', 'gpu', f'--results={path}'])
  assert main() == 1 and 'not run, JAX sees no GPU' in capsys.readouterr().out
  assert not path.exists()
