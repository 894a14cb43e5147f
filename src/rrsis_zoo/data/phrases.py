"""Reader of datasets with one phrase file per split and an image and a mask file per phrase: RefSegRS, RISBench.

The split is the phrase file that a line is in, never a part of a file name: RISBench's validation images are called
``train_…``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rrsis_zoo.data.cards import SPLITS, DatasetCard
from rrsis_zoo.data.categories import Categories
from rrsis_zoo.data.folders import (
    Listing,
    annotation_file,
    broken_links,
    existing_folder,
    missing_files,
    plain_name,
    walk,
)
from rrsis_zoo.data.masks import GreyFile, MaskCleanup, clean
from rrsis_zoo.data.records import Record, Split
from rrsis_zoo.data.sentences import sentence
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.files import read_bytes

FILE_LIMIT = 128 * 2**20
"""Largest phrase file in bytes; RISBench's largest has about 4 MB."""

_SEARCH_DEPTH = 3  # folders below the root; unpacking an archive adds one


@dataclass(frozen=True)
class PhraseLayout:
    """What distinguishes one such dataset from the other.

    Attributes:
        card: what is known about it.
        image_folders: names of its image folder, the published one first.
        mask_folders: the same for masks.
        suffix: turns an id into a file name.
        threshold: a mask's foreground is above this grey level.
        categories: words of its categories.
    """

    card: DatasetCard
    image_folders: tuple[str, ...]
    mask_folders: tuple[str, ...]
    suffix: str
    threshold: int
    categories: Categories


@dataclass(frozen=True)
class PhraseFiles:
    """Where the parts of one copy are.

    Attributes:
        root: the folder of the dataset.
        phrases: the phrase file of each split that has one.
        images: folder of the images.
        masks: folder of the masks.
    """

    root: Path
    phrases: dict[Split, Path]
    images: Path
    masks: Path


def find_phrases(root: str | Path, layout: PhraseLayout) -> PhraseFiles:
    """Find the parts of a copy under a folder; reads no content.

    Parts directly in the root are used; others are searched for by name, a few folders deep.

    Raises:
        MissingDataError: no such folder, or a part is missing from it.
        DataFormatError: a part occurs several times, never directly in the root.
    """
    card = layout.card
    root = existing_folder(root, card.title, card.how_to_get)
    folders, files = _search(root, {*layout.image_folders, *layout.mask_folders})
    phrases = {}
    for split in SPLITS:
        # some copies of the dataset number the phrase files: output_phrase_val3.txt
        named = [path for path in files if re.fullmatch(rf"output_phrase_{split}\d*\.txt", path.name)]
        plain = [path for path in named if path.name == f"output_phrase_{split}.txt"]
        if named:
            phrases[split] = _only(root, plain or named, f"the phrase file of split {split!r}", card)
    if not phrases:
        raise MissingDataError(f"{card.title}: no 'output_phrase_….txt' under {str(root)!r}; {card.how_to_get}")
    return PhraseFiles(
        root=root,
        phrases=phrases,
        images=_only(root, _preferred(folders, layout.image_folders), "the folder of images", card),
        masks=_only(root, _preferred(folders, layout.mask_folders), "the folder of masks", card),
    )


