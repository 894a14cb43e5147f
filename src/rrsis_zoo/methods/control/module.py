"""The control for Lightning."""

from rrsis_zoo.methods.control.model import Control
from rrsis_zoo.training.module import RRSISModule


class ControlModule(RRSISModule):
    """Trains and evaluates `Control`; for arguments see `RRSISModule`."""

    model_class = Control
