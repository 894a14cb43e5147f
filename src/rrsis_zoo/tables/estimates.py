"""Scores with spread and interval from per-sample counts, and which of them differ significantly. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.leakage.judge import Finding
from rrsis_zoo.metrics.breakdown import evaluate
from rrsis_zoo.metrics.protocols import Protocol, get_protocol
from rrsis_zoo.metrics.samples import Details, Samples
from rrsis_zoo.metrics.scores import THRESHOLDS, reaches, sample_iou
from rrsis_zoo.metrics.statistics import Comparison, Interval, Spread, holm, over_seeds, paired_test, scene_interval
from rrsis_zoo.tables.formats import Cell, Mark, number
from rrsis_zoo.tables.leakage import Footnotes, worst_of
from rrsis_zoo.tables.runs import JobRecord, Model, Runs

Floats = NDArray[np.float64]
Rows = NDArray[np.bool_]

ALPHA = 0.05
"""Largest corrected p-value of a difference that counts as shown."""

_SAME = ("protocol", "eval_size", "text_mode", "split", "n", "annotations_sha256")
"""Must be equal for two results to appear in one table."""


# -- measures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """A score that is a ratio of two sums over samples.

    Attributes:
        key, title: names in the CSV and in the other forms.
        terms: samples and protocol -> terms of numerator and denominator, float (N,) each, the latter >= 0. NaN
            marks a sample that has no score under the protocol.
    """

    key: str
    title: str
    terms: Callable[[Samples, Protocol], tuple[Floats, Floats]]


def _overall(samples: Samples, protocol: Protocol) -> tuple[Floats, Floats]:
    return samples.counts.intersection.astype(np.float64), samples.counts.union.astype(np.float64)


def _iou(samples: Samples, protocol: Protocol) -> Floats:
    return sample_iou(samples.counts.intersection, samples.counts.union, protocol)


def _mean_iou(samples: Samples, protocol: Protocol) -> tuple[Floats, Floats]:
    return _iou(samples, protocol), np.ones(len(samples))


def _precision(t: float) -> Measure:
    def terms(samples: Samples, protocol: Protocol) -> tuple[Floats, Floats]:
        return reaches(_iou(samples, protocol), t, protocol).astype(np.float64), np.ones(len(samples))

    return Measure(f"pr@{t}", f"Pr@{t}", terms)


OIOU = Measure("oiou", "oIoU", _overall)
MIOU = Measure("miou", "mIoU", _mean_iou)
MAIN = (OIOU, MIOU, *(_precision(t) for t in THRESHOLDS))
"""The usual metrics of the field."""


def _details(samples: Samples) -> Details:
    assert samples.counts.details is not None
    return samples.counts.details


def _edge(samples: Samples, protocol: Protocol) -> Floats:
    details = _details(samples)
    return sample_iou(details.boundary_intersection, details.boundary_union, protocol)


def _there(samples: Samples) -> Floats:
    return (samples.counts.target > 0).astype(np.float64)


def _hits(samples: Samples) -> Floats:
    return _there(samples) * _details(samples).centre_inside


def _box_found(samples: Samples, protocol: Protocol) -> tuple[Floats, Floats]:
    return _there(samples) * (_details(samples).box_iou() >= 0.5), _there(samples)


def _of_hits(samples: Samples, values: Floats) -> tuple[Floats, Floats]:
    hits = _hits(samples)
    return np.where(hits > 0, values, 0.0), hits


LOCALISATION = (
    Measure("centre_hit", "centre hits", lambda s, p: (_hits(s), _there(s))),
    Measure("box_miou", "box mIoU", lambda s, p: (_there(s) * _details(s).box_iou(), _there(s))),
    Measure("box_pr@0.5", "box Pr@0.5", _box_found),
    Measure("hit_miou", "mIoU of hits", lambda s, p: _of_hits(s, _iou(s, p))),
    Measure("hit_boundary_miou", "boundary mIoU of hits", lambda s, p: _of_hits(s, _edge(s, p))),
    Measure("boundary_miou", "boundary mIoU", lambda s, p: (_edge(s, p), np.ones(len(s)))),
)
"""*Where* and *how exactly*; see ``rrsis_zoo.metrics.breakdown``."""


# -- the rows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """A row of the suite on one dataset.

    Attributes:
        model: the row.
        finished, failed: its jobs, by seed; a test on a part of the split, or of an untrained model, counts as failed.
        missing: seeds that have no job yet.
        samples: of the finished jobs, all in the same order, restricted to those that the protocol counts.
        seen: what its weights have seen of the test split, of all finished jobs the one that has seen most; None if
            there is none, or the row has no weights.
    """

    model: Model
    finished: tuple[JobRecord, ...]
    failed: tuple[JobRecord, ...]
    missing: tuple[int | None, ...]
    samples: tuple[Samples, ...]
    seen: Finding | None = None

    @property
    def competes(self) -> bool:
        """Whether it competes for the best score: baselines, ablations and contaminated rows do not."""
        return self.model.ranked and not self.contaminated

    @property
    def contaminated(self) -> bool:
        """Whether the test split was trained on, or chose the checkpoint."""
        return self.seen is not None and self.seen.contaminated

    @property
    def absent(self) -> str:
        """Text in place of a number if no training run has finished."""
        return self.failed[0].word if self.failed else "not run"

    @property
    def seeds(self) -> str:
        """Number of training runs in the mean: ``2``, ``1 of 2``; ``–`` for what is not trained."""
        if self.model.role == "baseline":
            return "–"
        done, planned = len(self.finished), len(self.model.seeds)
        return str(done) if done == planned else f"{done} of {planned}"


@dataclass(frozen=True)
class Board:
    """All rows of a suite on one dataset, measured on the same samples.

    Attributes:
        dataset, title: name and title in the suite.
        trials: rows in order.
        protocol: of every score; None if nothing has finished.
    """

    dataset: str
    title: str
    trials: tuple[Trial, ...]
    protocol: Protocol | None

    @cached_property
    def finished(self) -> list[JobRecord]:
        """All finished jobs."""
        return [job for trial in self.trials for job in trial.finished]

    @cached_property
    def samples(self) -> Samples:
        """One finished job's samples: apart from the counts, they are the same for all jobs."""
        return next(trial.samples[0] for trial in self.trials if trial.samples)

    @cached_property
    def scenes(self) -> list[str]:
        """Scene of every sample."""
        return [subject.scene_id for subject in self.samples.subjects]

    @cached_property
    def footnotes(self) -> Footnotes:
        """What the rows have seen of the split, as footnotes of its tables."""
        return Footnotes([(trial.model.title, trial.seen) for trial in self.trials])

    @property
    def digits(self) -> int:
        """Decimals worth printing: two, as in papers, from 1,000 samples on."""
        return 2 if len(self.samples) >= 1000 else 1


