"""What needs no sentence and no network: the best constant mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.data.dataset import fit_mask
from rrsis_zoo.data.records import Record


def best_constant(train: Sequence[Record], test: Sequence[Record], levels: int = 40) -> NDArray[np.int64]:
    """Return intersection and union (N, 2) of the best constant prediction on the test samples.

    Candidates: the mean training mask thresholded at ``levels`` values, the full mask among them. The one with the
    highest mIoU *on the test samples* is taken, so that no constant of this kind does better.

    Args:
        train: whose masks make the mean.
        test: what is scored; all masks are compared at the size of the first one of ``train``.
        levels: thresholds.
    """
    size = (train[0].height, train[0].width)
    mean = np.mean([fit_mask(record.mask.decode(), size) for record in train], axis=0, dtype=np.float64)
    targets = np.stack([fit_mask(record.mask.decode(), size).reshape(-1) for record in test])
    best, best_score = np.zeros((len(test), 2), dtype=np.int64), -1.0
    for threshold in np.linspace(0, mean.max(), levels, endpoint=False):
        constant = (mean >= threshold).reshape(-1)
        counts = np.stack([(targets & constant).sum(1), (targets | constant).sum(1)], axis=1)
        score = float(np.mean(counts[:, 0] / np.maximum(counts[:, 1], 1)))
        if score > best_score:
            best, best_score = counts, score
    return best
