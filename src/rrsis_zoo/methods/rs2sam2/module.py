"""RS2-SAM2 for Lightning."""

from rrsis_zoo.methods.rs2sam2.model import RS2SAM2
from rrsis_zoo.training.module import RRSISModule


class RS2SAM2Module(RRSISModule):
    """Trains and evaluates `RS2SAM2`; for arguments see `RRSISModule`.

    Also logs ``val/miou+oiou``, by which the authors select their checkpoint.
    """

    model_class = RS2SAM2

    def on_validation_epoch_end(self) -> None:
        """Log ``val/…`` and the sum of mIoU and oIoU."""
        super().on_validation_epoch_end()
        values = self.metrics.compute()
        self.log("val/miou+oiou", float(values["miou"] + values["oiou"]))
