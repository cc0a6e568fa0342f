"""Measures alternatives in turns within one run, and keeps the newest result of each case.

A benchmark is a module with `main()`, named in benchmarks/__main__.py:

  def main():
    options = harness.parser(__doc__).parse_args()
    result = harness.compare('training, 224 px', {'PIL': read_with_pil, 'luab_jax': read},
                             rounds=options.rounds, unit='images', show=['images/CPU-s'])
    ratio = harness.ratio(result, 'luab_jax', 'images/CPU-s')
    goals = [harness.goal('luab_jax / PIL', ratio, at_least=1.3)]
    harness.record('input_pipeline', result, goals, results=options.results)

An alternative is a function that does some work and returns the number of units done (None: 1), or
(units, {figure: number}) with further figures, which take precedence over those measured here:

  seconds          wall time per unit
  cpu_seconds      user and system time per unit, of this process and of those it waited for
  <unit>/s, <unit>/CPU-s   their inverses, if the units have a name

The machine may do other work: alternatives take turns, ratios are taken within a round, and CPU
time is less disturbed than wall time. This file imports only the standard library, so that whatever
is measured has not been imported before.
"""

import argparse
import datetime
import gc
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks' / 'results.jsonl'
_LOAD_AT_START = os.getloadavg()
_PACKAGES = (
  'jax jaxlib flax optax orbax-checkpoint numpy tensorflow tensorflow-cpu tensorflow-datasets '
  'pillow simplejpeg torch torchvision timm apache-beam'
).split()


def parser(doc, *, rounds=5):
  """An argparse.ArgumentParser with --rounds and --results; `doc`: the module's docstring."""
  result = argparse.ArgumentParser(description=doc.splitlines()[0])
  result.add_argument('--rounds', type=int, default=rounds, help='turns of every alternative')
  result.add_argument('--results', type=pathlib.Path, default=RESULTS, help='file of results')
  return result


def compare(case, alternatives, *, rounds, unit='', warmup=1, show=('seconds',)):
  """Measures alternatives in turns and prints their figures.

  Args:
    case: what is compared, in a few words; its newest result is kept.
    alternatives: {name: function}, see the module's docstring; ratios are to the first.
    rounds: int > 0, how often each is measured.
    unit: plural name of what the functions count.
    warmup: rounds before the measured ones.
    show: the figures that the table shows.

  Returns:
    {case, unit, rounds, show, alternatives: {name: {figure: summary}}}, see `summarise`.
  """
  measured = {name: [] for name in alternatives}
  for number in range(-warmup, rounds):
    # In alternating order, so that a change in the machine's speed does not favour one of them.
    names = list(alternatives)[:: -1 if number % 2 else 1]
    for name in names:
      figures = measure(alternatives[name], unit)
      if number >= 0:
        measured[name].append(figures)
  first = next(iter(measured.values()))
  result = {
    'case': case,
    'unit': unit,
    'rounds': rounds,
    'show': list(show),
    'alternatives': {name: summarise(turns, first) for name, turns in measured.items()},
  }
  print(case)
  for name, figures in result['alternatives'].items():
    shown = (f'{key} {format_spread(figures[key])}' for key in show if key in figures)
    print(f'  {name}:', ', '.join(shown), flush=True)
  return result


def measure(work, unit=''):
  """{figure: number} of one call of an alternative, see the module's docstring."""
  gc.collect()
  cpu, began = cpu_seconds(), time.perf_counter()
  done = work()
  seconds, cpu = time.perf_counter() - began, cpu_seconds() - cpu
  units, more = done if isinstance(done, tuple) else (done, {})
  units = 1 if units is None else units
  figures = {'seconds': seconds / units, 'cpu_seconds': cpu / units, **more}
  if unit:
    per_second = {f'{unit}/s': 'seconds', f'{unit}/CPU-s': 'cpu_seconds'}
    figures = {name: 1 / figures[key] for name, key in per_second.items()} | figures
  return figures


def summarise(turns, first):
  """{figure: {median, min, max, ratio}} of one alternative.

  Args:
    turns: [{figure: number}], one per round.
    first: the same for the alternative that it is compared with. `ratio` is {median, min, max} of
      the ratios within a round; percentages have none, nor do figures that are missing or 0 in
      `first`.
  """
  summary = {}
  for key in turns[0]:
    values = [turn[key] for turn in turns]
    summary[key] = _spread(values)
    others = [turn.get(key) for turn in first]
    if all(others) and not key.endswith('%'):
      summary[key]['ratio'] = _spread([a / b for a, b in zip(values, others, strict=True)])
  return summary


def _spread(values):
  return {'median': statistics.median(values), 'min': min(values), 'max': max(values)}


