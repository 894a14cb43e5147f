"""Zero-shot SAM 3 for Lightning, which only evaluates it."""

from rrsis_zoo.methods.sam3_zeroshot.model import SAM3ZeroShot
from rrsis_zoo.training.module import RRSISModule


class SAM3ZeroShotModule(RRSISModule):
    """Evaluates `SAM3ZeroShot`; for arguments see `RRSISModule`."""

    model_class = SAM3ZeroShot
