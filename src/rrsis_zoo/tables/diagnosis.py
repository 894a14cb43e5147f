"""Where, how exactly, or the words: the numbers of a suite's diagnoses, over all trainings of a row. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rrsis_zoo.diagnosis.decomposition import Difference, difference
from rrsis_zoo.diagnosis.ladder_names import RUNGS, SHORT
from rrsis_zoo.diagnosis.records import Line
from rrsis_zoo.diagnosis.summary import STUCK
from rrsis_zoo.metrics.statistics import over_seeds, scene_interval
from rrsis_zoo.tables.estimates import Board, Estimate, Trial, in_percent

Runs = Sequence[Sequence[Line]]


@dataclass(frozen=True)
class Asked:
    """A column.

    Attributes:
        title: of the column.
        keep: which samples it is about.
        value: a sample's value, a ratio.
    """

    title: str
    keep: Callable[[Line], bool]
    value: Callable[[Line], float]


def _stuck(line: Line) -> float:
    moved = [p for p in line.probes if p.probe in ("swap", "attribute") and p.meant in ("one", "none")]
    return sum(p.same(line.rungs["own"].predicted) >= STUCK for p in moved) / len(moved)


def _moves(line: Line) -> bool:
    return any(p.probe in ("swap", "attribute") and p.meant in ("one", "none") for p in line.probes)


def _rung(name: str) -> Asked:
    return Asked(SHORT[name], lambda line: name in line.rungs, lambda line: line.rungs[name].iou(line.truth))


ASKED: dict[str, Asked] = {
    "hit": Asked("hits", lambda line: True, lambda line: line.hit),
    **{name: _rung(name) for name in RUNGS},
    "stuck": Asked("stuck words", _moves, _stuck),
}
"""Name -> column: hits, the rungs, and how often the answer did not follow a changed word."""


def diagnosed(trial: Trial) -> Runs:
    """Return the lines of every training of a row, in the same order; none unless all have them."""
    found = [job.diagnosis for job in trial.finished]
    if not found or None in found:
        return []
    every = [{line.sample_id: line for line in one.lines} for one in found if one is not None]
    common = [name for name in every[0] if all(name in one for one in every)]
    return [[one[name] for name in common] for one in every]


def missing(trial: Trial) -> dict[str, str]:
    """Return the rungs that a row does not have, and why."""
    first = next((job.diagnosis for job in trial.finished), None)
    return {} if first is None else dict(first.content.missing)


def estimate(runs: Runs, asked: Asked) -> Estimate | None:
    """Return a column's value for a row, with an interval by scene and training; None without a sample."""
    kept = [i for i in range(len(runs[0])) if all(asked.keep(run[i]) for run in runs)]
    if not kept:
        return None
    values = np.array([[asked.value(run[i]) for i in kept] for run in runs])
    interval = scene_interval(values, [runs[0][i].scene_id for i in kept])
    each = tuple(100 * float(row.mean()) for row in values)
    return Estimate(each, over_seeds(each), in_percent(interval))


def parts_of(first: Runs, second: Runs) -> Difference:
    """Return the difference of two rows on their common samples as *where* and *how exactly*."""
    common = {line.sample_id for line in second[0]}
    order = [i for i, line in enumerate(first[0]) if line.sample_id in common]
    place = {line.sample_id: i for i, line in enumerate(second[0])}
    sides = []
    for runs, rows in ((first, order), (second, [place[first[0][i].sample_id] for i in order])):
        lines = [[run[i] for i in rows] for run in runs]
        sides.append(tuple(np.array([[get(x) for x in row] for row in lines]) for get in (_iou, _hit)))
    return difference(sides[0], sides[1], [first[0][i].scene_id for i in order])


def _iou(line: Line) -> float:
    return line.iou


def _hit(line: Line) -> float:
    return line.hit


def any_diagnosed(board: Board) -> bool:
    """Whether any row has a diagnosis."""
    return any(job.diagnosis is not None for job in board.finished)
