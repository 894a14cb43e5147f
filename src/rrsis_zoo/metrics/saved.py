"""Masks saved by any program: an npz file, a folder of images, or run lengths in JSON lines. No torch.

Predictions and targets are matched by name. If a file does not name its masks, their positions are used, which are
matched only with positions: mask 3 of a list would be the mask of image 3 only by accident.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from zipfile import ZIP_DEFLATED, ZIP_STORED

import numpy as np
from numpy.lib.npyio import NpzFile
from pydantic import Field

from rrsis_zoo.data.masks import RunLengths, encode_runs
from rrsis_zoo.data.pixels import LIMIT_VARIABLE, pixel_limit
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import each_line, expanded, parse_json, reason, regular_file
from rrsis_zoo.metrics.mask_images import IMAGES, read_mask_image
from rrsis_zoo.metrics.values import Array
from rrsis_zoo.schema import Strict, Text, checked

MaskRole = Literal["pred", "target"]

_FORMS = "an npz file with pred_0, pred_1, … / target_0, …, a folder of PNG files, or a .jsonl file of run lengths"
_SHOWN = 5
_LINE = 2**23
"""Most bytes of a line: run lengths of noise at 2,048 x 2,048 pixels."""


@dataclass(frozen=True)
class SavedMasks:
    """Saved masks by key, read one at a time.

    Attributes:
        where: the path from the user.
        keys: in the order of the lines, of the numbers in an npz, or of the file names.
        read: key -> the array as saved.
        naming: what the keys are: ``file names``, ``sample_id``, ``image_id``; or, if only positions, ``array
            numbers`` or ``line numbers``.
        facts: key -> other fields of its JSON line (``expression``, ``category`` …).
        notes: remark on how masks were read -> number of masks; complete when all have been read.
    """

    where: Path
    keys: list[str]
    read: Callable[[str], Array]
    naming: str
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def by_place(self) -> bool:
        """Whether the keys are positions, not names."""
        return self.naming.endswith("numbers")


def open_saved(path: str | Path, role: MaskRole) -> SavedMasks:
    """Open saved masks.

    * npz: arrays ``pred_<i>`` or ``target_<i>``, by role, for numbers i; the name may have a path in front
      (``case/pred_0``). The key is the path with the number.
    * folder: images (``IMAGES``), including those in inner folders; the key is the file's name without its suffix.
    * ``.jsonl`` or ``.jsonl.gz``: one line per mask with COCO's ``size`` and ``counts`` (a string, or a list of
      numbers), at the top level or under ``segmentation``. The key is ``sample_id``, else ``image_id``, the same on
      every line; or, if no line has a name, the number of the line.

    Raises:
        MissingDataError: nothing has that name.
        DataFormatError: none of these formats, no masks, damaged, or a key that occurs twice or only on some lines.
    """
    path = expanded(path)
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as cause:
        raise DataFormatError(f"{path} cannot be read ({reason(cause)})") from cause
    if is_folder:
        return _folder(path)
    try:
        regular_file(path)
    except MissingDataError as cause:
        raise MissingDataError(f"{cause}; masks are read from {_FORMS}") from cause
    if path.suffix == ".npz":
        return _npz(path, role)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _run_lengths(path)
    raise DataFormatError(f"{path} is not a supported form of saved masks; give {_FORMS}")


def matched(predictions: SavedMasks, targets: SavedMasks) -> tuple[list[str], list[str]]:
    """Return the keys in the order of the targets, and notes on how they were matched.

    Raises:
        DataFormatError: a target without a prediction, or a prediction without a target; or names on one side only.
    """
    if predictions.by_place != targets.by_place:
        places, names = (predictions, targets) if predictions.by_place else (targets, predictions)
        raise DataFormatError(
            f"the masks in {places.where} have no names but {places.naming}, those in {names.where} have "
            f"{names.naming}: so they cannot be matched; name the masks in both (lines of JSON by "
            "sample_id), or save both in the same form"
        )
    for missing, there, absent in (
        (set(targets.keys) - set(predictions.keys), targets, predictions),
        (set(predictions.keys) - set(targets.keys), predictions, targets),
    ):
        if missing:
            names = sorted(missing)
            more = ", …" if len(names) > _SHOWN else ""
            raise DataFormatError(
                f"{len(names)} of the {len(there.keys)} masks in {there.where} are not in {absent.where}: "
                f"{', '.join(names[:_SHOWN])}{more}; predictions and targets must have the same names, got "
                f"{predictions.naming} {predictions.keys[0]} … and {targets.naming} {targets.keys[0]} …"
            )
    return list(targets.keys), [*_how(predictions, targets)]


def _how(predictions: SavedMasks, targets: SavedMasks) -> list[str]:
    """Return notes on matched masks."""
    notes = []
    if predictions.naming != targets.naming:
        notes.append(f"{predictions.naming} of the predictions were matched with {targets.naming} of the targets")
    elif predictions.naming == "line numbers":
        notes.append("no line names its sample, so predictions and targets were matched line by line")
    other = [
        key
        for key in targets.keys
        if len({facts[key].get("expression") for facts in (predictions.facts, targets.facts) if key in facts} - {None})
        > 1
    ]
    if other:
        notes.append(
            f"{len(other)} samples have different expressions in predictions and targets ({_few(other)}): are they "
            "the same samples?"
        )
    return notes


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


# -- arrays ------------------------------------------------------------------------------------------------------------


def _npz(path: Path, role: MaskRole) -> SavedMasks:
    try:
        file = np.load(path, allow_pickle=False)
    except Exception as error:  # parsers raise almost anything on damaged zip files
        raise DataFormatError(f"{path} cannot be read as npz ({reason(error)})") from error
    if not isinstance(file, NpzFile):
        raise DataFormatError(f"{path} cannot be read as npz: it contains a single unnamed array")
    names: dict[str, str] = {}
    for name in file.files:
        if match := re.fullmatch(rf"(.*/)?{role}_([0-9]{{1,18}})", name):
            key = f"{match[1] or ''}{match[2]}"
            if key in names:
                raise DataFormatError(f"{path} holds {name} twice: one mask per name is needed")
            names[key] = name
    if not names:
        raise DataFormatError(
            f"{path} holds no arrays {role}_0, {role}_1, …; it holds {', '.join(file.files[:_SHOWN])}"
        )
    notes: dict[str, int] = {}
    if left := [name for name in file.files if name not in names.values() and role in name.rpartition("/")[2].lower()]:
        notes[f"were not read, because their names are not {role}_ and a number: {_few(left)}"] = len(left)

    def number(key: str) -> tuple[str, int]:
        folder, _, last = key.rpartition("/")
        return folder, int(last)

    def read(key: str) -> Array:
        what = f"{path}: {names[key]}"
        try:
            return _member(file, names[key], what)
        except DataFormatError:
            raise
        except Exception as error:
            raise DataFormatError(f"{what} cannot be read ({reason(error)})") from error

    return SavedMasks(path, sorted(names, key=number), read, "array numbers", notes=notes)


def _member(file: NpzFile, name: str, what: str) -> Array:
    """Read an array of an npz after checking its header, which decides how much memory is allocated.

    Raises:
        DataFormatError: implausibly large, or different from its header.
    """
    assert file.zip is not None
    info = file.zip.getinfo(f"{name}.npy" if f"{name}.npy" in file.zip.namelist() else name)
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise DataFormatError(f"{what} is compressed in a way that numpy does not use; save it with numpy.savez")
    with file.zip.open(info) as member:
        version = np.lib.format.read_magic(member)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if header is None:  # later versions are only for named fields
            raise DataFormatError(f"{what} is not a plain array; a mask of 0 and 1 is expected")
        shape, _, dtype = header(member)
        size, limit = math.prod(shape), pixel_limit()
        if dtype.hasobject:
            raise DataFormatError(f"{what} contains Python objects, which are not read; a mask of 0 and 1 is expected")
        if size > limit or size * dtype.itemsize > 2 * limit:
            raise DataFormatError(
                f"{what} has {size:,} values of {dtype.itemsize} bytes; at most {limit:,} pixels of 2 bytes each are "
                f"read ({LIMIT_VARIABLE} changes the limit)"
            )
        if info.file_size - member.tell() != size * dtype.itemsize:
            raise DataFormatError(f"{what} is damaged: its header says {shape} of {dtype}, its content differs")
    with file.zip.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


# -- images ------------------------------------------------------------------------------------------------------------


def _folder(path: Path) -> SavedMasks:
    files: dict[str, Path] = {}
    others: list[str] = []
    for file in sorted(p for p in path.rglob("*") if not p.name.startswith(".")):  # macOS leaves ._x.png next to x.png
        key = file.relative_to(path).with_suffix("").as_posix()
        if file.suffix.lower() not in IMAGES:
            others += [] if os.path.isdir(file) else [file.relative_to(path).as_posix()]
            continue
        if key in files:
            raise DataFormatError(f"{path} holds {files[key].name} and {file.name}: one mask per name is needed")
        files[key] = file
    if not files:
        raise DataFormatError(f"{path} holds no masks ({', '.join(IMAGES)}); JPEG loses the values and is not read")
    notes = {f"were not read, because they are not {', '.join(IMAGES)}: {_few(others)}": len(others)} if others else {}

    def note(text: str) -> None:
        notes[text] = notes.get(text, 0) + 1

    return SavedMasks(path, list(files), lambda key: read_mask_image(files[key], note), "file names", notes=notes)


# -- run lengths -------------------------------------------------------------------------------------------------------

_Name = Text | int | None


class _Code(Strict):
    """COCO's code of a mask."""

    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    counts: str | list[int]

    def decoder(self, what: str) -> RunLengths:
        """Return the run lengths.

        Raises:
            DataFormatError: they do not fill the size, or it is implausible.
        """
        height, width = self.size
        try:
            packed = self.counts if isinstance(self.counts, str) else None
            code = packed.encode("ascii") if packed is not None else encode_runs(self.counts, height, width)  # type: ignore[arg-type]
            return RunLengths((code,), height, width)
        except ValueError as cause:
            raise DataFormatError(f"{what} ({cause})") from cause


