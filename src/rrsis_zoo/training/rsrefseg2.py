"""RSRefSeg 2 for Lightning."""

from typing import ClassVar

from rrsis_zoo.training.module import RRSISModule


class RSRefSeg2Module(RRSISModule):
    """Trains and evaluates `rrsis_zoo.models.rsrefseg2.RSRefSeg2`; arguments as `RRSISModule`."""

    method: ClassVar[str] = "rsrefseg2"
