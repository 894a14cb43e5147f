"""Tables from what jobs left: the records and the per-sample counts, nothing else."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.data.records import Record
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.metrics.samples import read_samples
from rrsis_zoo.metrics.scores import THRESHOLDS, sample_iou, score
from rrsis_zoo.metrics.statistics import Interval, scene_interval


@dataclass(frozen=True)
class Row:
    """One method, or baseline, on the test samples.

    Attributes:
        title: as the table says it.
        counts: int64 (N, 2) intersection and union, in dataset order.
        parameters: all and trained, in numbers; None for a baseline.
        train_cpu_s: processor time of training in seconds; None for a baseline.
    """

    title: str
    counts: NDArray[np.int64]
    parameters: tuple[int, int] | None = None
    train_cpu_s: float | None = None


def read_counts(path: Path, records: Sequence[Record]) -> NDArray[np.int64]:
    """Read ``test_samples.jsonl.gz`` as int64 (N, 2), intersection and union in the order of the records.

    Raises:
        MissingDataError, DataFormatError: it is not there, damaged, or not about these samples.
    """
    samples = read_samples(path)
    place = {subject.sample_id: i for i, subject in enumerate(samples.subjects)}
    wanted = [record.sample_id for record in records]
    if set(place) != set(wanted):
        raise DataFormatError(f"{path} is about other samples than the dataset has: run the job again")
    counts = samples.counts[[place[name] for name in wanted]]
    return np.stack([counts.intersection, counts.union], axis=1)


@dataclass(frozen=True)
class Table:
    """A comparison on one set of samples under one protocol.

    Attributes:
        title, caption: above and below it.
        columns: names.
        rows: cells as text.
        differences: sentences about paired differences.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    differences: tuple[str, ...]

    def markdown(self) -> str:
        """Return the table for a page."""
        lines = [f"## {self.title}", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("|" + "|".join("---" if i == 0 else "---:" for i in range(len(self.columns))) + "|")
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, "", *(f"* {text}" for text in self.differences), "", self.caption, ""])

    def write_csv(self, path: Path) -> None:
        """Write the cells."""
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([self.columns, *self.rows])


def comparison(
    rows: Mapping[str, Row],
    records: Sequence[Record],
    protocol: str,
    title: str,
    caption: str,
    against: Mapping[str, Sequence[str]],
) -> Table:
    """Make the table.

    Args:
        rows: name -> row.
        records: the test samples, in the order of the rows' counts.
        protocol: name of the protocol that the numbers follow.
        title, caption: of the table.
        against: name -> names that its mIoU is compared with, pair by pair.
    """
    rules = get_protocol(protocol)
    scenes = [record.scene_id for record in records]
    kinds = sorted({record.kind for record in records if record.kind})
    iou = {name: sample_iou(row.counts[:, 0], row.counts[:, 1], rules) for name, row in rows.items()}
    columns = (
        "method",
        "parameters",
        "training, CPU min",
        "oIoU",
        "mIoU [95 %]",
        *(f"Pr@{t}" for t in THRESHOLDS),
        *kinds,
    )
    cells = []
    for name, row in rows.items():
        numbers = score(row.counts[:, 0], row.counts[:, 1], rules)
        interval = scene_interval(iou[name], scenes)
        by_kind = [f"{100 * np.mean(iou[name][[r.kind == kind for r in records]]):.1f}" for kind in kinds]
        cells.append(
            (
                row.title,
                "–" if row.parameters is None else f"{row.parameters[0] / 1e6:.2f} M",
                "–" if row.train_cpu_s is None else f"{row.train_cpu_s / 60:.1f}",
                f"{numbers['oiou']:.1f}",
                f"{numbers['miou']:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]",
                *(f"{numbers[f'pr@{t}']:.1f}" for t in THRESHOLDS),
                *by_kind,
            )
        )
    differences = tuple(
        _difference(rows[name].title, rows[other].title, scene_interval(iou[name] - iou[other], scenes))
        for name, others in against.items()
        for other in others
    )
    return Table(title, caption, columns, tuple(cells), differences)


def _difference(first: str, second: str, interval: Interval) -> str:
    verdict = "the interval excludes 0" if interval.excludes_zero else "the interval includes 0: no difference is shown"
    points = [f"{100 * value:+.1f}" for value in (interval.mean, interval.low, interval.high)]
    return (
        f"{first} − {second}: {points[0]} points of mIoU, 95 % interval by scene [{points[1]}, {points[2]}]; {verdict}"
    )
