"""RSRefSeg 2 for Lightning."""

from rrsis_zoo.methods.rsrefseg2.model import RSRefSeg2
from rrsis_zoo.training.module import RRSISModule


class RSRefSeg2Module(RRSISModule):
    """Trains and evaluates `RSRefSeg2`; for arguments see `RRSISModule`."""

    model_class = RSRefSeg2
