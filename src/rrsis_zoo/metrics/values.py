"""The meaning of the values in a saved array: mask, ignore label, log-odds, or nothing to score. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.errors import DataFormatError

Array = NDArray[Any]

FOREGROUND, IGNORE = 1, 255
_SHOWN = 5
_BLOCK = 2**20  # pixels examined at once
_ROUNDING = 0.01  # by how much resized or half-precision probabilities may leave [0, 1]


def as_target(array: Array, what: str, ignore_index: int | None = None) -> tuple[NDArray[np.bool_], Array | None]:
    """Read a saved array as a true mask.

    Without ``ignore_index``: foreground is any value but 0. 255 is an ignore label only if 1 occurs too; in an array of
    0 and 255 it is foreground.

    Args:
        array: bool or integers (H, W), of 0 and one other value; or floats of 0 and 1, or of 0 and 255.
        what: the sample, for error messages.
        ignore_index: label to leave out wherever it occurs.

    Returns:
        bool (H, W), and bool (H, W) that is False for pixels to leave out, or None to count all pixels.

    Raises:
        DataFormatError: other shapes or values.
    """
    array = _flat(array, what)
    if array.dtype == np.bool_:
        return array, None
    if array.dtype.kind == "f" and not _is_mask(array):
        raise DataFormatError(f"{what}: a mask must be bool or integers, got {array.dtype}; save a mask of 0 and 1")
    values = _values(array)
    ignored = {ignore_index} & values if ignore_index is not None else set()
    if ignore_index is None and {FOREGROUND, IGNORE} <= values:
        ignored = {IGNORE}
    rest = values - ignored - {0}
    if len(rest) > 1:
        raise DataFormatError(
            f"{what}: a true mask must contain 0 and one other value (and possibly an ignore label, --ignore-index), "
            f"got {_listed(values)}; save a mask of 0 and 1"
        )
    if not ignored:
        return array != 0, None
    counted = array != ignored.pop()
    return (array != 0) & counted, counted


def as_prediction(array: Array, what: str) -> NDArray[np.bool_] | NDArray[np.floating]:
    """Read a saved array as a prediction.

    Args:
        array: bool or integers (H, W) of 0 and one other value: a mask; or floats (H, W): log-odds (of 0 and 1 only, or
            of 0 and 255 only: a mask).
        what: the sample, for error messages.

    Returns:
        bool (H, W), or log-odds (H, W) as float16, float32 or float64.

    Raises:
        DataFormatError: other shapes or values.
    """
    array = _flat(array, what)
    if array.dtype == np.bool_:
        return array
    if array.dtype.kind == "f":
        return array != 0 if _is_mask(array) else array
    values = _values(array)
    if len(values - {0}) > 1:
        raise DataFormatError(
            f"{what}: a predicted mask must contain 0 and one other value, got {_listed(values)}; save a mask of 0 and "
            "1 (for probabilities of 0 to 255: > 127), or log-odds as floating-point numbers"
        )
    return array != 0


class LogOddsRange:
    """Distinguishes log-odds from probabilities, which would be read as foreground everywhere."""

    def __init__(self) -> None:
        self.low, self.high, self.seen = np.inf, -np.inf, False

    def add(self, prediction: Array) -> None:
        """Take a prediction into account; masks are ignored."""
        if prediction.dtype != np.bool_ and prediction.size:
            self.seen = True
            # fmin ignores nan, which is reported separately
            self.low = min(self.low, float(np.fmin.reduce(prediction, axis=None)))
            self.high = max(self.high, float(np.fmax.reduce(prediction, axis=None)))

    def check(self, where: Path) -> str | None:
        """Refuse a set of predictions that is nowhere negative; return a note on one that is nowhere positive.

        Raises:
            DataFormatError: it looks like probabilities.
        """
        if self.seen and self.low >= -_ROUNDING and self.high <= 1 + _ROUNDING:
            raise DataFormatError(
                f"the floating-point predictions in {where} all lie in [0, 1], as probabilities do; log-odds are "
                "expected (> 0 is foreground): save log(p / (1 - p)), or masks p > 0.5"
            )
        if self.seen and self.low >= 0:
            raise DataFormatError(
                f"the floating-point predictions in {where} lie in {self.low:g} … {self.high:g} and are nowhere "
                "negative, so everything would be foreground; log-odds are expected (> 0 is foreground): save those, "
                "or masks"
            )
        if self.seen and self.high <= 0:
            return (
                f"the floating-point predictions in {where} are nowhere above 0, so nothing would be foreground; "
                "log-odds are expected, not logarithms of probabilities"
            )
        return None


def _flat(array: Array, what: str) -> Array:
    """Return an array of numbers (H, W) in native byte order."""
    if array.dtype.kind not in "biuf":
        raise DataFormatError(f"{what}: a mask must be bool or integers (or log-odds), got {array.dtype}")
    if array.ndim == 3 and array.shape[2] in (3, 4) and array.size:
        array = _grey(array, what)
    if array.ndim != 2 or not array.size:
        raise DataFormatError(f"{what}: a mask must be of shape (H, W), got {array.shape}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _grey(array: Array, what: str) -> Array:
    """Return the grey levels (H, W) of an image saved in colour, (H, W, 3) or with alpha (H, W, 4)."""
    grey = array[..., 0]
    if not (array[..., :3] == array[..., :1]).all():
        raise DataFormatError(f"{what}: contains colours; a mask must be of shape (H, W), got {array.shape}")
    if array.shape[2] == 4:
        check_alpha(grey, array[..., 3], what)
    return grey


def check_alpha(grey: Array, alpha: Array, what: str) -> None:
    """Refuse a mask that may be in the alpha channel.

    Args:
        grey: (H, W).
        alpha: (H, W); ignored if it is constant, or 0 exactly where the grey level is.
        what: the sample, for error messages.

    Raises:
        DataFormatError: the two disagree.
    """
    first = alpha.flat[0]
    if not (first != 0 and (alpha == first).all()) and not np.array_equal(grey != 0, alpha != 0):
        raise DataFormatError(
            f"{what}: is partly transparent, and its alpha channel is another mask than its colours; save the right "
            "one as grey, 0 and 255"
        )


def _is_mask(array: Array) -> bool:
    """Whether an array of floats contains only 0 and 1, or only 0 and 255."""
    return any(bool(((array == 0) | (array == value)).all()) for value in (FOREGROUND, IGNORE))


def _values(array: Array) -> set[int]:
    """Return the values of an array of integers; only a few of them if there are many."""
    if array.dtype == np.uint8:
        flat = array.reshape(-1)
        blocks = (flat[at : at + _BLOCK] for at in range(0, flat.size, _BLOCK))  # bincount takes eight times the memory
        return set(np.flatnonzero(sum(np.bincount(block, minlength=256) for block in blocks)).tolist())
    values: set[int] = set()
    rest = array.reshape(-1)
    while rest.size and len(values) <= _SHOWN:
        values.add(int(rest[0]))
        rest = rest[rest != rest[0]]
    return values


def _listed(values: Iterable[int]) -> str:
    names = [str(v) for v in sorted(values)]
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
