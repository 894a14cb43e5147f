"""From the per-sample lines to the numbers of ``diagnosis.json``. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.diagnosis.decomposition import Difference, difference, parts
from rrsis_zoo.diagnosis.mistakes import CLASSES
from rrsis_zoo.diagnosis.probes import PROBES
from rrsis_zoo.diagnosis.records import Line, Probe
from rrsis_zoo.diagnosis.reliability import EDGES, THRESHOLDS, best_threshold, reliability
from rrsis_zoo.metrics.statistics import Interval, scene_interval

_FEWEST = 200
"""Pixels of a fine bin that is drawn."""

STUCK = 0.5
"""IoU with the answer to the original sentence from which an answer is called stuck."""

Values = dict[str, Any]


def estimate(values: Sequence[float] | NDArray[np.float64], scenes: Sequence[str], scale: float = 100) -> Values:
    """Return a mean with its interval by scene: ``value``, ``low``, ``high``, ``n``; None for what is not known."""
    if not len(values):
        return {"value": None, "low": None, "high": None, "n": 0}
    return _plain(scene_interval(np.asarray(values, np.float64), scenes), len(values), scale)


def _plain(interval: Interval, n: int, scale: float = 100) -> Values:
    ends = [None if math.isnan(x) else scale * x for x in (interval.low, interval.high)]
    return {"value": scale * interval.mean, "low": ends[0], "high": ends[1], "n": n}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else 100 * value


def summarise(lines: Sequence[Line], validation: Sequence[Line] = ()) -> Values:
    """Return all numbers of a diagnosis, in percent.

    Args:
        lines: of one training on one split.
        validation: of the validation split, for the threshold that is best there.
    """
    scenes = [line.scene_id for line in lines]
    found = parts([line.iou for line in lines], [line.hit for line in lines])
    return {
        "samples": len(lines),
        "scenes": len({*scenes}),
        "hit": estimate([line.hit for line in lines], scenes),
        "decomposition": {
            "hit": 100 * found.hit,
            "miou_given_hit": _known(found.given_hit),
            "miou_given_miss": _known(found.given_miss),
            "miou": 100 * found.miou,
        },
        "rungs": _rungs(lines),
        "mistakes": _mistakes(lines),
        "reliability": _reliability(lines),
        "masks": _masks(lines, validation),
        "probes": _probes(lines),
    }


def _rungs(lines: Sequence[Line]) -> Values:
    """Return rung -> its mIoU, that of the method itself on the same samples (``own``), and the gain over it."""
    found: Values = {}
    for name in dict.fromkeys(name for line in lines for name in line.rungs):
        some = [line for line in lines if name in line.rungs]
        scenes = [line.scene_id for line in some]
        iou = np.array([line.rungs[name].iou(line.truth) for line in some])
        own = np.array([line.iou for line in some])
        found[name] = {
            **estimate(iou, scenes),
            "own": 100 * float(own.mean()),
            "gain": estimate(iou - own, scenes),
        }
    return found


def _mistakes(lines: Sequence[Line]) -> Values:
    """Return class -> its share, of all samples and by kind of sentence and size of the referent."""
    from rrsis_zoo.metrics.breakdown import SIZES

    def size(line: Line) -> str:
        share = line.truth / (line.height * line.width)
        return next(name for name, most in SIZES if share <= most)

    def shares(some: Sequence[Line]) -> Values:
        scenes = [line.scene_id for line in some]
        return {name: estimate([float(line.mistake == name) for line in some], scenes) for name in CLASSES}

    def by(key: Callable[[Line], str | None], order: Sequence[str] = ()) -> Values:
        groups: dict[str, list[Line]] = {name: [] for name in order}
        for line in lines:
            if (name := key(line)) is not None:
                groups.setdefault(name, []).append(line)
        return {name: shares(some) for name, some in groups.items() if some}

    return {
        "all": shares(lines),
        "kind": by(lambda line: line.kind),
        "size": by(size, [name for name, _ in SIZES]),
    }


def _reliability(lines: Sequence[Line]) -> Values:
    found = reliability([line.histogram() for line in lines], [line.scene_id for line in lines])
    fine = sum((line.histogram() for line in lines), np.zeros((len(EDGES) + 1, 3)))
    seen = fine[fine[:, 0] >= _FEWEST]
    return {
        "fine_predicted": (100 * seen[:, 2] / seen[:, 0]).tolist(),
        "fine_found": (100 * seen[:, 1] / seen[:, 0]).tolist(),
        "pixels": found.pixels.tolist(),
        "predicted": (100 * found.predicted).tolist(),
        "found": (100 * found.found).tolist(),
        "ece": _plain(found.error, len(lines)),
    }


def _masks(lines: Sequence[Line], validation: Sequence[Line]) -> Values:
    """Return the mIoU of other ways to turn probabilities into a mask, with the paired gain over p > 0.5."""
    scenes = [line.scene_id for line in lines]
    own = np.array([line.iou for line in lines])

    def with_gain(iou: NDArray[np.float64]) -> Values:
        return {**estimate(iou, scenes), "gain": estimate(iou - own, scenes)}

    found: Values = {
        "expected_iou": with_gain(np.array([line.expected.iou(line.truth) for line in lines])),
        "curve": [100 * float(at_threshold(lines, t).mean()) for t in THRESHOLDS],
        "thresholds": [*THRESHOLDS],
        "best_threshold": None,
    }
    if validation:
        t = best_threshold([line.thresholds for line in validation], [line.truth for line in validation])
        found["best_threshold"] = {"threshold": t, "validation": len(validation), **with_gain(at_threshold(lines, t))}
    return found


def at_threshold(lines: Sequence[Line], threshold: float) -> NDArray[np.float64]:
    """Return the IoU of [p > threshold] of every sample, (N,)."""
    place = THRESHOLDS.index(threshold)
    found = []
    for line in lines:
        shared, predicted = line.thresholds[place]
        found.append(shared / (predicted + line.truth - shared))
    return np.array(found)


# -- probes ------------------------------------------------------------------------------------------------------------


def _probes(lines: Sequence[Line]) -> Values:
    """Return probe -> what was measured; probes without a single changed sentence are left out."""
    asked = [(line, probe) for line in lines for probe in line.probes]
    found: Values = {}
    for name in PROBES:
        mine = [(line, probe) for line, probe in asked if probe.probe == name]
        if mine:
            found[name] = {"n": len(mine), **_MEASURES[name](mine)}
    return found


Pairs = Sequence[tuple[Line, Probe]]


def _mean(pairs: Pairs, value: Callable[[Line, Probe], float]) -> Values:
    return estimate([value(line, probe) for line, probe in pairs], [line.scene_id for line, _ in pairs])


def _same(line: Line, probe: Probe) -> float:
    return probe.same(line.rungs["own"].predicted)


def _reading(pairs: Pairs) -> Values:
    """Of sentences that now refer to something else: the IoU with it, and how often the answer did not move."""
    other = [(line, probe) for line, probe in pairs if probe.meant == "one"]
    moved = [(line, probe) for line, probe in pairs if probe.meant in ("one", "none")]
    nothing = [(line, probe) for line, probe in pairs if probe.meant == "none"]
    if not moved:  # what it means now is not known
        return {"unmoved": _mean(pairs, lambda line, probe: float(_same(line, probe) >= STUCK))}
    return {
        "right": _mean(other, lambda line, probe: probe.iou or 0.0),
        "own": _mean(other, lambda line, probe: line.iou),
        "stuck": _mean(moved, lambda line, probe: float(_same(line, probe) >= STUCK)),
        "nothing": _mean(nothing, lambda line, probe: float(probe.predicted == 0)),
    }


def _consistent(pairs: Pairs) -> Values:
    return {"consistency": _mean(pairs, _same)}


def _gone(pairs: Pairs) -> Values:
    calibrated = [(line, probe) for line, probe in pairs if probe.presence is not None and line.presence is not None]
    pixels = [(line, probe) for line, probe in pairs if line.rungs["own"].predicted]
    return {
        "presence": _mean(calibrated, lambda line, probe: probe.presence or 0.0),
        "presence_before": _mean(calibrated, lambda line, probe: line.presence or 0.0),
        "area": _mean(pixels, lambda line, probe: probe.predicted / line.rungs["own"].predicted),
        "unmoved": _mean(pairs, lambda line, probe: float(_same(line, probe) >= STUCK)),
    }


def _noun(pairs: Pairs) -> Values:
    groups: Mapping[str, Pairs] = {
        "unique": [(line, probe) for line, probe in pairs if line.noun_is_unique],
        "not unique": [(line, probe) for line, probe in pairs if line.noun_is_unique is False],
    }
    if not any(groups.values()):
        groups = {"all": pairs}
    return {f"iou {name}": _mean(some, _original) for name, some in groups.items() if some}


def _shuffle(pairs: Pairs) -> Values:
    return {
        "iou": _mean(pairs, _original),
        "own": _mean(pairs, lambda line, probe: line.iou),
        "drop": _mean(pairs, lambda line, probe: line.iou - _original(line, probe)),
    }


def _blind(pairs: Pairs) -> Values:
    return {
        f"iou {what}": _mean([(line, probe) for line, probe in pairs if probe.change == what], _original)
        for what in dict.fromkeys(probe.change for _, probe in pairs)
    }


def _original(line: Line, probe: Probe) -> float:
    """IoU of the answer to a changed sentence with the referent of the original one."""
    union = probe.predicted + line.truth - probe.referent
    return probe.referent / union if union else 0.0


_MEASURES: Mapping[str, Callable[[Pairs], Values]] = {
    "swap": _reading,
    "attribute": _reading,
    "paraphrase": _consistent,
    "anchor gone": _gone,
    "noun only": _noun,
    "shuffle": _shuffle,
    "blind": _blind,
}


# -- two methods -------------------------------------------------------------------------------------------------------


def compared(first: Sequence[Sequence[Line]], second: Sequence[Sequence[Line]]) -> Values:
    """Return the difference of two methods on the same samples as *where* and *how exactly*, in points.

    Args:
        first, second: of each method the lines of its trainings; samples that not all have are left out.
    """
    common = set.intersection(*({line.sample_id for line in lines} for lines in (*first, *second)))
    order = [line for line in first[0] if line.sample_id in common]
    sides = []
    for runs in (first, second):
        by_id = [{line.sample_id: line for line in lines} for lines in runs]
        rows = [[mine[line.sample_id] for line in order] for mine in by_id]
        sides.append(
            (np.array([[x.iou for x in row] for row in rows]), np.array([[x.hit for x in row] for row in rows]))
        )
    found: Difference = difference(sides[0], sides[1], [line.scene_id for line in order])
    return {
        "first": 100 * float(sides[0][0].mean()),
        "second": 100 * float(sides[1][0].mean()),
        **_parts(found, len(order)),
    }


def _parts(found: Difference, n: int) -> Values:
    return {
        name: _plain(interval, n)
        for name, interval in (("total", found.total), ("where", found.where), ("exactly", found.exactly))
    }
