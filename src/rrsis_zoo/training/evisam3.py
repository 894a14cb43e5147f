"""EviSAM3 for Lightning."""

from typing import ClassVar

from rrsis_zoo.training.module import RRSISModule


class EviSAM3Module(RRSISModule):
    """Trains and evaluates `rrsis_zoo.models.evisam3.EviSAM3`; arguments as `RRSISModule`."""

    method: ClassVar[str] = "evisam3"
