"""The best constant mask: a baseline that reads no sentence and needs no training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.data.masks import at_image_size
from rrsis_zoo.data.records import Record
from rrsis_zoo.metrics.measure import measure
from rrsis_zoo.metrics.protocols import Protocol
from rrsis_zoo.metrics.samples import Counts, Samples
from rrsis_zoo.metrics.sizes import eval_shape
from rrsis_zoo.training.callbacks import subject

_LARGEST = 256
"""Longest side of the grid on which the constant mask is selected, in pixels."""


def best_constant(train: Sequence[Record], test: Sequence[Record], levels: int = 40) -> NDArray[np.bool_]:
    """Return the best constant mask, bool (h, w).

    Candidates are the mean training mask thresholded at ``levels`` values, including the full mask. The one with the
    highest mIoU *on the test samples* is selected, so that it is an upper bound for constants of this kind.

    Args:
        train: samples for the mean mask.
        test: samples for the selection.
        levels: number of thresholds.

    Returns:
        The mask on the grid of the first training mask, at most 256 pixels long; every mask is resized to that grid.
    """
    shrink = max(1.0, max(train[0].height, train[0].width) / _LARGEST)
    size = (round(train[0].height / shrink), round(train[0].width / shrink))
    mean = np.zeros(size)
    for record in train:
        mean += at_image_size(record.mask.decode(), size)
    mean /= len(train)
    candidates = np.stack([mean >= threshold for threshold in np.linspace(0, mean.max(), levels, endpoint=False)])
    areas, total = candidates.sum((1, 2)), np.zeros(levels)
    for record in test:
        target = at_image_size(record.mask.decode(), size)
        both = (candidates & target).sum((1, 2))
        total += both / np.maximum(areas + target.sum() - both, 1)
    return candidates[int(total.argmax())]


def measure_constant(mask: NDArray[np.bool_], test: Sequence[Record], protocol: Protocol) -> Samples:
    """Return the results of predicting the same mask for every sample, at each sample's own size."""
    rows = []
    for record in test:
        target = record.mask.decode()
        answer = Image.fromarray(mask).resize((target.shape[1], target.shape[0]), Image.Resampling.NEAREST)
        truth = torch.from_numpy(target)
        core = measure(torch.from_numpy(np.array(answer)), truth, protocol.eval_size, details=True)
        shape = torch.tensor(eval_shape(protocol.eval_size, truth))
        rows.append(torch.cat([core[:3], shape, core[4:]]))  # without the flag for NaN log-odds
    return Samples([subject(record) for record in test], Counts.from_rows(torch.stack(rows).numpy()))
