"""Perfect where: a writer that knows the truth stands in for the localiser, so that only the drawing is tested.

What Think2Seg-RS scores with it is the upper rung for every method with the same segmenter: nobody who has to find the
referent first can be expected to draw it better. It is no method, and its row must be named as what it is.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.think2seg.model import Think2Seg, framed
from rrsis_zoo.methods.think2seg.writers import DIALECTS, Writer

_Key = tuple[bytes, str]


class KnownWriter:
    """Writes what it was told to say about a picture and a sentence; about any other, that there is no target."""

    def __init__(self) -> None:
        self._replies: dict[_Key, deque[str]] = {}

    def forget(self) -> None:
        """Forget everything."""
        self._replies.clear()

    def learn(self, frame: Tensor, sentence: str, reply: str) -> None:
        """Note a reply; of several to the same question, each is given in its turn."""
        self._replies.setdefault(_key(frame, sentence), deque()).append(reply)

    def write(self, frames: Sequence[Tensor], sentences: Sequence[str]) -> list[str]:
        """Return the replies, see `Writer`."""
        return [self._reply(_key(frame, sentence)) for frame, sentence in zip(frames, sentences, strict=True)]

    def _reply(self, key: _Key) -> str:
        replies = self._replies.get(key)
        if replies is None:
            return "[]"
        replies.rotate(-1)
        return replies[-1]


def _key(frame: Tensor, sentence: str) -> _Key:
    return hashlib.sha256(frame.cpu().contiguous().numpy().tobytes()).digest(), sentence


class PerfectWhere(Callback):
    """In a test, the box of every true mask is written, its sides moved at random.

    Args:
        noise: standard deviation of a side's move, as a share of the box's width or height.
        seed: of the moves; they depend on it and on the sample's name alone.

    Raises:
        ConfigError: noise is negative.
    """

    def __init__(self, noise: float = 0.1, seed: int = 0) -> None:
        if not 0 <= noise < 10:
            raise ConfigError(f"PerfectWhere's noise must be between 0 and 10 times a box's side, got {noise}")
        self.noise, self.seed = noise, seed
        self._writer = KnownWriter()
        self._own: Writer | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the writer's place.

        Raises:
            ConfigError: another method is tested.
        """
        model = pl_module.model
        if not isinstance(model, Think2Seg):
            name = getattr(model, "name", type(model).__name__)
            raise ConfigError(f"PerfectWhere writes boxes for think2seg, and this is {name}: leave it out")
        self._own, model.writer = model.writer, self._writer

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Write down what the batch's true masks say.

        Raises:
            ConfigError: it has no masks.
        """
        if batch.masks is None:
            raise ConfigError("PerfectWhere needs true masks, and these data have none")
        model = pl_module.model
        assert isinstance(model, Think2Seg)
        self._writer.forget()
        frames = [framed(image, model.config.frame) for image in batch.images]
        sentences = model.asked(model.tokenize(batch.expressions, "independent")) if len(batch) else []
        unit = DIALECTS[model.config.dialect].unit(model.config.frame)
        for n, sentence in enumerate(sentences):
            reply = self.reply(batch.masks[n].cpu().numpy(), batch.sample_ids[n], unit)
            self._writer.learn(frames[int(batch.image_index[n])], sentence, reply)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the place back."""
        model = pl_module.model
        assert isinstance(model, Think2Seg)
        model.writer = self._own
        self._writer.forget()

    def reply(self, mask: NDArray[np.bool_], sample_id: str, unit: float) -> str:
        """Return the reply about a true mask: its box, moved; an empty list for an empty mask.

        Args:
            mask: bool (H, W).
            sample_id: decides the moves.
            unit: the number that stands for the far side of the picture.
        """
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            return "[]"
        height, width = mask.shape
        box = np.array([columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height])
        sides = np.tile(box[2:] - box[:2], 2)
        digest = hashlib.sha256(f"{self.seed} {sample_id}".encode()).digest()
        moves = np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal(4)
        x0, y0, x1, y1 = np.clip(box + self.noise * sides * moves, 0, 1) * unit
        corners = [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]
        return json.dumps([{"bbox_2d": [round(float(v), 1) for v in corners]}])
