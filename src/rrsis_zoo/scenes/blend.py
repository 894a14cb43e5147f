"""Overlapping windows as one map, row by row: only rows that a later window can still reach are in memory.

Log-odds are averaged, not probabilities, nor does the last window win: between two windows that disagree, the one whose
middle is nearer and that is surer decides, and nothing shows where a window ends. No torch, no GDAL.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.scenes.windows import Window


@dataclass
class Rows:
    """Finished rows of the map of N sentences.

    Attributes:
        top: the first row.
        logits: float32 (N, rows, width), log-odds; 0 where nothing is known.
        presence: float32 (N, rows, width), the highest presence of the windows that see foreground here, 0 where none
            does; None without a calibration.
        known: bool (rows, width), pixels that a window with a value has covered.
    """

    top: int
    logits: NDArray[np.float32]
    presence: NDArray[np.float32] | None
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.known)


class Blend:
    """The weighted mean of windows' log-odds.

    Args:
        sentences: N.
        top, bottom: first row of the map, and the row after its last one.
        width: of the map.
        with_presence: whether windows have a presence.
        above: log-odds above which a pixel is foreground.
    """

    def __init__(
        self, sentences: int, top: int, bottom: int, width: int, with_presence: bool, above: float = 0.0
    ) -> None:
        self._bottom, self._above = bottom, above
        self._top, self._rows = top, 0  # what is in memory
        self._sums = np.zeros((sentences, 0, width), np.float32)
        self._weights = np.zeros((0, width), np.float32)
        self._presence = np.zeros((sentences, 0, width), np.float32) if with_presence else None

    def add(
        self,
        window: Window,
        logits: NDArray[np.float32],
        weights: NDArray[np.float32],
        presence: NDArray[np.float32] | None = None,
    ) -> None:
        """Add the answers about a window.

        Args:
            window: no row of it has been finished.
            logits: (N, height, width) log-odds.
            weights: (height, width); 0 for pixels without a value.
            presence: (N,) in [0, 1].
        """
        self._reach(window.bottom)
        rows, columns = slice(window.top - self._top, window.bottom - self._top), slice(window.left, window.right)
        for n, one in enumerate(logits):
            self._sums[n, rows, columns] += one * weights
        self._weights[rows, columns] += weights
        if self._presence is not None and presence is not None:
            for n, one in enumerate(logits):
                there = self._presence[n, rows, columns]
                np.maximum(there, presence[n], out=there, where=one > self._above)

    def finish(self, bottom: int) -> Rows | None:
        """Return the rows above one that no later window reaches; None if there are none."""
        count = min(bottom, self._bottom) - self._top
        if count <= 0:
            return None
        self._reach(self._top + count)
        weights = self._weights[:count]
        known = weights > 0
        logits = np.divide(self._sums[:, :count], weights, out=np.zeros_like(self._sums[:, :count]), where=known)
        presence = None if self._presence is None else self._presence[:, :count].copy()
        rows = Rows(self._top, logits, presence, known)
        kept = self._rows - count
        for array in self._arrays:
            array[..., :kept, :] = array[..., count : self._rows, :]
            array[..., kept : self._rows, :] = 0
        self._top, self._rows = self._top + count, kept
        return rows

    @property
    def _arrays(self) -> list[NDArray[np.float32]]:
        return [self._sums, self._weights, *([] if self._presence is None else [self._presence])]

    def _reach(self, bottom: int) -> None:
        """Have rows down to one in memory."""
        self._rows = max(self._rows, bottom - self._top)
        missing = self._rows - len(self._weights)
        if missing <= 0:
            return

        def longer(array: NDArray[np.float32]) -> NDArray[np.float32]:
            more = np.zeros((*array.shape[:-2], missing, array.shape[-1]), np.float32)
            return np.concatenate([array, more], axis=-2)

        self._sums, self._weights = longer(self._sums), longer(self._weights)
        self._presence = None if self._presence is None else longer(self._presence)
