"""The settings of a study that are sent to the worker's page."""

from collections.abc import Sequence
from typing import Any

from luab_jax.tools.annotate import coco_pages
from luab_jax.tools.annotate.study import Class, Study


def of(study: Study) -> dict[str, Any]:
  """What is embedded in the worker's page, as JSON that is not executed."""
  return {
    'title': study.title,
    'task': study.task,
    'consent': {'what': study.about, 'contact': study.contact},
    'page_size': study.page_size,
    'pages': study.pages_per_worker,
    'pointer': study.pointer,
    'blur': study.blur,
    'track': study.track,
    'require_all_pages': study.require_all_pages,
    **icons(study.classes if study.task == 'icons' else [], study.groups),
  }


def icons(classes: Sequence[Class], groups: Sequence[str]) -> dict[str, Any]:
  """The icons that a page offers, and the titles of the pages of icons."""
  return {
    'classes': [
      {
        'name': icon.name,
        'group': coco_pages.title(icon.group),
        'icon': f'/i/{icon.icon}' if icon.icon else None,
      }
      for icon in classes
    ],
    'groups': [coco_pages.title(group) for group in groups],
  }
