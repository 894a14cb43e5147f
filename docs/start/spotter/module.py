"""Spotter for Lightning."""

from rrsis_zoo.training.module import RRSISModule
from spotter.model import Spotter


class SpotterModule(RRSISModule):
    """Trains and evaluates `Spotter`; arguments as `RRSISModule`."""

    model_class = Spotter
