"""COCO's 80 classes on the eleven pages of icons of the authors' interface."""

from luab_jax.tools.synthetic.coco_release import CATEGORIES
from luab_jax.tools.synthetic.icons import PAGES

_PAGE_OF = {group: page for page, groups in PAGES for group in groups}

# (class name, name of its page as in the release), in the order of COCO's category ids.
CLASSES = tuple((category['name'], _PAGE_OF[category['supercategory']]) for category in CATEGORIES)
GROUPS = tuple(page for page, _ in PAGES)

_TITLES = {
  'PersonAccessory': 'People and accessories',
  'Animal': 'Animals',
  'Vehicle': 'Vehicles',
  'OutdoorObj': 'Outdoors',
  'Sports': 'Sports',
  'Kitchenware': 'Kitchenware',
  'Food': 'Food',
  'Furniture': 'Furniture',
  'Appliance': 'Appliances',
  'Electronics': 'Electronics',
  'IndoorObjects': 'Indoors',
}


def title(group: str) -> str:
  """Returns the title of a page of icons, as workers read it; other groups keep their names."""
  return _TITLES.get(group, group)
