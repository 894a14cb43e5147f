"""What kind of mistake an answer is: one class a sample, the first that fits. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CLASSES = {
    "good": "IoU of 0.8 or more",
    "empty": "no pixel",
    "anchor": "the object that the sentence only mentions",
    "wrong object": "another object of the scene",
    "several": "the referent and another object together",
    "border": "the right object with a wrong outline, IoU of 0.5 or more",
    "part": "only a part of the referent",
    "spill": "the referent and much around it",
    "background": "no object at all",
    "mixed": "none of these",
}
"""Name -> what it means, in the order in which they are tried."""


@dataclass(frozen=True)
class Other:
    """Another object of the scene, against the answer.

    Attributes:
        shared: pixels that it shares with the answer.
        pixels: its own.
        anchor: whether the sentence mentions it; False where that is not known.
    """

    shared: int
    pixels: int
    anchor: bool = False

    def iou(self, predicted: int) -> float:
        """IoU with an answer of that many pixels."""
        union = self.pixels + predicted - self.shared
        return self.shared / union if union else 0.0


def mistake(intersection: int, predicted: int, truth: int, others: Sequence[Other]) -> str:
    """Return the class of an answer.

    Args:
        intersection: pixels that answer and referent share.
        predicted: pixels of the answer.
        truth: pixels of the referent.
        others: all other known objects of the scene.
    """
    union = predicted + truth - intersection
    iou = intersection / union if union else 0.0
    if iou >= 0.8:
        return "good"
    if not predicted:
        return "empty"
    best = max(others, key=lambda other: (other.iou(predicted), other.anchor), default=None)
    if best is not None and best.iou(predicted) >= 0.5:
        return "anchor" if best.anchor else "wrong object"
    if 2 * intersection >= truth and any(2 * other.shared >= other.pixels for other in others if other.pixels):
        return "several"
    if iou >= 0.5:
        return "border"
    if intersection >= 0.8 * predicted:
        return "part"
    if intersection >= 0.8 * truth:
        return "spill"
    if not intersection and not any(other.shared for other in others):
        return "background"
    return "mixed"