def cpu_seconds():
  """User and system time so far of this process, its threads, and processes it waited for."""
  usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
  return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def fresh_process(code, *, units=None, python=sys.executable, **environment):
  """An alternative that runs Python code in a new process, start-up included.

  Args:
    code: source, run in the root of the project. It may fill the dict `figures`; 'units' in it is
      the number of units. `peak_mib`, the peak resident memory, is added.
    units: their number, if the code does not set it.
    python: the interpreter.
    environment: further variables.

  Returns:
    A function for `compare`; raises CalledProcessError if the code fails.
  """
  code = f'figures = {{}}\n{code}\nfrom benchmarks import harness\nharness.leave_figures(figures)\n'

  def work():
    said = subprocess.run(
      [python, '-c', code],
      cwd=ROOT,
      env={**os.environ, **environment},
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    ).stdout
    figures = json.loads(said.splitlines()[-1])
    return figures.pop('units', units), figures

  return work


def leave_figures(figures):
  """Ends the code of a `fresh_process`: prints the figures and this process's peak memory."""
  status = pathlib.Path('/proc/self/status').read_text()
  # Not ru_maxrss, which starts at the value of the parent process.
  peak = next(line for line in status.splitlines() if line.startswith('VmHWM')).split()[1]
  print(json.dumps({'peak_mib': int(peak) / 1024, **figures}))


def median(result, alternative, figure):
  """The median of a figure in a result of `compare`."""
  return result['alternatives'][alternative][figure]['median']


def ratio(result, alternative, figure):
  """The median ratio of a figure to that of the first alternative."""
  return result['alternatives'][alternative][figure]['ratio']['median']


def goal(what, found, *, at_most=None, at_least=None):
  """A goal, which the number `found` meets or not; pass either `at_most` or `at_least`."""
  met = found <= at_most if at_least is None else found >= at_least
  target = f'≤ {at_most:g}' if at_least is None else f'≥ {at_least:g}'
  return {'what': what, 'goal': target, 'found': found, 'met': bool(met)}


def read_results(path):
  """{(benchmark, case): line} of a file of results."""
  lines = {}
  for number, text in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
    try:
      line = json.loads(text)
      lines[line['benchmark'], line['case']] = line
    except (ValueError, KeyError) as error:
      raise SystemExit(f'{path}, line {number} is no result ({error!r}): delete it') from error
  return lines


def record(benchmark, result, goals=(), *, notes=(), versions=None, results=RESULTS):
  """Writes a result to the results file, in place of an older one, and prints the goals.

  Args:
    benchmark: its name on the command line.
    result: from `compare`, or any dict with 'case'.
    goals: from `goal`.
    notes: sentences that belong to the figures: settings, what was left out and why.
    versions: {package: version} of other environments that took part.
    results: path of the file.
  """
  for each in goals:
    met = 'met' if each['met'] else 'NOT met'
    print(f'  {each["what"]}: {digits(each["found"])}, goal {each["goal"]}: {met}')
  line = {
    'benchmark': benchmark,
    **result,
    'goals': list(goals),
    'notes': list(notes),
    'time': datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d %H:%M UTC'),
    'command': ' '.join(['python -m benchmarks', benchmark, *sys.argv[1:]]),
    'commit': _commit(),
    'machine': machine(),
    'versions': {**_versions(), **(versions or {})},
  }
  lines = read_results(results) if results.is_file() else {}
  lines[benchmark, result['case']] = line
  text = ''.join(json.dumps(each, ensure_ascii=False) + '\n' for each in lines.values())
  results.write_text(text, encoding='utf-8')


def machine():
  """{cpu, cores, ram_gib, load}; load is the one-minute average at the start."""
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
  return {
    'cpu': names[0] if names else platform.processor() or platform.machine(),
    'cores': cores,
    'ram_gib': round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30),
    'load': round(_LOAD_AT_START[0], 1),
  }


def _versions():
  found = {'python': platform.python_version()}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def _commit():
  """The commit, followed by + if tracked files were changed; '' outside git."""

  def git(*arguments):
    return subprocess.run(['git', *arguments], cwd=ROOT, capture_output=True, text=True).stdout

  changed = git('status', '--porcelain', '--untracked-files=no').splitlines()
  changed = [line for line in changed if not line.endswith(RESULTS.name)]
  return git('rev-parse', '--short', 'HEAD').strip() + ('+' if changed else '')


def format_spread(spread):
  """'median (min…max)' to three significant digits."""
  text, least, most = (digits(spread[key]) for key in ('median', 'min', 'max'))
  return text if least == most else f'{text} ({least}…{most})'


def digits(number):
  """A number to three significant digits, rounded to an integer from 100 on."""
  return f'{number:,.0f}' if abs(number) >= 100 else f'{number:.3g}'
