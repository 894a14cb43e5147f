"""Per-sample results, from which every score, interval, table and breakdown is computed. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import each_line, parse_json, write_json_lines
from rrsis_zoo.metrics.protocols import Protocol
from rrsis_zoo.schema import Strict, Text, checked
from rrsis_zoo.shown import short_repr

Integers = NDArray[np.int64]

_CORE = ("intersection", "union", "predicted", "height", "width")


@dataclass(frozen=True)
class Details:
    """Where N predictions are, and how exactly; see ``rrsis_zoo.metrics.counts.detail_counts``.

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

    __repr__ = short_repr

    def box_iou(self) -> NDArray[np.float64]:
        """Return the IoU of the boxes, (N,) in [0, 1]; 0 if either is empty."""
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
        details: where and how exactly, or None if not measured.
    """

    intersection: Integers
    union: Integers
    predicted: Integers
    height: Integers
    width: Integers
    details: Details | None = None

    __repr__ = short_repr

    @classmethod
    def from_rows(cls, rows: Integers) -> Self:
        """Make the counts from rows (N, 5): intersection, union, predicted, height, width; or (N, 16) with details.

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
        scene_id: shared by samples with the same image.
        expression: the sentence.
        category: class of the referent, None if unknown.
        category_source: ``label`` or ``text``, see ``rrsis_zoo.data.records.Record``; None without a category.
        kind: kind of the expression, if the dataset gives it.
        reply: what a language model wrote, of methods that ask one.
        unreadable: whether that reply could not be read, so that the answer is an empty mask; None without a reply.
    """

    sample_id: str
    scene_id: str
    expression: str = ""
    category: str | None = None
    category_source: str | None = None
    kind: str | None = None
    reply: str | None = None
    unreadable: bool | None = None


@dataclass(frozen=True)
class Samples:
    """The results of one evaluation, N samples in dataset order.

    Attributes:
        subjects: N.
        counts: of the same N samples.
    """

    subjects: Sequence[Subject]
    counts: Counts

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if len(self.subjects) != len(self.counts):
            raise ValueError(f"{len(self.subjects)} subjects do not match the counts of {len(self.counts)} samples")

    def __len__(self) -> int:
        return len(self.subjects)

    def counted(self, protocol: Protocol) -> Samples:
        """Return the samples that the protocol uses."""
        keep = protocol.counted([subject.sample_id for subject in self.subjects])
        return self if all(keep) else self[np.array(keep)]

    def __getitem__(self, rows: NDArray[np.bool_]) -> Samples:
        """Return the samples where ``rows``, bool (N,), is true."""
        return Samples([self.subjects[i] for i in np.flatnonzero(rows).tolist()], self.counts[rows])


_SIDE = 2**20
"""Most pixels per side: sums over a split stay far below the largest int64."""
_LINE, _FILE = 2**20, 2**28
"""Most bytes of a line and of a file; RISBench's 16,158 test samples take 8 MB."""

_Side = Annotated[int, Field(ge=1, le=_SIDE)]
_Pixels = Annotated[int, Field(ge=0, le=_SIDE**2)]
_Box = Annotated[list[Annotated[int, Field(ge=0, le=_SIDE)]], Field(min_length=4, max_length=4)]


class _Line(Strict):
    """A line of the file. The consistency of its numbers is checked over the whole table."""

    sample_id: Annotated[Text, Field(min_length=1)]
    scene_id: Text
    expression: Text
    category: Text | None
    category_source: Literal["label", "text"] | None
    kind: Text | None
    reply: Text | None = None
    unreadable: bool | None = None
    intersection: _Pixels
    union: _Pixels
    predicted: _Pixels
    height: _Side
    width: _Side
    boundary_intersection: _Pixels = 0
    boundary_union: _Pixels = 0
    pred_box: _Box = Field(default_factory=list)
    target_box: _Box = Field(default_factory=list)
    centre_inside: bool = False

    def subject(self) -> Subject:
        """Return what the sample is about."""
        return Subject(*(getattr(self, f.name) for f in fields(Subject)))

    def row(self, detailed: bool) -> list[int]:
        """Return its numbers as `Counts.from_rows` takes them."""
        core = [self.intersection, self.union, self.predicted, self.height, self.width]
        boundary = [self.boundary_intersection, self.boundary_union]
        return [*core, *boundary, *self.pred_box, *self.target_box, int(self.centre_inside)] if detailed else core


def write_samples(path: str | Path, samples: Samples) -> None:
    """Write one line per sample as gzipped JSON; the same samples give the same bytes.

    Raises:
        OutputError: the file cannot be written; an existing one is unchanged.
    """
    write_json_lines(path, _lines(samples))


