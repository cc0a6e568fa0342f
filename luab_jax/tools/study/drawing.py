"""The arms of a study as drawings: one for each network, as SVG."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jinja2

from luab_jax.report.style import PALETTE
from luab_jax.tools.study import plan

_WIDTH, _TOP, _ROW = 380, 60, 23
_CONTROLS = {'none': 'clicks', 'shuffled': 'shuffled clicks', 'uniform': 'random clicks'}


def draw_arms(result: Mapping[str, Any]) -> list[str]:
  """An <svg> for each network, with the arms below their heads.

  Args:
    result: as returned by `study.run_study`.
  """
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
  )
  template = environment.get_template('arms.svg.jinja')
  drawings = []
  for network in dict.fromkeys(result['networks'].values()):
    names = [name for name, arm in result['arms'].items() if arm['network'] == network]
    heads, y = [], _TOP
    for head in ('linear', 'spatial'):
      arms = [name for name in names if plan.ARMS[name].head == head]
      if arms:
        rows = [
          {'y': y + _ROW * (i + 1), **_describe(name, result['arms'][name])}
          for i, name in enumerate(arms)
        ]
        heads.append({'name': head, 'y': y, 'arms': rows})
        y += _ROW * (len(arms) + 1) + 8
    drawings.append(
      template.render(
        width=_WIDTH,
        height=y - 8,
        network=network,
        heads=heads,
        label=f'Arms of the network {network}: {", ".join(names)}',
        colors={'point': PALETTE[0], 'map': PALETTE[2]},
      )
    )
  return drawings


def _describe(name: str, arm: Mapping[str, Any]) -> dict[str, Any]:
  planned = plan.ARMS[name]
  weight = arm['point_weight'] or arm['map_weight']
  note = 'no clicks'
  if planned.loss:
    note = f'{_CONTROLS[planned.control]}, {planned.loss} loss, λ = {weight:g}'
  return {
    'name': name,
    'loss': planned.loss or 'none',
    'control': planned.control != 'none',
    'note': note,
  }