class _Line(Strict):
    """What is read of a line besides the code."""

    sample_id: _Name = None
    image_id: _Name = None
    scene_id: _Name = None
    expression: Text | None = None
    category: Text | None = None
    category_source: Text | None = None
    kind: Text | None = None


_NEEDED = "a line needs COCO's size and counts"
_FACTS = ("scene_id", "expression", "category", "category_source", "kind")
_NAMES = frozenset(("id", "idx", "index", "key", "name", "no", "nr", "number", "file", "path", "image", "img"))
_NAMES |= frozenset(("ids", "filename", "uid", "uuid", "refid", "annid", "imgid"))
_OF_OTHERS = frozenset(("category", "cat", "class", "scene", "label", "dataset", "split", "model"))


def _is_name(name: str) -> bool:
    """Return whether a field of an unknown file names a sample: ``id``, ``ref_id``, ``annId``, ``file_name`` …"""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    return bool(words) and words[-1] in _NAMES and words[0] not in _OF_OTHERS


def _run_lengths(path: Path) -> SavedMasks:
    codes: dict[str, RunLengths] = {}
    facts: dict[str, dict[str, Any]] = {}
    naming = ""
    for number, text in enumerate(each_line(path, _LINE)):
        if not text.strip():
            continue
        what = f"{path}, line {number + 1}"
        content = parse_json(text, what)
        if not isinstance(content, dict):
            raise DataFormatError(f"{what}: not a mask as run lengths; {_NEEDED}")
        fault = f"{what}: not a mask as run lengths"
        code = checked(_Code, content.get("segmentation", content), fault, advice=_NEEDED).decoder(fault)
        line = checked(_Line, content, what)
        own = _naming(content, line, what)
        naming = naming or own
        if own != naming:
            raise DataFormatError(f"{what}: has {own}, earlier lines have {naming}; name all lines in the same way")
        key = str(number if own == "line numbers" else getattr(line, own))
        if key in codes:
            raise DataFormatError(
                f"{what}: {key} occurs twice; one mask per sample is needed (give several of one image a sample_id)"
            )
        codes[key] = code
        facts[key] = {name: value for name in _FACTS if (value := getattr(line, name)) is not None}
    if not codes:
        raise DataFormatError(f"{path} holds no masks")

    def read(key: str) -> Array:
        try:
            return codes[key].decode()
        except MemoryError as cause:
            raise DataFormatError(f"{path}: {key} is too large for the memory of this machine") from cause

    return SavedMasks(path, list(codes), read, naming, facts)


def _naming(content: Mapping[str, Any], line: _Line, what: str) -> str:
    """Return the field by which a line names its sample.

    Raises:
        DataFormatError: the name is null, or in an unknown field.
    """
    if "sample_id" in content or "image_id" in content:
        naming = "sample_id" if "sample_id" in content else "image_id"
        if getattr(line, naming) is None:
            raise DataFormatError(f"{what}: {naming} is null; name the sample on every line")
        return naming
    if other := [name for name in content if _is_name(name)]:
        raise DataFormatError(
            f"{what}: has {', '.join(other[:_SHOWN])}, but neither sample_id nor image_id, by which masks are matched; "
            "write the name of the sample as sample_id, in predictions and targets alike"
        )
    return "line numbers"
