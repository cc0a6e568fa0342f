"""Writes a folder in the layout of a builder's `local` config, and prints the next commands."""

import pathlib
import shlex
from collections.abc import Callable

from luab_jax.errors import UserError
from luab_jax.evaluate.evidence import shortcomings
from luab_jax.tools import output_folder
from luab_jax.tools.own_data.problems import Problems, shorten_table

_SEEDS = 5  # of a study, as in configs/default.py


def write(
  out: pathlib.Path,
  command: str,
  title: str,
  name: str,
  convert: Callable[[pathlib.Path, Problems], list[str]],
) -> None:
  """Converts, then prints counts, problems and the next commands.

  Args:
    out: the output folder.
    command: name of the writing command, see `output_folder.replacing`.
    title: title of the printed summary and of README.txt.
    name: the builder and its config, such as 'imagenet_ab/local'.
    convert: writes the files into an empty folder; returns the lines of a table.

  Raises:
    UserError: `convert` raised it, or the folder cannot be written.
  """
  try:
    with output_folder.replacing(out, command) as folder:
      with open(
        folder / 'problems.csv', 'w', encoding='utf-8', errors='backslashreplace', newline=''
      ) as file:
        problems = Problems(file)
        table = convert(folder, problems)
      lines = problems.format(out / 'problems.csv')
      commands = ['', *_next_commands(out, name, problems)]
      text = '\n'.join([title, *lines, *table, *commands])
      (folder / 'README.txt').write_text(text + '\n', encoding='utf-8', errors='backslashreplace')
  except OSError as error:
    raise UserError(f'cannot write to --out={out}: {error}') from error
  print('\n'.join([f'{title}: {out}', *lines, *shorten_table(table), *commands]), flush=True)


def _next_commands(out: pathlib.Path, name: str, problems: Problems) -> list[str]:
  """Returns lines with the commands that build, plot, train and predict."""
  build = ['python', '-m', 'tfds_builders.build', name]
  build += [f'--manual_dir={out}', f'--data_dir={out}/built']
  if (out / 'built' / name).exists():
    build.append('--overwrite')
  workdir = f'--workdir=runs/{out.resolve().name}'
  train = ['python', 'run.py', '--config=configs/own_data.py']
  train.append(f'--config.data.data_dir={out}/built')
  if not name.startswith('imagenet_ab'):
    train.append(f'--config.data.name={name}')
  clicks = problems.number('click kept') + problems.number('icon kept')
  study = [*train, '--mode=study', f'{workdir}_study']
  if not clicks:
    train.append('--config.loss.point_weight=0')
  train.append(workdir)
  predict = ['python', 'run.py', '--mode=predict', workdir, 'IMAGE']
  commands = (build, [*train, '--mode=plot'], train, predict)
  lines = ['Next, from the folder of run.py:', *('  ' + shlex.join(c) for c in commands)]
  if clicks:
    images = {'validation': problems.number('image for validation')}
    lines += ['Did the clicks help? See docs/own_data.md:', f'  {shlex.join(study)}']
    lines += [f'  Warning: {line}' for line in shortcomings(images, clicks=clicks, seeds=_SEEDS)]
  return lines
