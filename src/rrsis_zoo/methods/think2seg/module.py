"""Think2Seg-RS for Lightning, which only evaluates it."""

from rrsis_zoo.methods.think2seg.model import Think2Seg
from rrsis_zoo.training.module import RRSISModule


class Think2SegModule(RRSISModule):
    """Evaluates `Think2Seg`; for arguments see `RRSISModule`."""

    model_class = Think2Seg
