"""RefSegRS (Yuan et al., TGRS 2024, arXiv 2306.08625): grey TIFF masks, phrases from templates.

Every phrase has its own id with its own copy of the image; the mask is the union of all instances that match.
Foreground is above grey level 50, as in the loaders of the LAVT family.
"""

from __future__ import annotations

from functools import partial

from rrsis_zoo.data.cards import REFSEGRS
from rrsis_zoo.data.categories import Categories
from rrsis_zoo.data.phrases import PhraseLayout, find_phrases, read_phrases

CATEGORIES = Categories(
    (
        "road",
        "vehicle",
        "car",
        "van",
        "building",
        "truck",
        "trailer",
        "bus",
        "road marking",
        "bikeway",
        "sidewalk",
        "tree",
        "low vegetation",
        "impervious surface",
    )
)

LAYOUT = PhraseLayout(
    card=REFSEGRS,
    image_folders=("images", "images2"),
    mask_folders=("masks", "masks2"),
    suffix=".tif",
    threshold=50,
    categories=CATEGORIES,
)

find_refsegrs = partial(find_phrases, layout=LAYOUT)
read_refsegrs = partial(read_phrases, layout=LAYOUT)
