"""What was found in one picture, small enough to keep for any number of sentences: masks as run lengths. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.data.masks import RunLengths, encode_mask
from rrsis_zoo.models.marks import Marks

_BLOCK = 2**22  # pixels summed at once


@dataclass(frozen=True)
class Found:
    """What was found for one sentence.

    Attributes:
        text: the sentence.
        mask: of the picture's size.
        area: pixels of the mask.
        box: x, y, width, height of the smallest box around the mask in pixels; None if it is empty.
        score: mean probability inside the mask; None if it is empty.
        presence: probability that the referent is there at all; None without a calibration.
        needed: presence below which the mask was left empty; None if it was not looked at.
        marks: boxes and points that the localiser wrote, if they were asked for.
    """

    text: str
    mask: RunLengths
    area: int
    box: tuple[int, int, int, int] | None
    score: float | None
    presence: float | None = None
    needed: float | None = None
    marks: Marks | None = None

    @property
    def absent(self) -> bool:
        """Whether the mask was left empty because the referent is probably not there."""
        return self.presence is not None and self.needed is not None and self.presence < self.needed

    @property
    def share(self) -> float:
        """Share of the picture that the mask covers, 0 to 1."""
        return self.area / (self.mask.height * self.mask.width)


@dataclass(frozen=True)
class Source:
    """The model that gave the answers.

    Attributes:
        method: its name.
        given: as the user named it.
        weights_sha256: of the names and values of all its weights; None if nothing that is written says it.
    """

    method: str
    given: str
    weights_sha256: str | None = None


@dataclass(frozen=True)
class Findings:
    """What was found in one picture.

    Attributes:
        path: of the picture.
        height, width: of the picture as displayed, in pixels.
        found: for each sentence.
        threshold: the probability above which a pixel is in the mask.
        model: which model it was.
        limits: the values of each channel that were shown as 0 and 255; None if the values are the file's own.
    """

    path: Path
    height: int
    width: int
    found: tuple[Found, ...]
    threshold: float
    model: Source
    limits: tuple[tuple[float, float], ...] | None = None


def found(
    text: str,
    mask: NDArray[np.bool_],
    probabilities: NDArray[np.float32],
    presence: float | None = None,
    needed: float | None = None,
) -> Found:
    """Return what to keep of an answer.

    Args:
        text: the sentence.
        mask: bool (H, W).
        probabilities: float32 (H, W).
        presence: probability that the referent is there at all; None without a calibration.
        needed: presence below which the mask is left empty; None for every mask as it is.
    """
    if presence is not None and needed is not None and presence < needed:
        mask = np.zeros_like(mask)
    runs = RunLengths((encode_mask(mask),), *mask.shape)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return Found(text, runs, 0, None, None, presence, needed)
    top, left, bottom, right = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    area, score = mean_inside(mask[top:bottom], probabilities[top:bottom])
    return Found(text, runs, area, (left, top, right - left, bottom - top), score, presence, needed)


def mean_inside(mask: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> tuple[int, float]:
    """Return the number of pixels of a mask, and the mean probability in them; NaN for an empty mask.

    Args:
        mask: bool (H, W).
        probabilities: float32 (H, W).
    """
    area, total = 0, 0.0
    rows = max(1, _BLOCK // mask.shape[1])
    for top in range(0, len(mask), rows):
        inside = probabilities[top : top + rows][mask[top : top + rows]]
        area += inside.size
        total += float(inside.sum(dtype=np.float64))
    return area, total / area if area else float("nan")