def read_phrases(
    root: str | Path,
    split: Split,
    layout: PhraseLayout,
    *,
    threshold: int | None = None,
    mask_cleanup: MaskCleanup = "none",
    drop_empty: bool = False,
    absent: list[str] | None = None,
) -> list[Record]:
    """Read one split: a record per line, in the order of the file.

    An id may occur on several lines, each a separate sample; sample ids number them. Masks are read when needed; only
    the existence of their files is checked at once. ``scene_id`` distinguishes files, not pixels: see
    `rrsis_zoo.data.scenes.share_scenes`.

    Args:
        root: the folder, see `find_phrases`.
        split: ``train``, ``val`` or ``test``.
        layout: which dataset.
        threshold: a mask's foreground is above this grey level; None for the dataset's own rule.
        mask_cleanup: filter of the masks.
        drop_empty: leave out samples without foreground; reads every mask.
        absent: receives the names of missing files, whose samples are then left out; None to raise an error.

    Raises:
        MissingDataError: a part, an image or mask file or the whole split is missing.
        DataFormatError: a line without a phrase, or text that is not UTF-8; the message names file and line.
        ConfigError: a threshold out of range.
    """
    if threshold is not None and not 0 <= threshold <= 254:
        raise ConfigError(f"threshold must be 0 to 254 grey levels, got {threshold}")
    card, files = layout.card, find_phrases(root, layout)
    if split not in files.phrases:
        raise MissingDataError(
            f"{card.title}: no 'output_phrase_{split}.txt' under {str(files.root)!r}; {card.how_to_get}"
        )
    there = [Listing(folder) for folder in dict.fromkeys((files.images, files.masks))]
    seen: Counter[str] = Counter()
    missing: list[str] = []
    records: list[Record] = []
    for name, phrase, where in _lines(files.phrases[split]):
        file_name = plain_name(name + layout.suffix, where)
        if lost := [f"{one.folder.name}/{lack}" for one in there if (lack := one.lack(file_name))]:
            missing += lost
            continue
        mask = GreyFile(files.masks / file_name, layout.threshold if threshold is None else threshold)
        category = layout.categories.find(phrase)
        records.append(
            Record(
                sample_id=f"{card.name}/{split}/{name.removesuffix('.png')}/{seen[name]}",
                scene_id=f"{card.name}/{file_name}",
                image_path=files.images / file_name,
                image_file=f"{files.images.name}/{file_name}",
                expression=phrase,
                split=split,
                category=category,
                category_source="text" if category else None,
                mask=clean(mask, mask_cleanup),
            )
        )
        seen[name] += 1
    if absent is not None:
        absent += missing
    elif missing:
        raise missing_files(f"{card.title}: {{}} files of split {split!r}", missing, files.root, card.how_to_get)
    if not records and not missing:
        raise MissingDataError(f"{card.title}: {files.phrases[split]} has no lines; {card.how_to_get}")
    return [record for record in records if not (drop_empty and record.is_empty)]


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield id, phrase and position of every line; the id ends at the first space, the phrase keeps inner spaces."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", _text(path)), start=1):
        where = f"{path}, line {number}"
        line = line.removeprefix("\ufeff")  # from joined files
        if not line.strip():
            continue
        name, *rest = line.split(maxsplit=1)
        phrase = sentence(rest[0], where) if rest else ""
        if not phrase:
            raise DataFormatError(f"{where}: {name[:80]!r} has no phrase")
        yield name, phrase, where


def _text(path: Path) -> str:
    content = read_bytes(annotation_file(path), FILE_LIMIT)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataFormatError(
            f"{path}, line 1: is not UTF-8 but UTF-16; convert it: iconv -f utf-16 -t utf-8 {path.name}"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataFormatError(
            f"{path}, line {line}: is not UTF-8 ({error.reason}); if the file is in Latin-1: "
            f"iconv -f latin1 -t utf-8 {path.name}"
        ) from error


def _search(root: Path, names: set[str]) -> tuple[list[Path], list[Path]]:
    """Return the folders with these names and the phrase files under the root."""
    wanted, phrases = [], []
    for folder, folders, files in walk(root):
        here = Path(folder)
        wanted += [here / name for name in folders if name in names]
        phrases += [here / name for name in files if name.startswith("output_phrase_")]
        deeper = len(here.relative_to(root).parts) < _SEARCH_DEPTH
        # macOS archives have a shadow of every file under __MACOSX
        skipped = {*names, "__MACOSX"}
        folders[:] = sorted(f for f in folders if f not in skipped and not f.startswith(".")) if deeper else []
    return wanted, phrases


def _preferred(folders: list[Path], names: tuple[str, ...]) -> list[Path]:
    """Return the folders with the first name that any folder has."""
    return next((named for name in names if (named := [f for f in folders if f.name == name])), [])


def _only(root: Path, paths: list[Path], what: str, card: DatasetCard) -> Path:
    paths = [path for path in paths if path.parent == root] or paths
    if not paths:
        raise MissingDataError(
            f"{card.title}: {what} is not under {str(root)!r}{broken_links(root)}; {card.how_to_get}"
        )
    if len(paths) > 1:
        places = ", ".join(map(str, paths))
        raise DataFormatError(
            f"{card.title}: {what} occurs {len(paths)} times under {str(root)!r} ({places}); give the root of one copy"
        )
    return paths[0]
