"""Masks that any program has saved: an npz file, a folder of images, or run lengths in JSON lines. No torch."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.data.masks import RunLengths, encode_runs
from rrsis_zoo.errors import DataFormatError, MissingDataError

Role = Literal["pred", "target"]
Array = NDArray[Any]

IMAGES = (".png", ".tif", ".tiff", ".bmp")
"""Image formats that lose nothing."""

_FORMS = "an npz file with pred_0, pred_1, … / target_0, …, a folder of PNG files, or a .jsonl file of run lengths"
_FOREGROUND, _IGNORE = 1, 255
_UNREADABLE = (OSError, ValueError, EOFError, BadZipFile)
_SHOWN = 5


@dataclass(frozen=True)
class SavedMasks:
    """Saved masks by key, read one at a time.

    Attributes:
        where: what the user named.
        keys: in the order of the file, of the numbers in an npz, or of the file names.
        read: key -> the array as it was saved.
        facts: key -> what else a line of JSON says of the sample (``expression``, ``category`` …).
    """

    where: Path
    keys: list[str]
    read: Callable[[str], Array]
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def open_saved(path: str | Path, role: Role) -> SavedMasks:
    """Open saved masks.

    * npz: arrays ``pred_<i>`` or ``target_<i>``, by role, for numbers i; a path may stand before the name
      (``case/pred_0``). The key is the path with the number.
    * folder: images (``IMAGES``), also in folders inside; the key is the file's name without its suffix.
    * ``.jsonl`` or ``.jsonl.gz``: a line a mask with COCO's ``size`` and ``counts`` (a string, or a list of numbers),
      at the top or under ``segmentation``. The key is ``sample_id``, else ``image_id``, else the number of the line.

    Raises:
        MissingDataError: there is nothing of that name.
        DataFormatError: none of these forms, no masks, damaged, or a key that occurs twice.
    """
    path = Path(path)
    if not path.exists():
        raise MissingDataError(f"there is no {path}; masks are read from {_FORMS}")
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".npz":
        return _npz(path, role)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _run_lengths(path)
    raise DataFormatError(f"{path} is no form of saved masks; give {_FORMS}")


def matched(predictions: SavedMasks, targets: SavedMasks) -> list[str]:
    """Return the keys in the order of the targets.

    Raises:
        DataFormatError: a target without a prediction, or a prediction without a target.
    """
    for missing, there, absent in (
        (set(targets.keys) - set(predictions.keys), targets, predictions),
        (set(predictions.keys) - set(targets.keys), predictions, targets),
    ):
        if missing:
            names = sorted(missing)
            more = ", …" if len(names) > _SHOWN else ""
            raise DataFormatError(
                f"{len(names)} of the {len(there.keys)} masks in {there.where} are not in {absent.where}: "
                f"{', '.join(names[:_SHOWN])}{more}; predictions and targets must have the same names"
            )
    return list(targets.keys)


def as_target(array: Array, what: str, ignore_index: int | None = None) -> tuple[NDArray[np.bool_], Array | None]:
    """Read a saved array as a true mask.

    Without ``ignore_index``: foreground is what is not 0. 255 is a label to ignore only where 1 occurs too; in an array
    of 0 and 255 it is foreground.

    Args:
        array: bool or integers (H, W), of 0 and one other value; or floats of 0 and 1.
        what: the sample, for messages.
        ignore_index: label to leave out wherever it occurs.

    Returns:
        bool (H, W), and bool (H, W) that is False where a pixel is left out, or None for all pixels.

    Raises:
        DataFormatError: other shapes or values.
    """
    array = _flat(array, what)
    if array.dtype == np.bool_:
        return array, None
    values = _values(array, what)
    ignored = {ignore_index} & values if ignore_index is not None else set()
    if ignore_index is None and {_FOREGROUND, _IGNORE} <= values:
        ignored = {_IGNORE}
    rest = values - ignored - {0}
    if len(rest) > 1:
        raise DataFormatError(
            f"{what}: a true mask must hold 0 and one other value (and perhaps a label to ignore, --ignore-index), got "
            f"{_listed(values)}; save a mask of 0 and 1"
        )
    if not ignored:
        return array != 0, None
    counted = array != ignored.pop()
    return (array != 0) & counted, counted


def as_prediction(array: Array, what: str) -> NDArray[np.bool_] | NDArray[np.floating]:
    """Read a saved array as a prediction.

    Args:
        array: bool or integers (H, W) of 0 and one other value: a mask; or floats (H, W): log-odds (of 0 and 1 only: a
            mask).
        what: the sample, for messages.

    Returns:
        bool (H, W), or log-odds (H, W).

    Raises:
        DataFormatError: other shapes or values.
    """
    array = _flat(array, what)
    if array.dtype == np.bool_:
        return array
    if np.issubdtype(array.dtype, np.floating):
        return array != 0 if ((array == 0) | (array == 1)).all() else array
    values = _values(array, what)
    if len(values - {0}) > 1:
        raise DataFormatError(
            f"{what}: a predicted mask must hold 0 and one other value, got {_listed(values)}; save a mask of 0 and 1, "
            "or log-odds as floating-point numbers"
        )
    return array != 0


class LogOddsRange:
    """Tells log-odds from probabilities, which would be read as masks of foreground throughout."""

    def __init__(self) -> None:
        self.low, self.high, self.seen = np.inf, -np.inf, False

    def add(self, prediction: Array) -> None:
        """Look at a prediction; masks are passed over."""
        if prediction.dtype != np.bool_ and prediction.size:
            self.seen = True
            # fmin: a nan is found by itself
            self.low = min(self.low, float(np.fmin.reduce(prediction, axis=None)))
            self.high = max(self.high, float(np.fmax.reduce(prediction, axis=None)))

    def check(self, where: Path) -> None:
        """Refuse a set of predictions that never leaves [0, 1].

        Raises:
            DataFormatError: it looks like probabilities.
        """
        if self.seen and self.low >= 0 and self.high <= 1:
            raise DataFormatError(
                f"the floating-point predictions in {where} all lie in [0, 1], as probabilities do; log-odds are "
                "expected (> 0 is foreground): save log(p / (1 - p)), or masks p > 0.5"
            )


def _flat(array: Array, what: str) -> Array:
    if array.ndim == 3 and array.shape[2] in (3, 4) and (array[..., :3] == array[..., :1]).all():
        array = array[..., 0]  # a grey image that was saved in colour
    if array.ndim != 2 or not array.size:
        raise DataFormatError(f"{what}: a mask must be of shape (H, W), got {array.shape}")
    return array


def _values(array: Array, what: str) -> set[int]:
    """Return the values of an array of integers, or of floats that are 0 and 1."""
    if array.dtype == np.uint8:
        return set(np.flatnonzero(np.bincount(array.ravel(), minlength=256)).tolist())
    if np.issubdtype(array.dtype, np.integer):
        return set(np.unique(array).tolist())
    if np.issubdtype(array.dtype, np.floating) and ((array == 0) | (array == 1)).all():
        return {int(v) for v in np.unique(array)}
    raise DataFormatError(f"{what}: a mask must be bool or integers, got {array.dtype}")


def _listed(values: Sequence[int] | set[int]) -> str:
    names = [str(v) for v in sorted(values)]
    return ", ".join(names[:_SHOWN]) + (f", … ({len(names)} values)" if len(names) > _SHOWN else "")


# -- the three forms ---------------------------------------------------------------------------------------------------


def _npz(path: Path, role: Role) -> SavedMasks:
    try:
        file = np.load(path, allow_pickle=False)
    except _UNREADABLE as error:
        raise DataFormatError(f"{path} cannot be read as npz ({error})") from error
    if not isinstance(file, NpzFile):
        raise DataFormatError(f"{path} cannot be read as npz: it holds a single array without a name")
    names: dict[str, str] = {}
    for name in file.files:
        if found := re.fullmatch(rf"(.*/)?{role}_(\d+)", name):
            names[f"{found[1] or ''}{found[2]}"] = name
    if not names:
        raise DataFormatError(
            f"{path} holds no arrays {role}_0, {role}_1, …; it holds {', '.join(file.files[:_SHOWN])}"
        )

    def number(key: str) -> tuple[str, int]:
        folder, _, last = key.rpartition("/")
        return folder, int(last)

    def read(key: str) -> Array:
        try:
            return file[names[key]]
        except _UNREADABLE as error:
            raise DataFormatError(f"{path}: {names[key]} cannot be read ({error})") from error

    return SavedMasks(path, sorted(names, key=number), read)


def _folder(path: Path) -> SavedMasks:
    files: dict[str, Path] = {}
    for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGES):
        key = file.relative_to(path).with_suffix("").as_posix()
        if key in files:
            raise DataFormatError(f"{path} holds {files[key].name} and {file.name}: one mask of a name is needed")
        files[key] = file
    if not files:
        raise DataFormatError(f"{path} holds no masks ({', '.join(IMAGES)}); JPEG loses the values and is not read")

    def read(key: str) -> Array:
        try:
            with Image.open(files[key]) as image:
                return np.array(image)
        except (OSError, ValueError, SyntaxError) as error:
            raise DataFormatError(f"{files[key]}: cannot be read as an image ({error})") from error

    return SavedMasks(path, list(files), read)


def _run_lengths(path: Path) -> SavedMasks:
    codes: dict[str, RunLengths] = {}
    facts: dict[str, dict[str, Any]] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataFormatError(f"{path} cannot be read ({error})") from error
    for number, text in enumerate(lines):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            key = str(line.get("sample_id", line.get("image_id", number)))
            code = _code(line.get("segmentation", line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataFormatError(
                f"{path}, line {number + 1}: not a mask as run lengths ({error!r}); a line needs COCO's size and counts"
            ) from error
        if key in codes:
            raise DataFormatError(f"{path}, line {number + 1}: {key} occurs twice; one mask a sample is needed")
        codes[key], facts[key] = code, line
    if not codes:
        raise DataFormatError(f"{path} holds no masks")
    return SavedMasks(path, list(codes), lambda key: codes[key].decode(), facts)


def _code(line: Mapping[str, Any]) -> RunLengths:
    height, width = (int(v) for v in line["size"])
    counts = line["counts"]
    if isinstance(counts, list):
        return RunLengths((encode_runs(counts, height, width),), height, width)
    return RunLengths((str(counts).encode("ascii"),), height, width)