def read_board(runs: Runs, dataset: str) -> Board:
    """Read all per-sample results on a dataset, sort and check them.

    Raises:
        MissingDataError: per-sample counts of a finished job are missing.
        DataFormatError: jobs differ in protocol, annotations or samples, or scores in a ``job.json`` do not follow
            from its per-sample counts.
    """
    everything = [job for model in runs.models for job in runs.of(model.name, dataset) if job.finished]
    # records of baselines may have fewer fields
    first = next((job for job in everything if job.record["role"] != "baseline"), everything[0] if everything else None)
    order = [] if first is None else [subject.sample_id for subject in first.samples.subjects]
    trials = []
    for model in runs.models:
        jobs = runs.of(model.name, dataset)
        if not jobs and not runs.suite:
            continue  # a test on another dataset
        done = tuple(job for job in jobs if job.finished)
        samples = []
        for job in done:
            _check_same(first, job, runs.suite)
            protocol = get_protocol(job.result["protocol"])
            _check_numbers(job, protocol)
            samples.append(_ordered(job, order).counted(protocol))
        failed = tuple(job for job in jobs if not job.finished)
        missing = tuple(seed for seed in model.seeds if seed not in {job.seed for job in jobs})
        seen = None if model.role == "baseline" else worst_of([job.result for job in done])
        trials.append(Trial(model, done, failed, missing, tuple(samples), seen))
    protocol = None if first is None else get_protocol(first.result["protocol"])
    return Board(dataset, runs.datasets[dataset], tuple(trials), protocol)


