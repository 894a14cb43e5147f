"""Fields of annotation files, read with their types checked, and the masks in them. No torch here."""

from __future__ import annotations

from typing import Any, TypeVar

from rrsis_zoo.data.masks import LayerRule, RunLengths, encode_polygon, encode_runs
from rrsis_zoo.data.sentences import characters
from rrsis_zoo.errors import DataFormatError

T = TypeVar("T")

_MOST = 2**53  # limit of ids and sizes: JSON readers agree below it


def get(entry: Any, key: str, kind: type[T], where: str) -> T:
    """Return a field of an object.

    Raises:
        DataFormatError: it is missing, of another type, a number out of range or text that cannot be encoded.
    """
    if not isinstance(entry, dict):
        raise DataFormatError(f"{where}: must be an object with fields, got {type(entry).__name__}")
    if key not in entry:
        raise DataFormatError(f"{where}: field {key!r} is missing")
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataFormatError(f"{where}: field {key!r} must be {kind.__name__}, got {type(value).__name__}")
    if isinstance(value, int) and not 0 <= value < _MOST:
        raise DataFormatError(f"{where}: field {key!r} must be a number from 0 to {_MOST - 1:,}")
    if isinstance(value, str):
        return characters(value, f"{where}: field {key!r}")  # type: ignore[return-value]
    return value


def number(entry: Any, key: str, where: str) -> int | float:
    """Return a field that is a number, whole or not. Errors as `get`."""
    if isinstance(entry, dict) and isinstance(entry.get(key), float):
        return entry[key]
    return get(entry, key, int, where)


def index(entries: list[Any], key: str, what: str) -> dict[int, Any]:
    """Return the entries by id, in their order."""
    index: dict[int, Any] = {}
    for position, entry in enumerate(entries):
        number = get(entry, key, int, f"{what} at position {position}")
        if number in index:
            raise DataFormatError(f"{what} {number}: field {key!r} occurs more than once")
        index[number] = entry
    return index


def segmentation_mask(segmentation: list[Any], image_size: tuple[int, int], rule: LayerRule, where: str) -> RunLengths:
    """Return the layers of one annotation: run lengths at their own size, or polygons at the image's."""
    kinds = {type(layer) for layer in segmentation}
    try:
        if kinds == {list}:
            layers = tuple(encode_polygon(layer, *image_size) for layer in segmentation)
            return RunLengths(layers, *image_size, rule)
        if kinds == {dict}:
            sizes = {run_size(layer.get("size")) for layer in segmentation}
            if len(sizes) > 1:
                raise ValueError(f"its layers have different sizes {sorted(sizes)}")
            height, width = sizes.pop()
            layers = tuple(run_counts(layer.get("counts"), height, width) for layer in segmentation)
            return RunLengths(layers, height, width, rule)
        raise ValueError("it must be a non-empty list of run lengths or of polygons")
    except ValueError as error:
        raise DataFormatError(f"{where}: its segmentation cannot be read: {error}") from error


def run_size(size: Any) -> tuple[int, int]:
    """Return (height, width) of run lengths.

    Raises:
        ValueError: not two integers.
    """
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)):
        raise ValueError("run lengths need a size of two integers [height, width]")
    return size[0], size[1]


def run_counts(counts: Any, height: int, width: int) -> bytes:
    """Return compressed counts from a string or a list of integers.

    Raises:
        ValueError: neither.
    """
    if isinstance(counts, str):
        return counts.encode("ascii")
    if isinstance(counts, list):
        return encode_runs(counts, height, width)
    raise ValueError("run lengths need counts, a string or a list of integers")
