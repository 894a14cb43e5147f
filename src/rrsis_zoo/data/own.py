"""Your own data without code: a CSV or JSON lines file that lists image, mask, expression and split. No torch here.

Paths are relative to the folder of the list and stay below it. A mask is an image file, COCO run lengths, or polygons;
the word ``none`` says that nothing in the image fits the expression. Images are read as `rrsis segment` reads them.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from rrsis_zoo.data.cards import SPLITS, Split
from rrsis_zoo.data.fields import segmentation_mask
from rrsis_zoo.data.folders import Listing, annotation_file, existing_folder
from rrsis_zoo.data.imagery.picture import picture_size
from rrsis_zoo.data.masks import GreyFile, MaskCleanup, MaskSource, RunLengths, clean, encode_runs
from rrsis_zoo.data.records import Record
from rrsis_zoo.data.sentences import characters, sentence
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import dangling, expanded, parse_json, read_bytes

NAME = "folder"
NEEDED = ("image", "mask", "expression", "split")
COLUMNS = (*NEEDED, "category")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
NO_TARGET = "none"
"""In place of a mask: nothing in the image fits the expression."""

FILE_LIMIT = 512 * 2**20
"""Largest list in bytes."""

_SHOWN = 5
_LONGEST_CELL = 2**24
_ADVICE = (
    "expected: a CSV file with the columns image, mask, expression, split and perhaps category, or JSON lines with "
    "these fields (docs/start/your_own_images.md)"
)


@dataclass(frozen=True)
class OwnFiles:
    """Where your own data are.

    Attributes:
        listing: the CSV or JSON lines file; images and masks are in its folder, or below.
    """

    listing: Path


@dataclass(frozen=True)
class _Row:
    """A row of the list: its number in the file, the first being 1, and its values."""

    number: int
    image: str
    mask: Any
    expression: str
    split: Split
    category: str | None


def find_own(root: str | Path) -> OwnFiles:
    """Find the list: the root itself, or the only file with one of `SUFFIXES` in it.

    Raises:
        MissingDataError: no such folder, or no list in it.
        DataFormatError: several lists, or a folder that cannot be accessed.
    """
    root = expanded(root)
    if root.suffix.lower() in SUFFIXES and os.path.isfile(root):
        return OwnFiles(root)
    root = existing_folder(root, "your own data", _ADVICE)
    names = sorted(
        name for name in Listing(root).files if name.lower().endswith(SUFFIXES) and not name.startswith((".", "~"))
    )
    if not names:
        raise MissingDataError(
            f"your own data: no list ({', '.join(f'*{suffix}' for suffix in SUFFIXES)}) in {str(root)!r}; {_ADVICE}"
        )
    if len(names) > 1:
        raise DataFormatError(
            f"your own data: {len(names)} lists in {str(root)!r} ({', '.join(names[:_SHOWN])}): name one, for instance "
            f"--data.root {root / names[0]}"
        )
    return OwnFiles(root / names[0])


def read_own(
    root: str | Path,
    split: Split,
    *,
    threshold: int | None = None,
    mask_cleanup: MaskCleanup = "none",
    drop_empty: bool = False,
    drop_no_target: bool = False,
    absent: list[str] | None = None,
) -> list[Record]:
    """Read one split: a record per row, in their order.

    Sample ids hold the row: ``folder/train/00012/0``. Rows with the same image and mask are about one referent, named
    by its first row.

    Args:
        root: see `find_own`.
        split: ``train``, ``val`` or ``test``.
        threshold: of a mask's image file: foreground is above this grey level; None for 0.
        mask_cleanup: filter of the masks.
        drop_empty: leave out rows whose mask is empty although it should not be.
        drop_no_target: leave out rows whose mask is ``none``.
        absent: receives the names of missing files, whose rows are then left out; None to raise an error.

    Raises:
        MissingDataError: no list, or no row of the split.
        DataFormatError: rows that cannot be used; the message names the first of them, each with what was expected.
    """
    listing = find_own(root).listing
    faults: list[str] = []
    rows = list(_rows(listing, faults))
    sizes: dict[str, tuple[int, int]] = {}
    referents: dict[tuple[str, str], tuple[int, int]] = {}  # image and mask -> first row, sentences so far
    records: list[Record] = []
    left_out = False
    for row in rows:
        if row.split != split:
            continue
        try:
            image = _below(listing, row.image, "image")
            if lost := [name for name in _files(row) if not os.path.isfile(_below(listing, name, "mask"))]:
                if absent is None:
                    name = lost[0]
                    raise DataFormatError(
                        f"there is no file {name!r} in {str(listing.parent)!r}{dangling(listing.parent / name)}"
                    )
                absent += lost
                left_out = True
                continue
            mask = _mask(row, listing, image, sizes, threshold or 0)
        except DataFormatError as error:
            faults.append(f"row {row.number}: {error}")
            continue
        no_target = _is_none(row.mask)
        mask = mask if no_target else clean(mask, mask_cleanup)
        about = (row.image, json.dumps(row.mask))
        first, count = referents.get(about, (row.number, 0))
        referents[about] = (first, count + 1)
        if faults or (no_target and drop_no_target) or (drop_empty and not no_target and mask.is_empty):
            left_out = True
            continue
        reference = f"{NAME}/{split}/{first:05d}"
        records.append(
            Record(
                sample_id=f"{reference}/{count}",
                scene_id=f"{NAME}/{row.image}",
                image_path=image,
                image_file=row.image,
                expression=row.expression,
                split=split,
                category=row.category,
                category_source="label" if row.category else None,
                mask=mask,
                reference=reference,
                no_target=no_target,
                any_depth=True,
            )
        )
    if faults:
        more = f"; and {len(faults) - _SHOWN} more rows" if len(faults) > _SHOWN else ""
        raise DataFormatError(f"{listing}, {'; '.join(faults[:_SHOWN])}{more}")
    if not records and not left_out:
        raise MissingDataError(f"{listing} has no row of split {split!r}: write {split} into the column split of some")
    return records


def own_splits(root: str | Path) -> tuple[Split, ...]:
    """Return the splits that rows of the list have; all three if no row has one.

    Raises:
        MissingDataError, DataFormatError: as `find_own`, or a list that is not a table.
    """
    there = {row.split for row in _rows(find_own(root).listing, [])}
    return tuple(split for split in SPLITS if split in there) or SPLITS


# -- the list ----------------------------------------------------------------------------------------------------------


def _rows(listing: Path, faults: list[str]) -> Iterator[_Row]:
    """Yield the rows that are complete; what is wrong with the others goes to the faults."""
    lines = _json_lines(listing) if listing.suffix.lower() in (".jsonl", ".ndjson") else _table(listing)
    for number, values in lines:
        try:
            if isinstance(values, str):
                raise DataFormatError(values)
            yield _row(number, values)
        except DataFormatError as error:
            faults.append(f"row {number}: {error}")


def _row(number: int, values: dict[str, Any]) -> _Row:
    if lacks := [name for name in NEEDED if name not in values]:
        raise DataFormatError(f"{_listed(lacks)} missing; it has {', '.join(values) or 'no fields'}{_near(values)}")
    texts = {}
    for name in COLUMNS:
        value = values.get(name)
        if name == "mask" or (name == "category" and value is None):
            continue
        if not isinstance(value, str):
            raise DataFormatError(f"{name} must be a text, got {type(value).__name__}")
        texts[name] = sentence(value, name) if name == "expression" else characters(value, name).strip()
        if not texts[name] and name != "category":
            raise DataFormatError(f"{name} is blank")
    mask = values["mask"]
    if isinstance(mask, str):
        mask = characters(mask, "mask").strip()
        if not mask:
            raise DataFormatError(f"mask is blank; where nothing in the image fits the expression, write {NO_TARGET}")
        if mask[0] in "[{":
            mask = parse_json(mask, "mask")
    if texts["split"] not in SPLITS:
        close = get_close_matches(texts["split"].lower(), SPLITS, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise DataFormatError(f"split {texts['split'][:40]!r} is not train, val or test{hint}")
    category = texts.get("category") or None
    return _Row(number, texts["image"], mask, texts["expression"], texts["split"], category)  # type: ignore[arg-type]


def _json_lines(listing: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield row numbers and values, or in their place what is wrong with them."""
    for number, line in enumerate(_text(listing).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = parse_json(line, "it")
        except DataFormatError as error:
            yield number, str(error)
            continue
        yield number, values if isinstance(values, dict) else f"must be an object, got {type(values).__name__}"


def _table(listing: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield row numbers, the header being row 1, and values, or in their place what is wrong with them.

    Raises:
        DataFormatError: the header lacks a column, or the file is not a table.
    """
    text = _text(listing)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)  # spreadsheets write semicolons in many countries
    earlier = csv.field_size_limit(_LONGEST_CELL)
    names: list[str] = []
    number = 0
    try:
        for number, cells in enumerate(
            csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), start=1
        ):
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = _header(listing, number, cells)
            elif len(cells) != len(names):
                yield (
                    number,
                    f"has {len(cells)} cells, the header {len(names)}: put texts that contain {delimiter!r} in quotes",
                )
            else:
                yield number, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise DataFormatError(f"{listing}, row {number + 1}: is not a row of a table ({error})") from error
    finally:
        csv.field_size_limit(earlier)
    if not names:
        raise DataFormatError(f"{listing}: is blank; {_ADVICE}")


def _header(listing: Path, number: int, cells: list[str]) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    where = f"{listing}, row {number}: the columns are {', '.join(names)[:200]}"
    if lacks := [name for name in NEEDED if name not in names]:
        raise DataFormatError(f"{where}; {_listed(lacks)} missing; {_ADVICE}")
    if twice := sorted({name for name in names if names.count(name) > 1 and name in COLUMNS}):
        raise DataFormatError(f"{where}; {twice[0]} occurs more than once: rename the others")
    if "category" not in names and (near := get_close_matches("category", names, n=1, cutoff=0.8)):
        raise DataFormatError(f"{where}; did you mean category by {near[0]}? Rename it, or leave it out")
    return names


def _listed(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _near(values: dict[str, Any]) -> str:
    pairs = [(name, get_close_matches(name, values, n=1)) for name in NEEDED if name not in values]
    return "".join(f"; did you mean {name} by {close[0]}?" for name, close in pairs if close)


def _text(listing: Path) -> str:
    content = read_bytes(annotation_file(listing), FILE_LIMIT)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataFormatError(f"{listing}: is UTF-16; save it as UTF-8 (in a spreadsheet: CSV UTF-8)")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise DataFormatError(
            f"{listing}, row {row}: is not UTF-8 ({error.reason}); save it as UTF-8 (in a spreadsheet: CSV UTF-8)"
        ) from error


# -- files and masks ---------------------------------------------------------------------------------------------------


def _below(listing: Path, name: str, what: str) -> Path:
    """Return the path of a file that the list names; it must not lead out of the list's folder."""
    parts = PurePosixPath(name).parts
    if "\\" in name or "\0" in name or name.startswith("/") or ".." in parts or not parts:
        raise DataFormatError(
            f"{what} {name[:80]!r} must be a path below {str(listing.parent)!r}, with / between folders; for files "
            "elsewhere make a link to their folder there"
        )
    return listing.parent / name


def _is_none(mask: Any) -> bool:
    return mask is None or (isinstance(mask, str) and mask.lower() == NO_TARGET)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _files(row: _Row) -> list[str]:
    return [row.image, row.mask] if isinstance(row.mask, str) and not _is_none(row.mask) else [row.image]


def _mask(row: _Row, listing: Path, image: Path, sizes: dict[str, tuple[int, int]], threshold: int) -> MaskSource:
    if isinstance(row.mask, str) and not _is_none(row.mask):
        if row.mask == row.image:
            raise DataFormatError("mask and image are the same file")
        return GreyFile(_below(listing, row.mask, "mask"), threshold)
    if row.image not in sizes:
        sizes[row.image] = picture_size(image)
    height, width = sizes[row.image]
    if _is_none(row.mask):
        return RunLengths((encode_runs([height * width], height, width),), height, width, "any")
    shapes = row.mask
    if isinstance(shapes, dict) or (isinstance(shapes, list) and shapes and all(map(_is_number, shapes))):
        shapes = [shapes]  # one alone
    if not isinstance(shapes, list) or not shapes:
        raise DataFormatError(
            "mask must be the name of an image file, run lengths {size, counts}, a polygon [x, y, x, y, ...], a list "
            f"of either, or {NO_TARGET}; got {str(row.mask)[:60]!r}"
        )
    mask = segmentation_mask(shapes, (height, width), "any", "mask")
    if (mask.height, mask.width) != (height, width):
        raise DataFormatError(
            f"mask: its run lengths are of {mask.height} x {mask.width} pixels (height x width), its image has "
            f"{height} x {width}"
        )
    return mask
