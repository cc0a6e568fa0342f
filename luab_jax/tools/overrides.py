"""Checks config overrides on the command line, with one-line errors."""

import ast
import difflib
import re
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import tuple_parser

from luab_jax.errors import UserError

FREE_SECTION = 'data.eval_splits'  # users choose its keys
_OVERRIDE = re.compile(r'--?(no)?config\.([^=]*)(?:=(.*))?', re.DOTALL)
# type of a key: (its values in words, the parser of its flag)
_TYPES: dict[type, tuple[str, flags.ArgumentParser]] = {
  bool: ('true or false', flags.BooleanParser()),
  int: ('a whole number', flags.IntegerParser()),
  float: ('a number', flags.FloatParser()),
}


def check(arguments: Sequence[str], config: ConfigDict) -> None:
  """Checks every override, and adds new splits to data.eval_splits.

  Args:
    arguments: the arguments of the command line.
    config: the locked config that they override.

  Raises:
    UserError: there is no such key, or it does not take the value.
  """
  keys = flatten(config)
  for argument, following in zip(arguments, [*arguments[1:], '--'], strict=True):
    if argument == '--':
      return
    if match := _OVERRIDE.fullmatch(argument):
      no, key, value = match.groups()
      default = _default(key, keys, config)
      if no and not isinstance(default, bool):
        raise UserError(f"{argument}: 'no' is for keys that are true or false")
      if value is None and not isinstance(default, bool):
        if re.match(r'-(-|[a-z])', following):
          raise UserError(f'--config.{key} needs a value, as in {_example(key, default)}')
        value = following
      if value is not None:
        _check_value(key, value, default)


def _default(key: str, keys: dict[str, Any], config: ConfigDict) -> Any:
  """The value of a key before it is set; raises UserError if there is no such key."""
  parent, _, split = key.rpartition('.')
  if parent == FREE_SECTION and split.isidentifier():
    if split not in config.data.eval_splits:
      with config.unlocked():
        config.data.eval_splits[split] = ''
    return ''
  if section := [name for name in keys if name.startswith(f'{key}.')]:
    raise UserError(f"'{key}' is a section of the config: set {', '.join(section)}")
  if key not in keys:
    raise UserError(f"the config has no key '{key}'{suggest(key, keys)}")
  return keys[key]


def _check_value(key: str, text: str, default: Any) -> None:
  if text.startswith('=') or text != text.strip():
    raise UserError(f'--config.{key}={text}: no space around =, as in {_example(key, default)}')
  kind, parser = _TYPES.get(type(default), ('a tuple', flags.ArgumentParser()))
  try:
    if isinstance(default, dict):
      kind = 'a dict'
      dict(ast.literal_eval(text))
    elif isinstance(default, tuple):
      values = tuple_parser.TupleParser().parse(text)
      if default and not isinstance(default[0], str):
        kind = 'a tuple of numbers'
        [float(value) for value in values]
    parser.parse(text)
  except (ValueError, TypeError, SyntaxError) as error:
    raise UserError(
      f'--config.{key}={text}: {key} is {kind}, as in {_example(key, default)}'
    ) from error


def _example(key: str, value: Any) -> str:
  text = f'--config.{key}={value}' if value != '' else f'--config.{key}=VALUE'
  return f'"{text}"' if ' ' in text else text


def suggest(key: str, keys: dict[str, Any]) -> str:
  """Suggests the keys of a section, keys with the same name elsewhere, or similar spellings."""
  key = re.sub(r'[^\w.]+', '_', key).strip('._').lower()
  near = [name for name in keys if name.startswith(key + '.')] if key else []
  near = near or [name for name in keys if name.rpartition('.')[2] == key.rpartition('.')[2]]
  near = near or difflib.get_close_matches(key, keys)
  if near:
    return f'; did you mean {", ".join(near)}?'
  sections = dict.fromkeys(name.split('.')[0] for name in keys if '.' in name)
  if '.' in key and key.split('.')[0] not in sections:
    return f' and no such section: there are {", ".join(sections)}'
  return '; --help_config lists them all'


def suggest_flag(flag: str, keys: dict[str, Any]) -> str:
  """Suggests keys for a flag that does not exist, such as --batch_size or --config-batch_size."""
  key = re.sub(r'^(no)?config\W*_?', '', flag, flags=re.IGNORECASE)
  near = suggest(key, keys)
  return re.sub(r'(?<= )(?=[\w.]+[,?])', '--config.', near) if near.endswith('?') else ''


def flatten(config: ConfigDict, prefix: str = '') -> dict[str, Any]:
  """Returns a config as {'data.flip': True, ...}."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, ConfigDict) and f'{prefix}{key}' != FREE_SECTION:
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value.to_dict() if isinstance(value, ConfigDict) else value
  return flat
