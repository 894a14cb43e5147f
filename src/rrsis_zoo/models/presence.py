"""Is it there at all? From a model's answer to the probability that the sentence has a referent in the image.

The methods were trained on sentences whose referent exists, so they answer *something* to any sentence. How sure an
answer looks is its *evidence*, a few numbers; a logistic regression over them, fitted by ``rrsis calibrate`` to one set
of weights, is the *calibration*. It is stored as ``presence.json`` in a model's folder, or as ``NAME.presence.json``
beside a checkpoint ``NAME.ckpt``.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from rrsis_zoo.errors import DataFormatError, RRSISError
from rrsis_zoo.files import read_json
from rrsis_zoo.models.types import Prediction
from rrsis_zoo.schema import Strict, Text, checked
from rrsis_zoo.weights.folders import PRESENCE, WEIGHTS
from rrsis_zoo.weights.places import outside

EVIDENCE = ("heat", "inside", "peak", "log_area", "empty")
"""Names of the numbers of an answer: the highest value of the heat map; the mean probability inside the mask and the
highest anywhere; the natural logarithm of the mask's share of the image; 1 for an empty mask, whose ``inside`` and
``log_area`` are 0, else 0."""

OWN = "own"
"""The method's own presence, after the others; only methods that have one (`rrsis_zoo.models.types.Prompts`)."""

LIMIT = 2**20  # bytes of a file; one has 2 kB


def evidence(logits: Tensor, heatmap: Tensor, own: Tensor | None = None) -> Tensor:
    """Return the evidence of an answer, float64 (K,) on the answer's device, in the order of `EVIDENCE`, then `OWN`.

    Args:
        logits: (H, W) log-odds at native size.
        heatmap: of any shape, in [0, 1].
        own: scalar, the method's own presence; None if it has none.
    """
    probability, mask = logits.float().sigmoid(), logits > 0
    pixels = torch.count_nonzero(mask)
    some = pixels.clamp(min=1).double()
    numbers = [
        heatmap.max(),
        (probability * mask).sum(dtype=torch.float64) / some,
        probability.max(),
        torch.where(pixels > 0, (some / mask.numel()).log(), 0.0),
        pixels == 0,
    ]
    if own is not None:
        numbers.append(own)
    return torch.stack([number.double() for number in numbers])


def evidence_of(prediction: Prediction, restored: Iterable[Tensor]) -> list[Tensor]:
    """Return the evidence of N answers, each as `evidence`.

    Args:
        prediction: of N expressions.
        restored: their N log-odds maps at native size.
    """
    heat, own = prediction.prompts.heatmap, prediction.prompts.presence
    return [evidence(logits, heat[n], None if own is None else own[n]) for n, logits in enumerate(restored)]


class Estimated(Strict):
    """A percentage with its interval; the ends are None where a single scene says nothing about others."""

    value: Annotated[float, Field(ge=0, le=100)]
    low: float | None
    high: float | None
    level: Annotated[float, Field(gt=0, lt=1)]