def _check_same(first: JobRecord | None, job: JobRecord, suite: bool) -> None:
    assert first is not None  # there is at least `job`
    for name in _SAME:
        value, expected = job.result.get(name), first.result.get(name)
        if value is None and job.record["role"] == "baseline":
            continue  # a baseline that reads no sentence has no text mode
        if value != expected:
            mend = "run the suite again, which repeats what has changed"
            if not suite:
                mend = "give both tests the same data and --protocol, or make a table of each"
            raise DataFormatError(
                f"{job.name} has {name} {value!r}, {first.name} has {expected!r}: their numbers do not belong in one "
                f"table; {mend}"
            )


def _check_numbers(job: JobRecord, protocol: Protocol) -> None:
    recorded: Mapping[str, float | None] = job.result["metrics"]
    counted = evaluate(job.samples, protocol)
    for name, value in counted.items():
        written = recorded.get(name)
        other = math.nan if written is None else written
        if not (math.isnan(value) and math.isnan(other)) and not math.isclose(value, other, abs_tol=1e-9):
            raise DataFormatError(
                f"{job.folder}: job.json has {name} {other}, its per-sample counts give {value}: they come from "
                "different tests; run the job again"
            )


def _ordered(job: JobRecord, order: Sequence[str]) -> Samples:
    samples = job.samples
    place = {subject.sample_id: i for i, subject in enumerate(samples.subjects)}
    if place.keys() != set(order):
        raise DataFormatError(f"{job.name} was scored on other samples than the jobs before it: run the suite again")
    rows = [place[name] for name in order]
    if rows == list(range(len(rows))):
        return samples
    return Samples([samples.subjects[i] for i in rows], samples.counts[np.array(rows)])


