"""RMSIN for Lightning."""

from rrsis_zoo.methods.rmsin.model import RMSIN
from rrsis_zoo.training.module import RRSISModule


class RMSINModule(RRSISModule):
    """Trains and evaluates `RMSIN`; for arguments see `RRSISModule`."""

    model_class = RMSIN
