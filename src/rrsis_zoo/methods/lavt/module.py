"""LAVT for Lightning."""

from rrsis_zoo.methods.lavt.model import LAVT
from rrsis_zoo.training.module import RRSISModule


class LAVTModule(RRSISModule):
    """Trains and evaluates `LAVT`; for arguments see `RRSISModule`."""

    model_class = LAVT
