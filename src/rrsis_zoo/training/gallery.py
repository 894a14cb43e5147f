"""Small pictures of a few test samples, the same for every method, for the report's gallery."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from rrsis_zoo.data.records import Record
from rrsis_zoo.errors import OutputError
from rrsis_zoo.figures import Shown
from rrsis_zoo.files import make_folder, write_bytes, write_json
from rrsis_zoo.training.callbacks import shown
from rrsis_zoo.training.module import Answer

PICTURES = {"image": "image.webp", "truth": "truth.png", "mask": "mask.png", "heatmap": "heatmap.png"}
"""Pictures of a sample, and the names of their files."""


class Gallery(Callback):
    """Writes ``gallery/``: ``gallery.json`` and, for each of a few test samples, a folder of four pictures.

    The samples are those whose ids have the smallest SHA-256: the same for every method, seed and number of processes,
    and independent of scores. ``image.webp`` is RGB; ``truth.png`` and ``mask.png`` are grey, 0-255 for the share of a
    pixel that the mask covers; ``heatmap.png`` is grey on the localiser's own grid, 0-255 for a probability of 0-1.
    ``gallery.json`` holds a list ``samples``: ``sample_id``, ``expression``, ``category``, ``kind``, ``iou`` (of the
    masks at native size, whatever the protocol), the relative paths of the pictures and, for a sample that by the
    dataset's word has no target, ``no_target``.

    Args:
        samples: maximum number.
        side: longest side of a picture in pixels; smaller ones are not enlarged. At 192 px a sample takes about 20 kB,
            so 24 of them stay below half a megabyte.
    """

    def __init__(self, samples: int = 24, side: int = 192) -> None:
        self.samples = samples
        self.side = side
        self._wanted: list[str] = []
        self._kept: dict[str, dict[str, Any]] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the samples."""
        data = cast(Any, trainer).datamodule
        self._wanted = chosen(data.sample_ids(data.test_split), self.samples)
        self._kept = {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the pictures of the chosen samples."""
        for n, name in enumerate(batch.sample_ids):
            if name in self._wanted:
                row = shown(cast(Answer, outputs), batch, n)
                self._kept[name] = {"iou": row.iou, "pictures": pictures(row, self.side)}

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook; the first process collects the samples of all and writes them."""
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "gallery"
        parts: list[Any] = [self._kept]
        if trainer.world_size > 1:
            parts = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, self._kept)
        kept = {name: seen for part in parts for name, seen in part.items()}
        self._kept = {}
        if not trainer.is_global_zero or not kept:
            return
        data = cast(Any, trainer).datamodule
        records = {record.sample_id: record for record in data.records(data.test_split)}
        shown = [name for name in self._wanted if name in kept]  # a limited test has only some
        with _new_folder(folder):
            samples = [_written(folder, f"{place:02d}", records[name], kept[name]) for place, name in enumerate(shown)]
            write_json(folder / "gallery.json", {"schema": 1, "samples": samples})
        print(f"wrote {folder} ({len(samples)} samples)")


def _written(folder: Path, place: str, record: Record, kept: dict[str, Any]) -> dict[str, Any]:
    """Write the pictures of a sample; return its entry in ``gallery.json``."""
    for kind, content in kept["pictures"].items():
        write_bytes(folder / place / PICTURES[kind], content)
    return {
        "sample_id": record.sample_id,
        "expression": record.expression,
        "category": record.category,
        "kind": record.kind,
        "iou": kept["iou"],
        **({"no_target": True} if record.no_target else {}),
        **{kind: f"{place}/{file}" for kind, file in PICTURES.items()},
    }


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """Create a folder, and remove it again if writing into it fails, unless it existed before.

    Raises:
        OutputError: the folder or a file in it cannot be written.
    """
    there = os.path.exists(folder)
    make_folder(folder)
    try:
        yield
    except OutputError:
        if not there:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def chosen(sample_ids: Sequence[str], samples: int) -> list[str]:
    """Return at most ``samples`` ids, those with the smallest SHA-256, sorted by it."""
    return sorted(sample_ids, key=lambda name: hashlib.sha256(name.encode()).digest())[:samples]


def pictures(row: Shown, side: int) -> dict[str, bytes]:
    """Return the contents of one sample's files, see `Gallery`.

    Raises:
        ValueError: the true mask is unknown.
    """
    if row.truth is None:
        raise ValueError("a gallery shows the true mask, but the sample has none")
    image = _reduced(Image.fromarray(row.image), side, Image.Resampling.LANCZOS)
    # averaged, so that a small or thin referent fades instead of vanishing
    masks = [
        _reduced(Image.fromarray(mask.astype(np.uint8) * 255), side, Image.Resampling.BOX)
        for mask in (row.truth, row.mask)
    ]
    belief = np.rint(255 * np.clip(row.heatmap, 0, 1)).astype(np.uint8)
    heat = _reduced(Image.fromarray(belief), side, Image.Resampling.BOX)
    parts = dict(zip(PICTURES, (image, *masks, heat), strict=True))
    return {kind: _file(part, PICTURES[kind]) for kind, part in parts.items()}


def _reduced(image: Image.Image, side: int, how: Image.Resampling) -> Image.Image:
    shrink = min(1.0, side / max(image.size))
    width, height = (max(1, round(shrink * length)) for length in image.size)
    return image if shrink == 1.0 else image.resize((width, height), how)


def _file(image: Image.Image, name: str) -> bytes:
    out = io.BytesIO()
    if name.endswith(".webp"):
        image.save(out, "WEBP", quality=80)
    else:
        image.save(out, "PNG", optimize=True)
    return out.getvalue()
