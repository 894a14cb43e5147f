"""RSRefSeg for Lightning."""

from typing import ClassVar

from rrsis_zoo.training.module import RRSISModule


class RSRefSegModule(RRSISModule):
    """Trains and evaluates `rrsis_zoo.models.rsrefseg.RSRefSeg`; arguments as `RRSISModule`."""

    method: ClassVar[str] = "rsrefseg"
