"""What a perfect prediction scores on a method's output grid: the true mask is passed through it, not the method.

The mask is mapped to the method's square input like a training target, every cell of the output grid outputs its share
of foreground, and the result is brought back to native size by the method's own steps and thresholded at 0.5. Higher
scores are out of reach for a method that outputs shares; sharper outputs can gain a little on thin objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rrsis_zoo.data.counted import counted
from rrsis_zoo.data.masks import median3
from rrsis_zoo.data.records import Record
from rrsis_zoo.models.card import OutputGrid

Mask = NDArray[np.bool_]

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def through_grid(mask: Mask, grid: OutputGrid) -> Mask:
    """Return the mask as the grid can represent it, bool (H, W) of the same size."""
    height, width = mask.shape
    fitted = (grid.side, grid.side)
    if grid.keeps_aspect:
        scale = grid.side / max(height, width)
        fitted = (int(height * scale + 0.5), int(width * scale + 0.5))
    target = F.interpolate(torch.from_numpy(mask)[None, None].to(torch.uint8), size=fitted, mode="nearest").float()
    square = F.pad(target, (0, grid.side - fitted[1], 0, grid.side - fitted[0]))
    cells = F.adaptive_avg_pool2d(square, grid.cells)
    answer = _resize(cells, (grid.side, grid.side))[..., : fitted[0], : fitted[1]]
    return (_resize(answer, (height, width)) > 0.5)[0, 0].numpy()


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def ceilings(
    records: Sequence[Record], grids: Mapping[str, OutputGrid], with_median: bool, what: str = ""
) -> dict[str, dict[str, float]]:
    """Return the scores of the true masks on every grid, and of their medians.

    Args:
        records: samples; empty masks count as a miss, as in the canonical protocol.
        grids: method -> where its masks live.
        with_median: also score the official mask against its own 3 x 3 median.
        what: named in lines about its progress on standard error; without it there are none.

    Returns:
        Method, and ``official mask vs its 3 x 3 median`` -> ``miou``, ``oiou``, ``pr@0.5`` ... ``pr@0.9`` in percent.
    """
    # methods with the same geometry have the same ceiling: it is computed once
    geometry = {name: (grid.side, grid.cells, grid.keeps_aspect) for name, grid in grids.items()}
    answers: dict[Any, Callable[[Mask], Mask]] = {
        geometry[name]: lambda mask, grid=grid: through_grid(mask, grid) for name, grid in grids.items()
    }
    if with_median:
        answers["median"] = median3
    counts: dict[Any, list[tuple[int, int]]] = {key: [] for key in answers}
    for record in counted(records, len(records), what):
        mask = record.mask.decode()
        for key, answer in answers.items():
            other = answer(mask)
            counts[key].append((int((mask & other).sum()), int((mask | other).sum())))
    scores = {name: _scores(counts[key]) for name, key in geometry.items()}
    if with_median:
        scores["official mask vs its 3 x 3 median"] = _scores(counts["median"])
    return scores


def _scores(pairs: Iterable[tuple[int, int]]) -> dict[str, float]:
    both, either = np.array(list(pairs), np.int64).reshape(-1, 2).T
    iou = np.where(either > 0, both / np.maximum(either, 1), 0.0)
    scores = {"miou": iou.mean(), "oiou": both.sum() / max(1, either.sum())}
    scores |= {f"pr@{t}": (iou >= t).mean() for t in THRESHOLDS}
    return {name: 100 * float(value) for name, value in scores.items()}
