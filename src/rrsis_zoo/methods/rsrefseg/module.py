"""RSRefSeg for Lightning."""

from rrsis_zoo.methods.rsrefseg.model import RSRefSeg
from rrsis_zoo.training.module import RRSISModule


class RSRefSegModule(RRSISModule):
    """Trains and evaluates `RSRefSeg`; for arguments see `RRSISModule`."""

    model_class = RSRefSeg
