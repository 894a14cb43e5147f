"""Target and no-target accuracy, and the answers they are computed from. No torch.

An *own* sentence has its referent in the image, a *foreign* one (`rrsis_zoo.data.foreign`) has none. An answer says
that there is a referent if its mask is not empty and, with a calibration, its presence is at least the threshold.

    T-acc = share of own sentences whose answer says that there is one
    N-acc = share of foreign sentences whose answer says that there is none
    AUC   = probability that an own sentence has a higher presence than a foreign one

A dataset's own sentences without a target, where it says that they have none, count with the foreign ones.

T-acc and N-acc are those of GRES (Liu, Ding, Jiang, CVPR 2023), with this rule in place of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import each_line, parse_json, write_json_lines
from rrsis_zoo.metrics.statistics import Interval, scene_auc, scene_interval
from rrsis_zoo.schema import Strict, Text, checked

SUMMARY, ANSWERS = "test_presence.json", "test_presence_samples.jsonl.gz"
"""Files of ``rrsis test``."""

_LINE, _FILE = 2**20, 2**28


class Answer(Strict):
    """The answer to one sentence: a line of the file.

    Attributes:
        sample_id, scene_id: of the sample; that of a foreign sentence is the id of one of the scene's own, extended.
        expression, category: the sentence, and what it asks for.
        foreign: whether it was taken from another scene.
        referent: whether it has one: own sentences, unless their mask is empty.
        no_target: whether it is an own sentence that by the dataset's word has none.
        predicted: pixels of the predicted mask.
        evidence: name -> number, see `rrsis_zoo.models.presence.EVIDENCE`.
        presence: None without a calibration.
    """

    sample_id: Annotated[Text, Field(min_length=1)]
    scene_id: Text
    expression: Text
    category: Text | None
    foreign: bool
    referent: bool
    predicted: Annotated[int, Field(ge=0)]
    evidence: dict[Text, float]
    presence: Annotated[float, Field(ge=0, le=1)] | None
    no_target: bool = False


@dataclass(frozen=True)
class Answers:
    """The answers to own and foreign sentences of a split.

    Attributes:
        lines: own sentences first, then foreign ones, each in the order of the split.
        threshold: below which presence means that there is no referent; None without a calibration.
    """

    lines: Sequence[Answer]
    threshold: float | None

    def of(self, foreign: bool) -> list[Answer]:
        """Return the foreign answers and those without a target, or those to own sentences that have a referent."""
        nothing = [(line.foreign or line.no_target) and not line.referent for line in self.lines]
        there = [not line.foreign and line.referent for line in self.lines]
        return [line for line, wanted in zip(self.lines, nothing if foreign else there, strict=True) if wanted]

    def there(self, foreign: bool) -> NDArray[np.float64]:
        """Return for each of `of` whether the answer says that there is a referent, 0 or 1."""
        least = -math.inf if self.threshold is None else self.threshold
        said = [line.predicted > 0 and (line.presence or 0.0) >= least for line in self.of(foreign)]
        return np.array(said, dtype=np.float64)

    def by_masks(self) -> Answers:
        """Return the same answers, read by their masks alone."""
        return Answers(self.lines, None)

    def presence(self, foreign: bool) -> NDArray[np.float64]:
        """Return the presence of each of `of`; nan without a calibration."""
        return np.array([math.nan if line.presence is None else line.presence for line in self.of(foreign)])

    def scenes(self, foreign: bool) -> list[str]:
        """Return the scene of each of `of`."""
        return [line.scene_id for line in self.of(foreign)]


def target_accuracy(runs: Sequence[Answers]) -> Interval:
    """Return T-acc, as a ratio, over one or several training runs that answered the same sentences.

    Raises:
        ConfigError: no own sentence with a referent.
    """
    return scene_interval(np.stack([run.there(False) for run in runs]), runs[0].scenes(False))


def no_target_accuracy(runs: Sequence[Answers]) -> Interval:
    """Return N-acc, as a ratio, over one or several training runs that answered the same sentences.

    Raises:
        ConfigError: no foreign sentence.
    """
    return scene_interval(np.stack([1 - run.there(True) for run in runs]), runs[0].scenes(True))


def presence_auc(runs: Sequence[Answers]) -> Interval | None:
    """Return the AUC, as a ratio, over one or several training runs; None if one of them has no calibration."""
    if any(run.threshold is None for run in runs):
        return None
    own, foreign = (np.stack([run.presence(kind) for run in runs]) for kind in (False, True))
    return scene_auc(own, foreign, runs[0].scenes(False), runs[0].scenes(True))


SCORES: dict[str, Callable[[Sequence[Answers]], Interval | None]] = {
    "t_acc": target_accuracy,
    "n_acc": no_target_accuracy,
    "auc": presence_auc,
    "t_acc_masks": lambda runs: target_accuracy([run.by_masks() for run in runs]),
    "n_acc_masks": lambda runs: no_target_accuracy([run.by_masks() for run in runs]),
}
"""Name -> score, as a ratio, over one or several training runs. The last two are what masks alone say, whether or not
there is a calibration."""


def presence_metrics(answers: Answers) -> dict[str, dict[str, float | None] | None]:
    """Return each of `SCORES` in percent, with ``value``, ``low``, ``high`` and ``level``.

    ``auc`` is None without a calibration; ``low`` and ``high`` are None for a single scene.
    """
    found = {name: score([answers]) for name, score in SCORES.items()}
    return {name: None if interval is None else in_percent(interval) for name, interval in found.items()}


def in_percent(interval: Interval) -> dict[str, float | None]:
    """Return an interval of a ratio as plain values in percent, cut off at 0 and 100."""
    low, high = (None if math.isnan(v) else min(100.0, max(0.0, 100 * v)) for v in (interval.low, interval.high))
    return {"value": 100 * interval.mean, "low": low, "high": high, "level": interval.level}


# -- files -------------------------------------------------------------------------------------------------------------


def write_answers(path: str | Path, answers: Answers) -> None:
    """Write one line per answer as gzipped JSON; the same answers give the same bytes.

    Raises:
        OutputError: the file cannot be written; an existing one is unchanged.
    """
    rare = {"no_target"}  # few datasets have them
    write_json_lines(path, (line.model_dump(exclude=None if line.no_target else rare) for line in answers.lines))


def read_answers(path: str | Path, threshold: float | None) -> Answers:
    """Read what ``write_answers`` wrote.

    Args:
        path: of the file.
        threshold: of the calibration, from the summary beside it.

    Raises:
        MissingDataError: there is no such file.
        DataFormatError: it is damaged, has a sample twice, or has no presence although there is a threshold.
    """
    lines: list[Answer] = []
    seen: set[str] = set()
    try:
        for number, text in enumerate(each_line(Path(path), _LINE, _FILE), start=1):
            what = f"{path}, line {number}"
            line: Answer = checked(Answer, parse_json(text, what), what)
            if line.sample_id in seen:
                raise DataFormatError(f"{what}: {line.sample_id!r} is there twice")
            if (line.presence is None) != (threshold is None):
                raise DataFormatError(f"{what}: presence and a threshold belong together")
            seen.add(line.sample_id)
            lines.append(line)
    except MissingDataError as error:
        raise MissingDataError(f"{error}: `rrsis test` writes it") from error
    except DataFormatError as error:
        raise DataFormatError(f"{error}; run `rrsis test` again") from error
    return Answers(lines, threshold)


class Summary(Strict):
    """``test_presence.json``, as far as tables need it."""

    threshold: float | None
    metrics: dict[str, dict[str, Any] | None]
    annotations_sha256: str
    foreign_sha256: str
