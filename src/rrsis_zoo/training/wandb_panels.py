"""Predictions shown in W&B."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.figures import Shown, heat_overlay
from rrsis_zoo.training.callbacks import shown, spread
from rrsis_zoo.training.loggers import wandb_logger
from rrsis_zoo.training.module import Answer

COLUMNS = ["sample", "expression", "IoU", "image | heat map"]
"""Of the table ``test/predictions``."""


class PredictionPanels(Callback):
    """Shows a few samples: image and localiser's heat map side by side, with the true and predicted masks overlaid.

    W&B can switch each mask on and off. Every validation logs the same samples as ``val/predictions``, so that W&B's
    slider shows the progress of training; a test logs the table ``test/predictions``, which can be sorted by IoU.
    Without a W&B logger nothing is done. With several processes the panels show the first one's scenes.

    Args:
        samples: number, evenly spaced in the split.
        side: longest side of the image in pixels; larger ones are reduced.
    """

    def __init__(self, samples: int = 8, side: int = 320) -> None:
        self.samples = samples
        self.side = side
        self._wanted: frozenset[str] = frozenset()
        self._rows: dict[str, Shown] = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose samples of the validation split."""
        self._choose(trainer, cast(Any, trainer).datamodule.fit_eval_split)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose samples of the test split."""
        self._choose(trainer, cast(Any, trainer).datamodule.test_split)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the chosen samples."""
        self._keep(outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the chosen samples."""
        self._keep(outputs, batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the images."""
        logger = wandb_logger(trainer)
        if logger is not None and self._rows:
            panels = [panel(row, self.side) for row in self._rows.values()]
            logger.log_image(
                "val/predictions",
                images=[image for image, _ in panels],
                masks=[masks for _, masks in panels],
                caption=[caption(row) for row in self._rows.values()],
                step=trainer.global_step,
            )
        self._rows = {}

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the table."""
        logger = wandb_logger(trainer)
        if logger is not None and self._rows:
            import wandb

            rows = []
            for name, row in self._rows.items():
                image, masks = panel(row, self.side)
                rows.append([name, row.expression, row.iou, wandb.Image(image, masks=masks)])
            logger.log_table("test/predictions", columns=COLUMNS, data=rows)
        self._rows = {}

    def _choose(self, trainer: Trainer, split: Any) -> None:
        self._rows = {}
        shows = wandb_logger(trainer) is not None and not trainer.sanity_checking
        ids = cast(Any, trainer).datamodule.sample_ids(split) if shows else []
        self._wanted = frozenset(spread(ids, self.samples))

    def _keep(self, answer: Answer, batch: Any) -> None:
        for n, name in enumerate(batch.sample_ids):
            if name in self._wanted:
                self._rows[name] = shown(answer, batch, n)


def caption(row: Shown) -> str:
    """Return the text below a panel: the expression and its score."""
    return f"“{row.expression}”" + (f"  {row.verdict}" if row.verdict else "")


def panel(row: Shown, side: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Return a panel in the form that `wandb.Image` takes.

    Args:
        row: the sample.
        side: longest side of the image in pixels.

    Returns:
        uint8 (h, 2w, 3), image and heat map side by side; and the masks by name, each with ``mask_data`` uint8
        (h, 2w) over the image's half and ``class_labels``.
    """
    height, width = row.image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = np.asarray(Image.fromarray(row.image).resize(size, Image.Resampling.BILINEAR))
    masks: dict[str, Any] = {}
    for number, (name, mask) in enumerate((("prediction", row.mask), ("truth", row.truth)), start=1):
        if mask is not None:
            small = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
            over = np.concatenate([small, np.zeros_like(small)], axis=1).astype(np.uint8) * number
            masks[name] = {"mask_data": over, "class_labels": {number: name}}
    return np.concatenate([image, heat_overlay(image, row.heatmap)], axis=1), masks
