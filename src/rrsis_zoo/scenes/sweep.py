"""All windows of a view through the model, as finished rows of the map. Reading is a thread beside the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.scenes.asking import Asker
from rrsis_zoo.scenes.blend import Blend, Rows
from rrsis_zoo.scenes.view import View
from rrsis_zoo.scenes.windows import Plan, Window

_AHEAD = 2
"""Batches that are read before the model asks for them."""


@dataclass
class Tally:
    """What became of the windows of a sweep.

    Attributes:
        asked: went through the model.
        empty: had no pixel with a value.
        elsewhere: do not touch the area of interest.
        total: all.
        batch: windows that went through the model together at most.
        presence: (N,) the highest presence of each sentence; None without a calibration.
    """

    asked: int = 0
    empty: int = 0
    elsewhere: int = 0
    total: int = 0
    batch: int = 0
    presence: NDArray[np.float64] | None = None

    def saw(self, presence: NDArray[np.float64] | None) -> None:
        """Count a window that went through the model."""
        self.asked += 1
        if presence is not None:
            self.presence = presence.copy() if self.presence is None else np.maximum(self.presence, presence)


def sweep(
    asker: Asker,
    view: View,
    plan: Plan,
    wanted: Callable[[Window], bool],
    batch: int | None,
    tally: Tally,
    told: Callable[[Tally], None] = lambda _: None,
) -> Iterator[Rows]:
    """Yield the map's rows from the top, each once; memory is that of a row of windows.

    Args:
        asker: the model with N sentences.
        view: the pixels.
        plan: the windows.
        wanted: which of them may have something; the others are not read.
        batch: windows that go through the model together; None chooses by the memory.
        tally: is kept up to date.
        told: is called with it now and then.

    Raises:
        DataFormatError: the raster is damaged.
        WeightsMismatchError: outputs that are not finite.
    """
    blend = Blend(len(asker.texts), plan.top, plan.bottom, plan.width, asker.calibrated, asker.above)
    tally.total = len(plan)
    waiting: list[tuple[int, NDArray[np.uint8], NDArray[np.bool_] | None]] = []
    size = batch

    def ask() -> None:
        tally.batch = max(tally.batch, len(waiting))
        for (n, _, valid), answers in zip(waiting, asker.ask([pixels for _, pixels, _ in waiting]), strict=True):
            weights = plan.weights(n)
            if valid is not None:
                weights = weights * valid
            presence = None if answers.presence is None else answers.presence.astype(np.float32)
            blend.add(plan[n], answers.logits, weights, presence)
            tally.saw(answers.presence)
        waiting.clear()

    for n, pixels, valid in _read(view, plan, wanted, _AHEAD * (batch or 4), tally):
        if pixels is not None:
            size = size or asker.batch_for(pixels)
            waiting.append((n, pixels, valid))
            if len(waiting) >= size:
                ask()
        # rows above the first window that still waits, or that comes next
        following = waiting[0][0] if waiting else n + 1
        bottom = plan[following].top if following < len(plan) else plan.bottom
        if (rows := blend.finish(bottom)) is not None:
            yield rows
        told(tally)
    if waiting:
        ask()
    if (rows := blend.finish(plan.bottom)) is not None:
        yield rows
    told(tally)


def _read(
    view: View, plan: Plan, wanted: Callable[[Window], bool], ahead: int, tally: Tally
) -> Iterator[tuple[int, NDArray[np.uint8] | None, NDArray[np.bool_] | None]]:
    """Yield the windows in order, with their pixels, and which of them have a value; no pixels if nothing is there."""
    with ThreadPoolExecutor(1, "rrsis-reader") as reader:
        under_way: deque[tuple[int, Future | None]] = deque()
        try:
            for n in range(len(plan) + ahead):
                if n < len(plan):
                    window = plan[n]
                    under_way.append((n, reader.submit(view.read, window) if wanted(window) else None))
                if n < ahead:
                    continue
                first, future = under_way.popleft()
                if future is None:
                    tally.elsewhere += 1
                    yield first, None, None
                    continue
                pixels, valid = future.result()
                if valid is not None and not valid.any():
                    tally.empty += 1
                    yield first, None, None
                else:
                    yield first, pixels, None if valid is None or valid.all() else valid
        finally:
            for _, future in under_way:
                if future is not None:
                    future.cancel()
