"""The per-sample file of a diagnosis: every number of the page is computed from it. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rrsis_zoo.diagnosis.mistakes import Other, mistake
from rrsis_zoo.diagnosis.reliability import EDGES
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import each_line, parse_json, write_json_lines
from rrsis_zoo.schema import Strict, Text, checked

SAMPLES = "diagnosis_samples.jsonl.gz"
_LINE, _FILE = 2**20, 2**29

Pixels = Annotated[int, Field(ge=0, le=2**40)]
Share = Annotated[float, Field(ge=0, le=1)]


class Count(Strict):
    """A mask against the referent: pixels that they share, and pixels of the mask."""

    intersection: Pixels
    predicted: Pixels

    def iou(self, truth: int) -> float:
        """IoU with a referent of that many pixels; 0 if both are empty."""
        union = self.predicted + truth - self.intersection
        return self.intersection / union if union else 0.0


class Object(Strict):
    """Another object of the scene, see `rrsis_zoo.diagnosis.mistakes.Other`."""

    shared: Pixels
    pixels: Pixels
    anchor: bool


Meant = Literal["one", "none", "same", "unknown"]
"""What a changed sentence refers to: another object than the original, none, the same one, or it is not known."""


class Probe(Strict):
    """The answer to a changed sentence.

    Attributes:
        probe: name of the kind of change.
        change: what was changed, for people.
        sentence: the changed sentence.
        meant: what it refers to.
        object: the object that it refers to, by its number in the scene; None if it refers to none or is not known.
        truth: pixels of that object; None if it is not known, 0 if there is none.
        intersection: pixels that it shares with the answer; None like the truth.
        predicted: pixels of the answer.
        original: pixels that the answer shares with the answer to the original sentence.
        referent: pixels that it shares with the referent of the original sentence.
        presence: of the calibrated model; None without a calibration.
    """

    probe: Text
    change: Text
    sentence: Text
    meant: Meant
    object: Annotated[int, Field(ge=0)] | None
    truth: Pixels | None
    intersection: Pixels | None
    predicted: Pixels
    original: Pixels
    referent: Pixels
    presence: Share | None

    @property
    def iou(self) -> float | None:
        """IoU with what the changed sentence refers to; None if that is not known, or nothing."""
        if not self.truth or self.intersection is None:
            return None
        return self.intersection / (self.predicted + self.truth - self.intersection)

    def same(self, own: int) -> float:
        """IoU with the answer to the original sentence, which has ``own`` pixels; 1 if both are empty."""
        union = self.predicted + own - self.original
        return self.original / union if union else 1.0


class Line(Strict):
    """All about one sample.

    Attributes:
        truth: pixels of the referent, at least 1.
        hit: share of the heat map's highest cells on the referent.
        rungs: name of a rung -> its mask; samples beyond the limit of a rung lack it.
        best_step: step of the best prompts; None without this rung.
        others: the other objects of the scene that are known; None if none can be known.
        bins: place, pixels, pixels on the referent, and sum of probabilities, of the fine bins that are not empty.
        thresholds: intersection and predicted pixels at every threshold tried.
        expected: the mask of the highest expected IoU.
        presence: of the calibrated model; None without a calibration.
        noun_is_unique: whether the head noun alone would be enough; None if not known.
        probes: answers to changed sentences.
    """

    sample_id: Annotated[Text, Field(min_length=1)]
    scene_id: Text
    expression: Text
    category: Text | None
    kind: Text | None
    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    truth: Annotated[int, Field(ge=1)]
    hit: Share
    rungs: dict[Text, Count]
    best_step: Annotated[int, Field(ge=0)] | None
    others: list[Object] | None
    bins: list[Annotated[list[float], Field(min_length=4, max_length=4)]]
    thresholds: list[Annotated[list[Pixels], Field(min_length=2, max_length=2)]]
    expected: Count
    presence: Share | None
    noun_is_unique: bool | None
    probes: list[Probe]

    @property
    def iou(self) -> float:
        """IoU of the method's own answer."""
        return self.rungs["own"].iou(self.truth)

    @property
    def mistake(self) -> str:
        """Class of the method's own answer."""
        own = self.rungs["own"]
        others = [Other(o.shared, o.pixels, o.anchor) for o in self.others or []]
        return mistake(own.intersection, own.predicted, self.truth, others)

    def histogram(self) -> NDArray[np.float64]:
        """Return the fine bins as `rrsis_zoo.diagnosis.reliability.histogram` does."""
        full = np.zeros((len(EDGES) + 1, 3))
        for place, *numbers in self.bins:
            full[int(place)] = numbers
        return full


def sparse_bins(histogram: NDArray[np.float64]) -> list[list[float]]:
    """Return the fine bins that are not empty, as a `Line` has them."""
    rows = np.flatnonzero(histogram[:, 0])
    return [[int(i), int(histogram[i, 0]), int(histogram[i, 1]), round(float(histogram[i, 2]), 9)] for i in rows]


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """Write one line per sample as gzipped JSON.

    Raises:
        OutputError: the file cannot be written; an existing one is unchanged.
    """
    write_json_lines(path, (line.model_dump(mode="json") for line in lines))


def read_lines(path: Path) -> Sequence[Line]:
    """Read what `write_lines` wrote.

    Raises:
        MissingDataError: there is no such file.
        DataFormatError: it is damaged, or not such a file.
    """
    again = "`rrsis diagnose` writes it"
    try:
        found = [
            checked(Line, parse_json(text, f"{path}, line {i}"), f"{path}, line {i}")
            for i, text in enumerate(each_line(path, _LINE, _FILE), start=1)
        ]
    except MissingDataError as error:
        raise MissingDataError(f"{error}: {again}") from error
    except DataFormatError as error:
        raise DataFormatError(f"{error}; {again} again") from error
    if not found:
        raise DataFormatError(f"{path} has no sample; {again} again")
    return found
