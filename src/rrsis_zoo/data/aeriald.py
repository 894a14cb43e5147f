"""Aerial-D (arXiv 2512.07338): an XML file per 480 x 480 patch, with many expressions per object and per group.

There is no test split; published numbers are of val. A group has its own run lengths, already the union of its members.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal
from xml.etree import ElementTree

from PIL import Image

from rrsis_zoo.data.cards import DatasetCard, Split
from rrsis_zoo.data.fields import segmentation_mask
from rrsis_zoo.data.folders import (
    Listing,
    annotation_file,
    broken_links,
    existing_folder,
    is_folder,
    missing_files,
    plain_name,
    walk,
)
from rrsis_zoo.data.masks import MaskCleanup, RunLengths, clean, encode_mask
from rrsis_zoo.data.records import Record
from rrsis_zoo.data.sentences import has_control, sentence
from rrsis_zoo.data.writing import LayoutWriter, Referent, ReferredScene, Written
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.files import make_folder, read_bytes, write_bytes

Expressions = Literal["all", "original", "enhanced", "unique", "one_unique"]

CARD = DatasetCard(
    name="aerial-d",
    title="Aerial-D",
    paper="arXiv 2512.07338",
    source="https://huggingface.co/datasets/luisml77/aerial-d",
    licence="none stated; the images come from iSAID (DOTA, academic use) and LoveDA",
    layout="<root>/{train,val}/images/<stem>.png and <root>/{train,val}/annotations/<stem>.xml; no test split",
    counts={"train": 1117794, "val": 404729},
    image_size=(480, 480),
    image_names=dict.fromkeys(("train", "val"), r"(P\d{4}_patch_\d{6}|L\d+_patch_\d+)\.png"),
)

FILE_LIMIT = 64 * 2**20
"""Largest XML file in bytes."""

_SEARCH_DEPTH = 2
_SPLITS: tuple[Split, ...] = ("train", "val")


@dataclass(frozen=True)
class AerialDFiles:
    """Where a copy is.

    Attributes:
        root: the folder that contains ``train`` and ``val``.
    """

    root: Path


def find_aeriald(root: str | Path) -> AerialDFiles:
    """Find the folder of the splits, at the root or up to two folders below it.

    Raises:
        MissingDataError: no such folder, or no split in it.
        DataFormatError: several copies.
    """
    root = existing_folder(root, CARD.title, CARD.how_to_get)
    found, tables = [], False
    for folder, folders, files in walk(root):
        here = Path(folder)
        tables |= any(name.endswith(".parquet") for name in files)
        if any(is_folder(here / split / "annotations") for split in _SPLITS):
            found.append(here)
            folders[:] = []
        deeper = len(here.relative_to(root).parts) < _SEARCH_DEPTH
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX") if deeper else []
    if not found:
        there = "only parquet tables, which are not read, are" if tables else "no 'train/annotations' is"
        raise MissingDataError(f"{CARD.title}: {there} under {str(root)!r}{broken_links(root)}; {CARD.how_to_get}")
    if len(found) > 1:
        places = ", ".join(map(str, found))
        raise DataFormatError(f"{CARD.title}: several copies under {str(root)!r} ({places}); give the root of one")
    return AerialDFiles(found[0])


def annotation_files(root: str | Path) -> list[Path]:
    """Return the XML files of both splits; raise as `find_aeriald`."""
    folders = (find_aeriald(root).root / split / "annotations" for split in _SPLITS)
    return [folder / name for folder in folders if is_folder(folder) for name in _xml_files(folder)]


def _xml_files(folder: Path) -> list[str]:
    return sorted(name for name in Listing(folder).files if name.endswith(".xml") and name[0] != ".")


def read_aeriald(
    root: str | Path,
    split: Split,
    *,
    expressions: Expressions = "all",
    mask_cleanup: MaskCleanup = "none",
    drop_empty: bool = False,
    absent: list[str] | None = None,
) -> list[Record]:
    """Read one split, sorted by file name: a record per expression, objects before groups.

    Args:
        root: see `find_aeriald`.
        split: ``train`` or ``val``.
        expressions: all, those of one kind, or the first ``unique`` one of each target.
        mask_cleanup: filter of the masks.
        drop_empty: leave out samples without foreground.
        absent: receives the names of missing image files, whose samples are then left out; None to raise an error.

    Raises:
        MissingDataError: the split (there is no test), or an image is missing.
        DataFormatError: content that does not match the layout; the message names file and target.
    """
    files = find_aeriald(root)
    if split not in _SPLITS:
        raise MissingDataError(
            f"{CARD.title} has no {split} split: published numbers are of val; use --split val (trainer: validate)"
        )
    base = files.root / split
    if not (is_folder(base / "images") and is_folder(base / "annotations")):
        where = f"{str(base)!r}{broken_links(base) if is_folder(base) else ''}"
        raise MissingDataError(f"{CARD.title}: no images and annotations in {where}; {CARD.how_to_get}")
    there = Listing(base / "images")
    records: list[Record] = []
    missing: list[str] = []
    for name in _xml_files(base / "annotations"):
        path = base / "annotations" / name
        stem = name.removesuffix(".xml")
        tree = _parse(path)
        image_file = plain_name((tree.findtext("filename") or f"{stem}.png").strip(), f"{path}: filename")
        if lack := there.lack(image_file):
            missing.append(lack)
            continue
        seen: set[str] = set()
        for target, category, text, written, where in _targets(tree, path):
            if target in seen:
                raise DataFormatError(f"{where}: its id occurs more than once")
            seen.add(target)
            mask = clean(_mask(text, where), mask_cleanup)
            if drop_empty and mask.is_empty:
                continue
            reference = f"{CARD.name}/{split}/{stem}/{target}"
            records += [
                Record(
                    sample_id=f"{reference}/{number}",
                    scene_id=f"{CARD.name}/{stem}",
                    image_path=base / "images" / image_file,
                    image_file=image_file,
                    expression=expression,
                    split=split,
                    category=category,
                    category_source="label" if category else None,
                    mask=mask,
                    kind=kind,
                    reference=reference,
                )
                for number, expression, kind in _chosen(written, expressions)
            ]
    if absent is not None:
        absent += missing
    elif missing:
        raise missing_files(f"{CARD.title}: {{}} images of split {split!r}", missing, there.folder, CARD.how_to_get)
    if not records and not missing:
        raise MissingDataError(f"{CARD.title}: {str(base)!r} has no samples; {CARD.how_to_get}")
    return records


def _parse(path: Path) -> ElementTree.Element:
    content = read_bytes(annotation_file(path), FILE_LIMIT)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise DataFormatError(f"{path}: declares a document type, which is refused (entities could expand without end)")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataFormatError(f"{path}: is not valid XML ({error})") from error


_Written = list[tuple[int, str, str]]


def _targets(tree: ElementTree.Element, path: Path) -> Iterator[tuple[str, str | None, str, _Written, str]]:
    """Yield id, category, run lengths, expressions and place of objects, then groups; incomplete ones are skipped."""
    for letter, what, elements, label in (
        ("o", "object", tree.findall("object"), "name"),
        ("g", "group", tree.findall("groups/group"), "category"),
    ):
        for place, element in enumerate(elements):
            number = (element.findtext("id") or "").strip()
            category = (element.findtext(label) or "").strip()
            text = (element.findtext("segmentation") or "").strip()
            if not text or (letter == "g" and not (number and category)):
                continue
            where = f"{path}: {what} {number or place}"
            if written := list(_expressions(element, where)):
                shown = category.replace("_", " ").lower() or None
                yield f"{letter}{number or f'@{place}'}", shown, text, written, where


def _expressions(element: ElementTree.Element, where: str) -> Iterator[tuple[int, str, str]]:
    for number, entry in enumerate(element.findall("expressions/expression")):
        text = sentence(entry.text or "", where)
        kind = entry.get("type") or ("original" if entry.get("id") is not None else "")
        if kind not in ("original", "enhanced", "unique"):
            raise DataFormatError(f"{where}: expression {number} must have an id or the type enhanced or unique")
        if text:
            yield number, text, kind


def _chosen(written: _Written, expressions: Expressions) -> _Written:
    if expressions == "all":
        return written
    kind = "unique" if expressions == "one_unique" else expressions
    chosen = [one for one in written if one[2] == kind]
    return chosen[:1] if expressions == "one_unique" else chosen


def _mask(text: str, where: str) -> RunLengths:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataFormatError(f"{where}: its segmentation is not a literal: {text[:60]!r}") from error
    if not isinstance(value, dict) or set(value) != {"size", "counts"}:
        raise DataFormatError(f"{where}: its segmentation must have the keys size and counts and no others")
    return segmentation_mask([value], (0, 0), "any", where)


class AerialDWriter(LayoutWriter):
    """Aerial-D: a PNG and an XML file per scene, an object per referent, all expressions ``original``."""

    title: ClassVar[str] = CARD.title
    folders = (Path("train"), Path("val"))
    splits: ClassVar[tuple[Split, ...]] = _SPLITS

    @classmethod
    def image_folder(cls, split: Split) -> Path:
        """Return the folder of a split's images, below the root."""
        return Path(split) / "images"

    def add(self, scene: ReferredScene) -> list[Written]:
        """Write a scene; see `LayoutWriter.add`."""
        self._tree = ElementTree.Element("annotation")
        written = super().add(scene)
        stem = f"L{self.scenes}_patch_0"
        folder = make_folder(self.root / scene.split / "annotations")
        content = ElementTree.tostring(self._tree, encoding="utf-8", xml_declaration=True)
        write_bytes(folder / f"{stem}.xml", content)
        return written

    def _referent(self, scene: ReferredScene, referent: Referent, ann_id: int) -> list[Written]:
        file_name = f"L{self.scenes}_patch_0.png"
        height, width = referent.mask.shape
        if self._tree.find("filename") is None:
            Image.fromarray(scene.image).save(make_folder(self.root / scene.split / "images") / file_name)
            ElementTree.SubElement(self._tree, "filename").text = file_name
            size = ElementTree.SubElement(self._tree, "size")
            ElementTree.SubElement(size, "width").text = str(width)
            ElementTree.SubElement(size, "height").text = str(height)
        self.references += 1
        target = ElementTree.SubElement(self._tree, "object")
        code = {"size": [height, width], "counts": encode_mask(referent.mask).decode("ascii")}
        for name, text in (
            ("name", referent.category.replace(" ", "_")),
            ("id", str(self.references)),
            ("segmentation", repr(code)),
        ):
            ElementTree.SubElement(target, name).text = text
        expressions = ElementTree.SubElement(target, "expressions")
        for number, expression in enumerate(referent.expressions):
            if has_control(expression):
                raise ConfigError(
                    f"scene {self.scenes}: {expression!r} contains control characters, which XML cannot hold: leave "
                    "them out"
                )
            ElementTree.SubElement(expressions, "expression", id=str(number)).text = expression
        return [Written(file_name, self.scenes, self.references, ann_id) for _ in referent.expressions]

    def close(self) -> None:
        """Create the folders of a split without a scene."""
        for split in self.splits:
            for part in ("images", "annotations"):
                make_folder(self.root / split / part)
