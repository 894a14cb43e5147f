"""Says at the start of a training how many expressions have no target, and which losses leave them out."""

from __future__ import annotations

from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.models.base import ReferringSegmenter


class NoTargets(Callback):
    """Names the loss terms that leave out the expressions which by the dataset's own word have no target."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, RRSISDataModule):
            return
        records = data.records("train")
        if not (lacking := sum(record.no_target for record in records)):
            return
        terms = sorted(cast(ReferringSegmenter, pl_module.model).needs_referent)
        left_out = f"left out of {', '.join(terms)}, which need one" if terms else "part of every loss term"
        rank_zero_info(f"{lacking:,} of {len(records):,} training expressions have no target; they are {left_out}")
