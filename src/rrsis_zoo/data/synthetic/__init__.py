"""Synthetic aerial scenes with verified expressions: a dataset of this field that anyone has at once.

Real RRSIS data is gigabytes of downloads under unclear licences. These scenes are made in seconds on a CPU, in the
layout of RRSIS-D, so that every command of the zoo can be tried and every kind of mistake can be counted. Scores on
them rank nothing: they are a toy.

* `make_synthetic` writes the dataset; `make_sample` gives one scene as arrays.
* `contact_sheet` draws expressions with their masks, to look at.
* `mask_ceiling` says how much of the IoU a coarse mask can reach at all.

How sentences are read, and when one is accepted, is stated in `rrsis_zoo.data.synthetic.language`.
"""

from rrsis_zoo.data.synthetic.ceiling import mask_ceiling, stride_iou
from rrsis_zoo.data.synthetic.draw import CATEGORIES
from rrsis_zoo.data.synthetic.language import HELD_OUT, KINDS
from rrsis_zoo.data.synthetic.sheet import contact_sheet
from rrsis_zoo.data.synthetic.write import GENERATOR_VERSION, SIDECAR, Sample, Summary, make_sample, make_synthetic

__all__ = [
    "CATEGORIES",
    "GENERATOR_VERSION",
    "HELD_OUT",
    "KINDS",
    "SIDECAR",
    "Sample",
    "Summary",
    "contact_sheet",
    "make_sample",
    "make_synthetic",
    "mask_ceiling",
    "stride_iou",
]
