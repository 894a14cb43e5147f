"""Signs of mistakes in saving: masks that would score far better inverted, rotated, or in another order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from rrsis_zoo.metrics.counts import mask_counts

_SAMPLES = 200
"""Samples to try in every way; a mistake in saving affects all masks."""

_BETTER, _ENOUGH = 2.0, 0.5
"""Minimum factor and minimum mIoU of another reading to be mentioned."""

_OTHERS_EXACTLY = 0.5
"""Share of imperfect predictions equal to another sample's target that casts doubt on their order."""

_MOST_COVERED = 0.5
"""Average share of the image covered by true masks above which they may be inverted."""


class Doubts:
    """Collects signs of mistakes from predictions and targets, given as pairs of masks of one size."""

    def __init__(self) -> None:
        self._tried: dict[str, list[float]] = {}
        self._previous: tuple[Tensor, Tensor] | None = None
        self._wrong: dict[bytes, str] = {}
        self._targets: dict[bytes, str] = {}
        self._covered, self._target_pixels, self._predicted, self._n = 0.0, 0, 0, 0

    def add(self, key: str, pred: Tensor, target: Tensor) -> None:
        """Take a sample into account.

        Args:
            key: its name.
            pred: bool (H, W).
            target: bool (H, W).
        """
        i, u, p = mask_counts(pred, target).tolist()
        self._n += 1
        self._covered += (u + i - p) / target.numel()
        self._target_pixels += u + i - p
        self._predicted += p
        if u > p - i:  # the target is not empty
            self._targets.setdefault(_mark(target), key)
        if i < u and p:
            self._wrong.setdefault(_mark(pred), key)
        if self._n <= _SAMPLES and u > p - i:
            self._tried.setdefault("", []).append(i / u)
            for name, other in _readings(pred):
                self._tried.setdefault(name, []).append(_iou(other, target))
            if self._previous is not None and self._previous[0].shape == target.shape:
                earlier, its_target = self._previous
                self._tried.setdefault("numbered one lower", []).append(_iou(pred, its_target))
                self._tried.setdefault("numbered one higher", []).append(_iou(earlier, target))
        self._previous = (pred, target)

    def found(self) -> list[str]:
        """Return what looks wrong, one sentence each."""
        doubts = []
        if not self._target_pixels:
            doubts.append("no target has any foreground: is that the right file for the targets?")
        elif not self._predicted:
            doubts.append("no prediction has any foreground: is that the right file for the predictions?")
        if self._covered > _MOST_COVERED * self._n:
            doubts.append(
                f"the true masks cover {100 * self._covered / self._n:.0f} % of their images on average: are they "
                "inverted? Any value except 0 is foreground"
            )
        elsewhere = {mark: self._targets[mark] for mark in self._wrong if mark in self._targets}
        if len(elsewhere) > 1 and len(elsewhere) >= _OTHERS_EXACTLY * len(self._wrong):
            mark, theirs = next(iter(elsewhere.items()))
            doubts.append(
                f"{len(elsewhere)} predictions are not their own target but exactly that of another sample "
                f"(prediction {self._wrong[mark]} is target {theirs}): their order or their names differ"
            )
        means = {name: float(np.mean(values)) for name, values in self._tried.items() if values}
        own = means.pop("", 0.0)
        if means and (best := max(means.values())) >= max(_ENOUGH, _BETTER * own):
            name = next(name for name, mean in means.items() if mean == best)
            doubts.append(
                f"the predictions would score an mIoU of {100 * best:.1f} instead of {100 * own:.1f} if they were "
                f"{name} (of the first {len(self._tried[''])} samples with a referent): were they saved like that?"
            )
        return doubts


def _readings(pred: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield what a prediction may have been before a mistake in saving, at its own size."""
    height, width = pred.shape
    yield "inverted", ~pred
    yield "flipped upside down", pred.flip(0)
    yield "mirrored", pred.flip(1)
    yield "turned by 180 degrees", pred.flip(0, 1)
    if height == width:
        yield "transposed", pred.T
        yield "turned by 90 degrees", pred.T.flip(0)
        yield "turned by 270 degrees", pred.T.flip(1)
    else:
        yield "read by rows and not by columns", pred.T.reshape(height, width)
        yield "read by columns and not by rows", pred.reshape(width, height).T


def _iou(pred: Tensor, target: Tensor) -> float:
    i, u, _ = mask_counts(pred, target).tolist()
    return i / u if u else 0.0


def _mark(mask: Tensor) -> bytes:
    """Return a digest that two masks share only if they are equal."""
    array = mask.numpy()
    return hashlib.blake2b(np.packbits(array).tobytes(), digest_size=16, salt=str(array.shape)[:16].encode()).digest()
