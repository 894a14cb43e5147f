"""RISBench (Dong et al., arXiv 2410.08613): PNG masks, long free-form sentences, no category file.

There is no official loader. All but a few masks are two-valued; foreground is above grey level 0.
"""

from __future__ import annotations

from functools import partial

from rrsis_zoo.data.cards import RISBENCH
from rrsis_zoo.data.categories import Categories
from rrsis_zoo.data.phrases import PhraseLayout, find_phrases, read_phrases

CATEGORIES = Categories(
    (
        "expressway service area",
        "expressway toll station",
        "ground track field",
        "basketball court",
        "container crane",
        "roundabout",
        "windmill",
        "overpass",
        "stadium",
        "bridge",
        "soccer ball field",
        "baseball diamond",
        "train station",
        "golf field",
        "airport",
        "harbor",
        "dam",
        "ship",
        "helipad",
        "vehicle",
        "chimney",
        "airplane",
        "helicopter",
        "tennis court",
        "storage tank",
        "swimming pool",
    ),
    {
        "airplane": ("plane", "aircraft", "aeroplane"),
        "vehicle": ("car", "truck", "bus"),
        "baseball diamond": ("baseball field",),
        "soccer ball field": ("soccer field",),
        "ground track field": ("track and field", "track field"),
        "expressway toll station": ("toll station",),
        "expressway service area": ("service area",),
        "golf field": ("golf course",),
        "ship": ("vessel", "boat"),
        "chimney": ("cooling tower",),
        "harbor": ("harbour", "dock", "pier"),
    },
)

LAYOUT = PhraseLayout(
    card=RISBENCH,
    image_folders=("img_rgb", "images"),
    mask_folders=("mask", "masks"),
    suffix="",
    threshold=0,
    categories=CATEGORIES,
)

find_risbench = partial(find_phrases, layout=LAYOUT)
read_risbench = partial(read_phrases, layout=LAYOUT)
