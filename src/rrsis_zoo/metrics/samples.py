"""Per-sample results: what every number, interval, table and breakdown is computed from. No torch."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.metrics.protocols import Protocol

Integers = NDArray[np.int64]

_CORE = ("intersection", "union", "predicted", "height", "width")


@dataclass(frozen=True)
class Details:
    """Where and how exactly N predictions lie; see ``rrsis_zoo.metrics.counts.detail_counts``.

    Attributes:
        boundary_intersection, boundary_union: int64 (N,), pixels of the two boundaries.
        pred_box, target_box: int64 (N, 4): top, left, bottom, right in pixels, the last two exclusive; zeros if empty.
        centre_inside: bool (N,), whether the centre of the prediction lies inside the referent.
    """

    boundary_intersection: Integers
    boundary_union: Integers
    pred_box: Integers
    target_box: Integers
    centre_inside: NDArray[np.bool_]

    def box_iou(self) -> NDArray[np.float64]:
        """Return the IoU of the boxes, (N,) in [0, 1]; 0 where either is empty."""
        low = np.maximum(self.pred_box[:, :2], self.target_box[:, :2])
        high = np.minimum(self.pred_box[:, 2:], self.target_box[:, 2:])
        both = np.clip(high - low, 0, None).prod(axis=1)
        areas = [(box[:, 2:] - box[:, :2]).prod(axis=1) for box in (self.pred_box, self.target_box)]
        either = areas[0] + areas[1] - both
        return np.divide(both, either, out=np.zeros(len(both)), where=either > 0)

    def __getitem__(self, rows: Any) -> Details:
        """Return the details of some of the samples."""
        return Details(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True)
class Counts:
    """Pixel counts of N samples, in dataset order, on the evaluation grid.

    Attributes:
        intersection, union, predicted: int64 (N,), pixels.
        height, width: int64 (N,), size of the grid.
        details: where and how exactly, or None where that was not measured.
    """

    intersection: Integers
    union: Integers
    predicted: Integers
    height: Integers
    width: Integers
    details: Details | None = None

    @classmethod
    def from_rows(cls, rows: Integers) -> Self:
        """Make the counts of rows (N, 5): intersection, union, predicted, height, width; or (N, 16) with details.

        The details are in the order of ``rrsis_zoo.metrics.counts.detail_counts``.
        """
        n = len(_CORE)
        details = None
        if rows.shape[1] > n:
            more = rows[:, n:]
            details = Details(more[:, 0], more[:, 1], more[:, 2:6], more[:, 6:10], more[:, 10].astype(np.bool_))
        return cls(*rows[:, :n].T, details=details)

    def __len__(self) -> int:
        return len(self.intersection)

    def __getitem__(self, rows: Any) -> Counts:
        """Return the counts of some of the samples: a slice, an array of positions, or of bools."""
        details = None if self.details is None else self.details[rows]
        return Counts(*(getattr(self, name)[rows] for name in _CORE), details=details)

    @property
    def target(self) -> Integers:
        """Pixels of the true masks, int64 (N,)."""
        return self.union + self.intersection - self.predicted

    @property
    def target_share(self) -> NDArray[np.float64]:
        """Share of the image that the true mask covers, (N,) in [0, 1]."""
        return self.target / (self.height * self.width)


@dataclass(frozen=True)
class Subject:
    """What a sample is about.

    Attributes:
        sample_id: unique in its split.
        scene_id: samples with the same one share their image.
        expression: the sentence.
        category: class of the referent, None where it is not known.
        category_source: ``label`` or ``text``, see ``rrsis_zoo.data.records.Record``; None without a category.
        kind: kind of the expression where the dataset says it.
    """

    sample_id: str
    scene_id: str
    expression: str = ""
    category: str | None = None
    category_source: str | None = None
    kind: str | None = None


@dataclass(frozen=True)
class Samples:
    """The results of one evaluation, N samples in dataset order.

    Attributes:
        subjects: N.
        counts: of the same N.
    """

    subjects: Sequence[Subject]
    counts: Counts

    def __post_init__(self) -> None:
        if len(self.subjects) != len(self.counts):
            raise ValueError(f"{len(self.subjects)} subjects do not go with the counts of {len(self.counts)} samples")

    def __len__(self) -> int:
        return len(self.subjects)

    def counted(self, protocol: Protocol) -> Samples:
        """Return the samples that the protocol asks."""
        keep = protocol.counted([subject.sample_id for subject in self.subjects])
        return self if all(keep) else self[np.array(keep)]

    def __getitem__(self, rows: NDArray[np.bool_]) -> Samples:
        """Return the samples where ``rows``, bool (N,), is true."""
        return Samples([self.subjects[i] for i in np.flatnonzero(rows).tolist()], self.counts[rows])


def write_samples(path: str | Path, samples: Samples) -> None:
    """Write a line a sample as gzipped JSON; the same samples give the same bytes."""
    # no file name and no time in the header
    with Path(path).open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        for line in _lines(samples):
            file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())


def read_samples(path: str | Path) -> Samples:
    """Read what ``write_samples`` wrote.

    Raises:
        MissingDataError: there is no such file.
        DataFormatError: it is damaged, or of other content.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        subjects = [Subject(**{f.name: line[f.name] for f in fields(Subject)}) for line in lines]
        detailed = bool(lines) and all("pred_box" in line for line in lines)
        rows = [_row(line, detailed) for line in lines]
    except FileNotFoundError as error:
        raise MissingDataError(f"there is no {path}: `rrsis test` writes it") from error
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataFormatError(f"{path} does not hold per-sample results ({error!r}): run `rrsis test` again") from error
    return Samples(
        subjects, Counts.from_rows(np.array(rows, dtype=np.int64).reshape(len(lines), 16 if detailed else 5))
    )


def _lines(samples: Samples) -> Iterable[dict[str, Any]]:
    counts, details = samples.counts, samples.counts.details
    for i, subject in enumerate(samples.subjects):
        line = {f.name: getattr(subject, f.name) for f in fields(Subject)}
        line |= {name: int(getattr(counts, name)[i]) for name in _CORE}
        if details is not None:
            line |= {
                "boundary_intersection": int(details.boundary_intersection[i]),
                "boundary_union": int(details.boundary_union[i]),
                "pred_box": details.pred_box[i].tolist(),
                "target_box": details.target_box[i].tolist(),
                "centre_inside": bool(details.centre_inside[i]),
            }
        yield line


def _row(line: dict[str, Any], detailed: bool) -> list[int]:
    row = [line[name] for name in _CORE]
    if detailed:
        boundary = [line["boundary_intersection"], line["boundary_union"]]
        row += [*boundary, *line["pred_box"], *line["target_box"], int(line["centre_inside"])]
    return row
