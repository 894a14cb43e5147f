"""What a localiser wrote that people can read, of one expression: boxes and points. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.shown import short_repr

if TYPE_CHECKING:
    from rrsis_zoo.models.types import Prompts


@dataclass(frozen=True, eq=False)
class Marks:
    """Boxes and points in pixels of the native image.

    Attributes:
        boxes: float (K, 4), x0 y0 x1 y1 as they were written: not clipped, corners not ordered.
        points: float (P, 2), x y.
        inside: bool (P,), whether the referent is said to be at a point, or not to be there.
    """

    boxes: NDArray[np.float64]
    points: NDArray[np.float64]
    inside: NDArray[np.bool_]

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.boxes) + len(self.points)

    def plain(self) -> dict[str, Any]:
        """Return ``boxes``, ``points`` and ``inside`` as lists, for JSON; coordinates to a hundredth of a pixel."""
        return {
            "boxes": np.round(self.boxes, 2).tolist(),
            "points": np.round(self.points, 2).tolist(),
            "inside": self.inside.tolist(),
        }

    def scaled(self, across: float, down: float) -> Marks:
        """Return them for a picture whose width and height are multiplied, with ordered corners."""
        pairs = self.boxes.reshape(-1, 2, 2)
        ordered = np.concatenate([pairs.min(axis=1), pairs.max(axis=1)], axis=1)
        factors = np.array([across, down])
        return Marks(ordered * np.tile(factors, 2), self.points * factors, self.inside)


def marks_of(prompts: Prompts, n: int) -> Marks | None:
    """Return what can be read of expression n; None if the method's localiser writes neither boxes nor points."""
    if prompts.boxes is None and prompts.points is None:
        return None
    boxes, points = np.zeros((0, 4)), np.zeros((0, 2))
    inside = np.zeros(0, np.bool_)
    there = None if prompts.scores is None else _array(prompts.scores[n]) > 0  # the rest is padding
    if prompts.boxes is not None:
        boxes = _array(prompts.boxes[n])
        boxes = boxes if there is None else boxes[there]
        boxes = boxes[~np.isnan(boxes).any(axis=1)]
    if prompts.points is not None and prompts.point_labels is not None:
        points, labels = _array(prompts.points[n]), _array(prompts.point_labels[n])
        points, labels = (points, labels) if there is None else (points[there], labels[there])
        points, labels = points[labels >= 0], labels[labels >= 0]
        inside = labels == 1
    return Marks(boxes, points, inside)


def _array(tensor: Any) -> NDArray[np.float64]:
    return tensor.detach().double().cpu().numpy()
