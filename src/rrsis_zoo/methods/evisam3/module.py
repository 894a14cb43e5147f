"""EviSAM3 for Lightning."""

from rrsis_zoo.methods.evisam3.model import EviSAM3
from rrsis_zoo.training.module import RRSISModule


class EviSAM3Module(RRSISModule):
    """Trains and evaluates `EviSAM3`; for arguments see `RRSISModule`."""

    model_class = EviSAM3
