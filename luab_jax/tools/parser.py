"""The argument parser of the tools, with one-line errors."""

import argparse
from typing import NoReturn

from luab_jax.errors import UserError


class Parser(argparse.ArgumentParser):
  """Raises UserError for a mistake: one line that points to --help, without the usage text."""

  def error(self, message: str) -> NoReturn:
    raise UserError(f'{message}; see {self.prog} --help')
