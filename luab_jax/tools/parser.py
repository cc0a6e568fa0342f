"""The command lines of the tools: a mistake is one line."""

import argparse
from typing import NoReturn

from luab_jax.errors import UserError


class Parser(argparse.ArgumentParser):
  """Raises a mistake as UserError, one line that names --help, without the usage before it."""

  def error(self, message: str) -> NoReturn:
    raise UserError(f'{message}; see {self.prog} --help')
