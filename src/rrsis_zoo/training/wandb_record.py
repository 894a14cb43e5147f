"""The record of a run in W&B: configuration, code, tables and artefacts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.records import Split
from rrsis_zoo.provenance import code_version
from rrsis_zoo.training.loggers import wandb_logger
from rrsis_zoo.training.module import RRSISModule

CLASSES = ("category", "kind", "size", "words", "length")
"""Ways of dividing a test into classes; each has a table ``test/per_CLASS``."""
METRICS = ("n", "oiou", "miou", "pr@0.5", "pr@0.6", "pr@0.7", "pr@0.8", "pr@0.9")
"""Columns of those tables after the class."""
RESULTS = ("test.json", "test_samples.jsonl.gz", "predictions.png")
"""Files of a test's artefact."""
_EVALUATION = (
    "protocol",
    "eval_size",
    "text_mode",
    "dataset",
    "layout",
    "published_split",
    "split",
    "n",
    "partial",
    "untrained",
    "weights_sha256",
    "annotations_sha256",
)


class RunRecord(Callback):
    """Sends what makes a run's results usable later; does nothing without a W&B logger.

    * At the start, as configuration: ``stage``, ``method``, ``dataset`` (the data's own name), ``code`` (version,
      commit, whether files were changed) and the resolved configuration of the command line (``model``, ``data``,
      ``trainer``, ``seed_everything``).
    * After training: the best checkpoint as an artefact of type ``model``, with its score.
    * After a test: what its results depend on, as configuration ``evaluation``; a table for every way of dividing the
      samples into classes (``test/per_category`` …); and the artefact ``results`` with ``test.json``, all per-sample
      results and the figure.

    Args:
        checkpoint: whether the best checkpoint is sent; those of published sizes have several gigabytes. Offline it is
            not copied, but read when the run is synchronised.
    """

    def __init__(self, checkpoint: bool = True) -> None:
        self.checkpoint = checkpoint

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Send the configuration."""
        logger = wandb_logger(trainer)
        if logger is None:
            return
        config = {
            "stage": TrainerFn(stage).value,
            "method": cast(RRSISModule, pl_module).model.name,
            "code": code_version(),
        }
        if isinstance(data := cast(Any, trainer).datamodule, RRSISDataModule):
            config["dataset"] = data.identity(_split(data, stage)).name
        logger.experiment.config.update({**config, **resolved(trainer)}, allow_val_change=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Send the run's output; in this hook, because the files of a test are written in earlier ones."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # every process must call it
        logger = wandb_logger(trainer)
        if logger is None:
            return
        if stage == "fit" and self.checkpoint:
            self._send_checkpoint(logger, trainer, cast(RRSISModule, pl_module))
        if stage == "test" and os.path.isfile(folder / "test.json"):
            record = json.loads((folder / "test.json").read_text(encoding="utf-8"))
            evaluation = {name: record[name] for name in _EVALUATION}
            logger.experiment.config.update({"evaluation": evaluation}, allow_val_change=True)
            for name in CLASSES:
                if rows := class_rows(record["breakdown"], name):
                    logger.log_table(f"test/per_{name}", columns=[name, *METRICS], data=rows)
            self._send_results(logger, folder, evaluation)

    def _send_checkpoint(self, logger: WandbLogger, trainer: Trainer, module: RRSISModule) -> None:
        import wandb

        kept = next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)), None)
        if kept is None or not kept.best_model_path:
            return
        score = None if kept.best_model_score is None else float(kept.best_model_score)
        about = {
            "method": module.model.name,
            "preset": module.hparams["preset"],
            "monitor": kept.monitor,
            "score": score,
        }
        artefact = wandb.Artifact(f"checkpoint-{logger.experiment.id}", type="model", metadata=about)
        # not copied first: it has gigabytes, and nothing writes to it any more
        artefact.add_file(os.path.abspath(kept.best_model_path), name="best.ckpt", policy="immutable")
        logger.experiment.log_artifact(artefact, aliases=["best"])

    def _send_results(self, logger: WandbLogger, folder: Path, about: dict[str, Any]) -> None:
        import wandb

        artefact = wandb.Artifact(f"results-{logger.experiment.id}", type="results", metadata=about)
        for name in RESULTS:
            if os.path.isfile(folder / name):
                artefact.add_file(str(folder.absolute() / name), name=name, policy="immutable")
        logger.experiment.log_artifact(artefact)


def _split(data: RRSISDataModule, stage: str) -> Split:
    """Return the split that a stage uses."""
    splits: dict[str, Split] = {"fit": "train", "validate": data.fit_eval_split, "test": data.test_split}
    return splits.get(stage, data.predict_split)


def resolved(trainer: Trainer) -> dict[str, Any]:
    """Return the command line's configuration with all defaults as plain values; empty for a trainer made in Python."""
    saved = next((c for c in cast(Any, trainer).callbacks if isinstance(c, SaveConfigCallback)), None)
    if saved is None:
        return {}
    settings = json.loads(saved.parser.dump(saved.config, skip_none=False, format="json"))
    return {
        name: settings[name]
        for name in ("model", "data", "trainer", "seed_everything", "ckpt_path")
        if name in settings
    }


def class_rows(breakdown: Mapping[str, Any], name: str) -> list[list[Any]]:
    """Return a row for every class in one division of a test: class, n and metrics in percent, None if unknown.

    Args:
        breakdown: of a test's record, see `rrsis_zoo.metrics.breakdown.breakdown`.
        name: one of ``CLASSES``; if the breakdown lacks it there are no rows.
    """
    counted = breakdown.get(f"per_{name}_n", {})
    return [[value, *(breakdown[f"per_{name}_{metric}"].get(value) for metric in METRICS)] for value in counted]
