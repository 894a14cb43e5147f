"""Warns once per split about sentences that are longer than a method reads, with their number."""

from __future__ import annotations

from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from rrsis_zoo.data.datamodule import RRSISDataModule


class CutSentences(Callback):
    """Warns about every split with sentences that are too long, when it is first used.

    Data that do not come from our data module are not checked.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook."""
        self._tell(trainer, pl_module, "train")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook; the tokenizer was set up in the previous one."""
        self._tell(trainer, pl_module, "fit_eval_split")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook."""
        self._tell(trainer, pl_module, "test_split")

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook."""
        self._tell(trainer, pl_module, "predict_split")

    def _tell(self, trainer: Trainer, module: LightningModule, which: str) -> None:
        data = getattr(trainer, "datamodule", None)
        split: Any = getattr(data, which, which)
        if not isinstance(data, RRSISDataModule) or split in self._told:
            return
        self._told.add(split)
        expressions = [record.expression for record in data.records(split)]
        if cut := cast(Any, module).model.cut(expressions, f" of split {split!r}"):
            rank_zero_warn(cut)