def read_samples(path: str | Path) -> Samples:
    """Read what ``write_samples`` wrote.

    Raises:
        MissingDataError: there is no such file.
        DataFormatError: it is damaged, not such a file, has a sample twice, or has counts that no two masks can have.
    """
    try:
        return _read(Path(path))
    except MissingDataError as error:
        raise MissingDataError(f"{error}: `rrsis test` writes it") from error
    except DataFormatError as error:
        raise DataFormatError(f"{error}; this file has no valid per-sample results: run `rrsis test` again") from error


def _read(path: Path) -> Samples:
    lines: list[_Line] = []
    places: dict[str, int] = {}
    for number, text in enumerate(each_line(path, _LINE, _FILE), start=1):
        what = f"{path}, line {number}"
        line = checked(_Line, parse_json(text, what), what)
        if line.sample_id in places:
            raise DataFormatError(f"{what}: {line.sample_id!r} is also on line {places[line.sample_id]}")
        places[line.sample_id] = number
        lines.append(line)
        if _details(line) not in (set(), _DETAILS) or _details(line) != _details(lines[0]):
            raise DataFormatError(f"{what}: of {', '.join(sorted(_DETAILS))} some are missing")
    detailed = bool(lines and _details(lines[0]))
    rows = np.array([line.row(detailed) for line in lines], dtype=np.int64)
    counts = Counts.from_rows(rows.reshape(len(lines), 16 if detailed else 5))
    if fault := impossible(counts):
        raise DataFormatError(f"{path}, line {fault[0] + 1}: {fault[1]}")
    return Samples([line.subject() for line in lines], counts)


_DETAILS = frozenset({"boundary_intersection", "boundary_union", "pred_box", "target_box", "centre_inside"})


def _details(line: _Line) -> Set[str]:
    """Return which of the details a line has: all or none, the same in every line."""
    return line.model_fields_set & _DETAILS


def impossible(counts: Counts) -> tuple[int, str] | None:
    """Return the first sample with counts that no two masks of its size can have, and why; None if there is none."""
    i, u, p, area = counts.intersection, counts.union, counts.predicted, counts.height * counts.width
    rules = {
        "intersection <= predicted <= union <= height * width": (i >= 0) & (i <= p) & (p <= u) & (u <= area),
    }
    if (d := counts.details) is not None:
        edge_i, edge_u = d.boundary_intersection, d.boundary_union
        # a mask's boundary is a part of it, and every non-empty mask has one
        rules["boundary_intersection <= boundary_union, and neither above that of the masks"] = (
            (edge_i >= 0) & (edge_i <= i) & (edge_i <= edge_u) & (edge_u <= u) & ((edge_u > 0) == (u > 0))
        )
        both = np.minimum(d.pred_box[:, 2:], d.target_box[:, 2:]) - np.maximum(d.pred_box[:, :2], d.target_box[:, :2])
        rules["pred_box is the box of the predicted pixels"] = _box_holds(d.pred_box, p, counts)
        rules["target_box is the box of the target's pixels"] = _box_holds(d.target_box, counts.target, counts)
        rules["the boxes have the intersection in common"] = np.clip(both, 0, None).prod(axis=1) >= i
        rules["centre_inside only with an intersection"] = ~d.centre_inside | (i > 0)
    for rule, holds in rules.items():
        if not holds.all():
            at = int(np.argmin(holds))
            values = f"intersection {i[at]}, union {u[at]}, predicted {p[at]}, {counts.height[at]} x {counts.width[at]}"
            return at, f"impossible counts: {rule} does not hold ({values})"
    return None


def _box_holds(box: Integers, pixels: Integers, counts: Counts) -> NDArray[np.bool_]:
    """Return for N boxes whether they are inside the image and can be those of that many pixels."""
    top, left, bottom, right = box.T
    inside = (top >= 0) & (top < bottom) & (bottom <= counts.height)
    inside &= (left >= 0) & (left < right) & (right <= counts.width)
    height, width = bottom - top, right - left
    # there is a pixel on every side of a box; two in opposite corners are enough
    right_size = (height * width >= pixels) & ((np.maximum(height, width) == 1) | (pixels > 1))
    return np.where(pixels > 0, inside & right_size, (box == 0).all(axis=1))


def _lines(samples: Samples) -> Iterable[dict[str, Any]]:
    counts, details = samples.counts, samples.counts.details
    for i, subject in enumerate(samples.subjects):
        line = {f.name: getattr(subject, f.name) for f in fields(Subject)}
        if subject.reply is None:
            del line["reply"], line["unreadable"]
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