Positive = Annotated[int, Field(ge=1)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Calibration(Strict):
    """``presence.json``: presence = 1 / (1 + exp(-(intercept + Σ coefficient · evidence))), and how it was found.

    Attributes:
        model, weights_sha256: whose answers it is for.
        evidence: names of the numbers, in order: `EVIDENCE`, and `OWN` if the method has one.
        coefficients, intercept: of the logistic regression, for the numbers as they are.
        threshold: of presence; below it an answer says that there is no referent. In cross-validation a share of
            ``false_alarms`` of the foreign sentences at most is not below.
        auc: how well presence tells own from foreign sentences, in percent: how often it is higher for an own one than
            for a foreign one. Cross-validated by scene, interval by scene.
        folds: of the cross-validation.
        own, foreign, no_target, scenes: numbers of own sentences with a referent, of foreign sentences, of the
            dataset's own without a target, and of scenes.
        dataset, split, text_mode, seed: what it was fitted on; the seed chooses the foreign sentences.
        annotations_sha256, foreign_sha256: of the split's samples, and of the foreign ones.
        versions: of this package and of the libraries that determine the numbers.
    """

    schema_: Literal[1] = Field(alias="schema")
    model: Text
    weights_sha256: Digest
    evidence: list[Text]
    coefficients: list[float]
    intercept: float
    threshold: Annotated[float, Field(ge=0, le=1.001)]
    false_alarms: Annotated[float, Field(gt=0, lt=1)]
    auc: Estimated
    folds: Annotated[int, Field(ge=2)]
    own: Positive
    foreign: Annotated[int, Field(ge=0)]
    scenes: Positive
    dataset: Text
    split: Text
    text_mode: Literal["published", "independent"]
    seed: Annotated[int, Field(ge=0)]
    annotations_sha256: Digest
    foreign_sha256: Digest
    versions: dict[Text, Text | None]
    no_target: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if self.evidence not in ([*EVIDENCE], [*EVIDENCE, OWN]):
            raise ValueError(f"evidence must be {', '.join(EVIDENCE)}, and maybe {OWN}; got {self.evidence!r}")
        if len(self.coefficients) != len(self.evidence):
            raise ValueError(f"{len(self.coefficients)} coefficients do not match {len(self.evidence)} evidence")
        if not self.foreign + self.no_target:
            raise ValueError("foreign must be at least 1 where no_target is 0")
        return self

    def presence(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability that there is a referent, float64 (N,) in [0, 1].

        Args:
            numbers: (N, K) evidence of N answers.
        """
        score = np.asarray(numbers, dtype=np.float64) @ np.array(self.coefficients) + self.intercept
        return 0.5 * (1 + np.tanh(0.5 * score))  # the logistic function, without overflow

    def text(self) -> str:
        """Return the content of the file."""
        content = self.model_dump(by_alias=True, exclude=None if self.no_target else {"no_target"})
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def presence_of(calibration: Calibration, found: Sequence[Tensor]) -> NDArray[np.float64]:
    """Return the presence of N answers, float64 (N,), from their evidence."""
    return calibration.presence(torch.stack(list(found)).cpu().numpy())


# -- its file ----------------------------------------------------------------------------------------------------------


def calibration_file(path: Path) -> Path:
    """Return where the calibration of a model is.

    Args:
        path: the model's folder, or its file: a checkpoint, or the authors' own.
    """
    if os.path.isdir(path):
        return path / PRESENCE
    return path.with_name(PRESENCE) if path.name == WEIGHTS else path.with_name(f"{path.stem}.{PRESENCE}")


def read_calibration(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        MissingDataError: there is no such file.
        DataFormatError: it is damaged, incomplete, or from another version.
    """
    content: Any = read_json(path, LIMIT)
    return checked(Calibration, content, str(path), advice=ADVICE)


ADVICE = "`rrsis calibrate` writes it again; without it answers have no presence"


def calibration_at(path: Path, weights_sha256: Callable[[], str]) -> Calibration | None:
    """Return the calibration beside a model if there is one for exactly these weights.

    Args:
        path: see `calibration_file`.
        weights_sha256: of the model (`rrsis_zoo.weights.checkpoints.weights_hash`); only called if there is a file,
            because it reads all weights.

    Warns:
        UserWarning: it is for other weights, or cannot be read; it is ignored.
    """
    file = calibration_file(path)
    if not os.path.lexists(file):
        return None
    try:
        if outside(file.parent, file):
            raise DataFormatError(f"{file} is a link to a place outside its folder: put the file itself there")
        found = read_calibration(file)
    except RRSISError as error:
        warnings.warn(f"{error}; it is ignored", stacklevel=2)
        return None
    if found.weights_sha256 != (here := weights_sha256()):
        warnings.warn(
            f"{file} was made for other weights (sha256 {found.weights_sha256[:12]}…, here {here[:12]}…) and is "
            "ignored; `rrsis calibrate` makes one for these",
            stacklevel=2,
        )
        return None
    return found
