"""T-acc, N-acc and AUC of the rows of a suite, from the answers of their tests. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.metrics.presence import SCORES, Answers, presence_metrics
from rrsis_zoo.metrics.statistics import over_seeds
from rrsis_zoo.tables.estimates import Board, Estimate, Trial, in_percent
from rrsis_zoo.tables.runs import JobRecord

ASKED = {
    "t_acc": "T-acc",
    "n_acc": "N-acc",
    "auc": "AUC",
    "t_acc_masks": "T-acc by masks",
    "n_acc_masks": "N-acc by masks",
}
"""Score of `rrsis_zoo.metrics.presence.SCORES` -> title of its column."""


def read_presence(board: Board) -> list[tuple[str | None, list[Estimate | None]]]:
    """Return for every row how its answers were read, and its estimate of each of `ASKED`.

    A row has none unless the tests of all its training runs asked foreign sentences.

    Raises:
        MissingDataError, DataFormatError: answers are missing or damaged, do not give the recorded numbers, or are to
            other sentences than those of another row.
    """
    first: JobRecord | None = None
    rows: list[tuple[str | None, list[Estimate | None]]] = []
    for trial in board.trials:
        runs = _answers(trial)
        if not runs:
            rows.append((None, [None] * len(ASKED)))
            continue
        for job in trial.finished:
            first = first or job
            _check(first, job)
        rule = "presence is low" if all(run.threshold is not None for run in runs) else "mask is empty"
        rows.append((rule, [_estimate(name, runs) for name in ASKED]))
    return rows


def _answers(trial: Trial) -> list[Answers]:
    found = [job.presence for job in trial.finished]
    return [] if None in found else [known[1] for known in found if known is not None]


def _estimate(name: str, runs: Sequence[Answers]) -> Estimate | None:
    interval = SCORES[name](runs)
    if interval is None:
        return None
    each = tuple(100 * one.mean for run in runs if (one := SCORES[name]([run])) is not None)
    return Estimate(each, over_seeds(each), in_percent(interval))


def _check(first: JobRecord, job: JobRecord) -> None:
    """Refuse answers to other sentences, and numbers that do not follow from the answers."""
    assert first.presence is not None
    assert job.presence is not None
    (expected, _), (summary, answers) = first.presence, job.presence
    for name in ("annotations_sha256", "foreign_sha256"):
        if summary[name] != expected[name]:
            raise DataFormatError(
                f"{job.name} and {first.name} were asked different sentences ({name}): run `rrsis test` again"
            )
    for name, value in presence_metrics(answers).items():
        written = summary["metrics"].get(name)
        if (written is None) != (value is None):
            same = False
        else:
            same = written is None or value is None or _close(written.get("value"), value["value"])
        if not same:
            raise DataFormatError(
                f"{job.place}: the recorded {name} does not follow from the answers; run `rrsis test` again"
            )


def _close(written: float | None, value: float | None) -> bool:
    return written is not None and value is not None and math.isclose(written, value, abs_tol=1e-9)