# -- estimates ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A score in percent.

    Attributes:
        each: score of every training run.
        spread: their mean and deviation.
        interval: by scene and, with several training runs, by run; None if the score is NaN.
    """

    each: tuple[float, ...]
    spread: Spread
    interval: Interval | None

    @property
    def mean(self) -> float:
        """Mean over training runs."""
        return self.spread.mean

    def cell(self, digits: int, mark: Mark = "", interval: bool = False) -> Cell:
        """Return the cell: mean, ± deviation with several training runs, and the interval if requested."""
        several = self.spread.runs > 1 and math.isfinite(self.spread.deviation)
        known = self.interval if self.interval is not None and math.isfinite(self.interval.low) else None
        detail = [f"± {number(self.spread.deviation, digits)}"] if several else []
        if interval and known:
            detail.append(f"[{number(known.low, digits)}, {number(known.high, digits)}]")
        return Cell(
            number(self.mean, digits) if math.isfinite(self.mean) else "nan",
            self.mean if math.isfinite(self.mean) else None,
            mark,
            " ".join(detail),
            known.low if known else None,
            known.high if known else None,
            self.spread.deviation if several else None,
        )


def estimate(board: Board, trial: Trial, measure: Measure, rows: Rows | None = None) -> Estimate | None:
    """Return a row's score on all samples, or on some of them; None if the denominator is 0.

    Under a protocol that gives a pair of empty masks no IoU, the total is NaN, as in its own program; classes leave
    such samples out.

    Args:
        board: of the row.
        trial: with finished jobs.
        measure: the score.
        rows: bool (N,), which samples; None for all.
    """
    each = trainings(board, trial, measure, rows)
    if each is None:
        return None
    if not all(map(math.isfinite, each)):
        return Estimate(each, Spread(math.nan, math.nan, len(each)), None)
    values, weights = _terms(board, trial, measure, rows)
    return Estimate(each, over_seeds(each), in_percent(scene_interval(values, _scenes(board, rows), weights=weights)))


def in_percent(interval: Interval) -> Interval:
    """Return the interval of a ratio in percent, within 0 and 100, which it may exceed with several training runs."""
    interval = in_points(interval)
    low, high = np.clip([interval.low, interval.high], 0, 100)
    return replace(interval, low=float(low), high=float(high))


def in_points(interval: Interval) -> Interval:
    """Return the interval of a difference of ratios in percentage points."""
    return Interval(100 * interval.mean, 100 * interval.low, 100 * interval.high, interval.level)


def trainings(board: Board, trial: Trial, measure: Measure, rows: Rows | None = None) -> tuple[float, ...] | None:
    """Return the score of every training run in percent, like ``estimate`` but without the cost of the interval."""
    values, weights = _terms(board, trial, measure, rows)
    if not weights.any(axis=1).all():
        return None
    return tuple(100 * math.fsum(v) / math.fsum(w) for v, w in zip(values, weights, strict=True))


def compare(board: Board, first: Trial, second: Trial, measure: Measure, rows: Rows | None = None) -> Comparison | None:
    """Compare two rows on the same samples, in percentage points; None if one of them has no score."""
    a, b = _terms(board, first, measure, rows), _terms(board, second, measure, rows)
    for values, weights in (a, b):
        if np.isnan(values).any() or not weights.any(axis=1).all():
            return None
    result = paired_test(a[0], b[0], _scenes(board, rows), weights=(a[1], b[1]))
    return Comparison(in_points(result.difference), result.p_value, result.samples, result.scenes)


def rank(board: Board, estimates: Sequence[Estimate | None], measure: Measure, rows: Rows | None = None) -> list[Mark]:
    """Return the mark of every row's score, in order; a contaminated row has none.

    The highest score of the competing rows is compared with each of the others, by scene, with Holm's correction for
    their number. If every difference is significant it is ``best``, and the next one is ``second``; otherwise it is
    ``tied`` with all that do not differ significantly from it. A single row gets no mark.

    Args:
        board: the rows.
        estimates: one for each row; None if it has none.
        measure, rows: as in ``estimate``.
    """
    marks: list[Mark] = [""] * len(estimates)
    scores = {
        i: e.mean
        for i, (e, trial) in enumerate(zip(estimates, board.trials, strict=True))
        if e is not None and trial.competes and math.isfinite(e.mean)
    }
    if len(scores) < 2:
        return marks
    best, *others = sorted(scores, key=lambda i: -scores[i])
    significant = shown([compare(board, board.trials[best], board.trials[i], measure, rows) for i in others])
    if all(significant):
        marks[best], marks[others[0]] = "best", "second"
    else:
        for i, different in zip(others, significant, strict=True):
            marks[i] = "" if different else "tied"
        marks[best] = "tied"
    return marks


def shown(comparisons: Sequence[Comparison | None]) -> list[bool]:
    """Return which differences are significant: both the corrected p-value and the interval exclude 0."""
    corrected = holm([1.0 if c is None else c.p_value for c in comparisons])
    return [
        c is not None and p < ALPHA and c.difference.excludes_zero for c, p in zip(comparisons, corrected, strict=True)
    ]


def _terms(board: Board, trial: Trial, measure: Measure, rows: Rows | None) -> tuple[Floats, Floats]:
    """Return values and weights, float (S, N), of the selected samples."""
    assert board.protocol is not None
    terms = [measure.terms(samples, board.protocol) for samples in trial.samples]
    values, weights = (np.stack([term[i] for term in terms]) for i in (0, 1))
    if rows is None:
        return values, weights
    values, weights = values[:, rows], weights[:, rows]
    unscored = np.isnan(values)
    return np.where(unscored, 0.0, values), np.where(unscored, 0.0, weights)


def _scenes(board: Board, rows: Rows | None) -> list[str]:
    return (
        board.scenes if rows is None else [s for s, wanted in zip(board.scenes, rows.tolist(), strict=True) if wanted]
    )
