"""The links of a study; the token is in the fragment, which browsers do not send."""

from typing import NamedTuple

from luab_jax.tools.annotate.study import Secrets, Study

_PROLIFIC = '?PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}&SESSION_ID={{%SESSION_ID%}}'


class Links(NamedTuple):
  """Full URLs."""

  everyone: str  # each browser that opens it becomes a worker
  personal: dict[str, str]  # by worker
  admin: str


def of(settings: Study, keys: Secrets, base: str) -> Links:
  """Returns the links of a study served at `base`, such as 'http://127.0.0.1:8000'."""
  query = _PROLIFIC if settings.platform == 'prolific' else ''
  return Links(
    f'{base}/w{query}#{keys.join}',
    {worker: f'{base}/w#{token}' for worker, token in keys.personal.items()},
    f'{base}/admin#{keys.admin}',
  )
