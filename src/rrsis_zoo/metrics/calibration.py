"""Fitting presence to own and foreign answers: logistic regression, cross-validated by scene. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.statistics import Interval, scene_auc

FOLDS, FALSE_ALARMS = 5, 0.05

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A logistic regression and what it is worth on scenes that it has not seen.

    Attributes:
        coefficients: (K,), for the evidence as it is.
        intercept: of the same.
        threshold: see `threshold_for`.
        auc: cross-validated, with its interval by scene, as ratios.
        own, foreign: (N,) and (M,) cross-validated presence of the answers.
    """

    coefficients: Floats
    intercept: float
    threshold: float
    auc: Interval
    own: Floats
    foreign: Floats


def fit_presence(
    own: Floats,
    foreign: Floats,
    own_scenes: Sequence[str],
    foreign_scenes: Sequence[str],
    false_alarms: float = FALSE_ALARMS,
) -> Fit:
    """Fit presence to answers.

    The evidence is standardised and the regression has scikit-learn's default ridge penalty. AUC and threshold are of
    answers about scenes that the regression was not fitted to: all answers about a scene are in one fold.

    Args:
        own, foreign: evidence (N, K) and (M, K) of the two kinds of answers.
        own_scenes, foreign_scenes: N and M scene ids.
        false_alarms: largest share of foreign answers above the threshold.

    Raises:
        ConfigError: too few scenes to have both kinds of answers in every fold, or evidence that is not finite.
    """
    # a second, and several hundred modules: only who calibrates waits for them
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values = np.concatenate([own, foreign])
    if not np.isfinite(values).all():
        raise ConfigError("the model outputs infinities or NaN, so nothing can be calibrated: check its weights")
    # scenes of a dataset's own sentences without a target may have no others
    fewest = min(len(set(own_scenes)), len(set(foreign_scenes)))
    if fewest < FOLDS:
        raise ConfigError(
            f"{fewest} scenes have own and foreign sentences, and cross-validation needs {FOLDS}: give a larger split"
        )
    wanted = np.repeat([1, 0], [len(own), len(foreign)])
    _, groups = np.unique([*own_scenes, *foreign_scenes], return_inverse=True)
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    presence = np.empty(len(values))
    for fitted, held_out in GroupKFold(FOLDS).split(values, wanted, groups):
        if len(set(wanted[fitted].tolist())) < 2:
            raise ConfigError(
                "too few scenes for cross-validation: a part has one kind of answers; give a larger split"
            )
        regression.fit(values[fitted], wanted[fitted])
        presence[held_out] = regression.predict_proba(values[held_out])[:, 1]
    scaler, logistic = (step for _, step in regression.fit(values, wanted).steps)
    coefficients = logistic.coef_[0] / scaler.scale_
    return Fit(
        coefficients,
        float(logistic.intercept_[0] - coefficients @ scaler.mean_),
        threshold_for(presence[len(own) :], false_alarms),
        scene_auc(presence[: len(own)], presence[len(own) :], own_scenes, foreign_scenes),
        presence[: len(own)],
        presence[len(own) :],
    )


def threshold_for(foreign: Floats, false_alarms: float) -> float:
    """Return the smallest threshold that no more than this share of foreign answers reaches.

    Args:
        foreign: (M,) presence.
        false_alarms: in (0, 1).

    Example:
        >>> 0.3 < threshold_for(np.array([0.1, 0.2, 0.3, 0.9]), 0.25) < 0.3 + 1e-9
        True
    """
    allowed = math.floor(false_alarms * len(foreign) + 1e-9)
    return float(np.nextafter(np.sort(foreign)[::-1][allowed], np.inf))
