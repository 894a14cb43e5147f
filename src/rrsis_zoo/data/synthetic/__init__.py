"""Synthetic aerial scenes with verified expressions: a dataset for this field, available immediately.

Real RRSIS data is gigabytes of downloads under unclear licences. These scenes are generated in seconds on a CPU, in
RRSIS-D's layout, so that every command of the zoo can be tried and every kind of mistake counted. Scores on them are
not a ranking: they are toys.

* `make_synthetic` writes the dataset; `make_sample` gives one scene as arrays.
* `contact_sheet` draws expressions with their masks, to look at.
* `make_wide_scene` gives a scene of 512 to 4096 px whose sentences are true of one object of all of it; `make_scenes`
  writes such scenes as GeoTIFFs with the truth as polygons.
* `mask_ceiling` gives the highest IoU that a coarse mask can reach.

How sentences are read, and when one is accepted, is stated in `rrsis_zoo.data.synthetic.language`.
"""

from rrsis_zoo.data.synthetic.ceiling import mask_ceiling, stride_iou
from rrsis_zoo.data.synthetic.draw import CATEGORIES
from rrsis_zoo.data.synthetic.geofiles import LAYERS, WideSummary, make_scenes
from rrsis_zoo.data.synthetic.language import HELD_OUT, KINDS
from rrsis_zoo.data.synthetic.sheet import contact_sheet
from rrsis_zoo.data.synthetic.wide import (
    WIDE_KINDS,
    Fitting,
    WideObject,
    WideScene,
    WideSentence,
    make_wide_scene,
)
from rrsis_zoo.data.synthetic.write import GENERATOR_VERSION, SIDECAR, Sample, Summary, make_sample, make_synthetic

__all__ = [
    "CATEGORIES",
    "GENERATOR_VERSION",
    "HELD_OUT",
    "KINDS",
    "LAYERS",
    "SIDECAR",
    "WIDE_KINDS",
    "Fitting",
    "Sample",
    "Summary",
    "WideObject",
    "WideScene",
    "WideSentence",
    "WideSummary",
    "contact_sheet",
    "make_sample",
    "make_scenes",
    "make_synthetic",
    "make_wide_scene",
    "mask_ceiling",
    "stride_iou",
]
