"""The control for Lightning."""

from typing import ClassVar

from rrsis_zoo.training.module import RRSISModule


class ControlModule(RRSISModule):
    """Trains and evaluates `rrsis_zoo.models.control.Control`; arguments as `RRSISModule`."""

    method: ClassVar[str] = "control"
