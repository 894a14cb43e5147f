"""What a training tells its checkpoints about itself, see `rrsis_zoo.weights.training`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from lightning.pytorch import Trainer

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.leakage.lineage import Lineage
from rrsis_zoo.weights.training import checked_training, lineage_of_record, trained_on


class TrainingRecord:
    """Collects the record of one training; every process has the same.

    Attributes:
        lineage: what the weights are made from so far; whoever loads weights sets it.
    """

    def __init__(self) -> None:
        self.lineage = Lineage()
        self._data: dict[str, Any] | None = None
        self._settings: dict[str, Any] | None = None
        self._validation: dict[str, Any] | None = None
        self._validated_at = -1  # optimiser steps that were done

    def start(self, trainer: Trainer) -> None:
        """Describe the data, at the beginning of a training.

        Raises:
            MissingDataError, DataFormatError: a split cannot be read.
        """
        data = cast(Any, trainer).datamodule
        if not isinstance(data, RRSISDataModule):
            foreign = "a training on data of another program"
            if foreign not in self.lineage.unrecorded:
                self.lineage = self.lineage.model_copy(update={"unrecorded": [*self.lineage.unrecorded, foreign]})
            return
        identity = data.identity(data.fit_eval_split)
        self._settings = data.settings
        self._data = {
            "name": identity.name,
            "published": identity.published,
            "train": len(data.records("train")),
            "val": len(data.records(data.fit_eval_split)),
        }
        self.lineage = self.lineage.then(trained_on(data.dataset, identity.name, data.fit_eval_split))

    def validated(self, trainer: Trainer, protocol: str, scores: Mapping[str, float]) -> None:
        """Take the scores of a complete validation; one of a part of the split is not kept."""
        data = cast(Any, trainer).datamodule
        if trainer.limit_val_batches != 1.0 or isinstance(trainer.limit_val_batches, int):
            return
        self._validated_at = trainer.global_step
        self._validation = {
            "split": getattr(data, "fit_eval_split", "val"),
            "protocol": protocol,
            "epoch": trainer.current_epoch,
            "scores": {"n": int(scores["n"])}
            | {name: None if math.isnan(value) else float(value) for name, value in scores.items() if name != "n"},
        }

    def content(self, trainer: Trainer) -> dict[str, Any]:
        """Return the record for a checkpoint, as plain values."""
        return {
            "settings": self._settings,
            "data": self._data,
            "precision": str(trainer.precision),
            "step": trainer.global_step,
            "validation": self._validation if self._validated_at == trainer.global_step else None,
            "lineage": self.lineage.plain(),
        }

    def resumed(self, content: Any, started_from: Callable[[], Lineage]) -> None:
        """Take the lineage and the validation of the checkpoint from which the training continues.

        Args:
            content: record of the checkpoint's training; None if it has none.
            started_from: returns what that training started from, by its settings: records of earlier versions do not
                say it.

        Raises:
            WeightsMismatchError: the record is damaged.
        """
        if checked_training(content, "this checkpoint") is None:
            self.lineage = Lineage(unrecorded=["a training with an earlier version"])
        elif content.get("lineage") is not None:
            self.lineage = lineage_of_record(content)
        else:
            self.lineage = started_from().model_copy(update={"trainings": lineage_of_record(content).trainings})
        if isinstance(content, Mapping) and content.get("validation") is not None:
            self._validation, self._validated_at = content["validation"], content["step"]
