"""RISORS (RSAM, Remote Sensing 17(24) 3960, 2025): a list of names per split and a JSON file per image.

Annotations whose ``area`` is not above 0 are left out, as the authors do. Equal descriptions of several objects stay
separate samples.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from rrsis_zoo.data.cards import SPLITS, DatasetCard, Split
from rrsis_zoo.data.fields import get, number, segmentation_mask
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
from rrsis_zoo.data.masks import MaskCleanup, clean, encode_mask
from rrsis_zoo.data.records import Record
from rrsis_zoo.data.sentences import sentence
from rrsis_zoo.data.writing import LayoutWriter, Referent, ReferredScene, Written
from rrsis_zoo.errors import DataFormatError, MissingDataError, RRSISError
from rrsis_zoo.files import read_bytes, read_json, write_text

CARD = DatasetCard(
    name="risors",
    title="RISORS",
    paper="RSAM, Remote Sensing 17(24) 3960, 2025",
    source="https://huggingface.co/datasets/zhaozlcc/RISORS",
    licence="unclear; for research only",
    layout=(
        "<root>/JPEGImages/<stem>.jpg, <root>/Annotations/<stem>.json, <root>/RISORS_train.txt, _val.txt and _test.txt "
        "with a name per line"
    ),
    counts={},
    image_size=None,
    image_names={},
)

FILE_LIMIT = 128 * 2**20
_SEARCH_DEPTH = 2


@dataclass(frozen=True)
class RISORSFiles:
    """Where the parts of a copy are.

    Attributes:
        lists: the list of names of each split that has one.
        images: folder of the JPEG files.
        annotations: folder of the JSON files.
    """

    lists: dict[Split, Path]
    images: Path
    annotations: Path


def find_risors(root: str | Path) -> RISORSFiles:
    """Find the parts of a copy, at the root or up to two folders below it.

    Raises:
        MissingDataError: no such folder, or a part is missing from it.
        DataFormatError: several copies, none directly in the root.
    """
    root = existing_folder(root, CARD.title, CARD.how_to_get)
    found = []
    for folder, folders, files in walk(root):
        here = Path(folder)
        lists: dict[Split, Path] = {s: here / f"RISORS_{s}.txt" for s in SPLITS if f"RISORS_{s}.txt" in files}
        if lists and is_folder(here / "JPEGImages") and is_folder(here / "Annotations"):
            found.append(RISORSFiles(lists, here / "JPEGImages", here / "Annotations"))
        deeper = len(here.relative_to(root).parts) < _SEARCH_DEPTH
        skipped = ("JPEGImages", "Annotations", "__MACOSX")
        folders[:] = sorted(f for f in folders if f not in skipped and not f.startswith(".")) if deeper else []
    found = [one for one in found if one.images.parent == root] or found
    if not found:
        raise MissingDataError(
            f"{CARD.title}: its parts are not under {str(root)!r}{broken_links(root)}; {CARD.how_to_get}"
        )
    if len(found) > 1:
        raise DataFormatError(f"{CARD.title}: {len(found)} copies under {str(root)!r}; give the root of one")
    return found[0]


def annotation_files(root: str | Path) -> list[Path]:
    """Return the JSON files of all images, listed or not; raise as `find_risors`."""
    folder = find_risors(root).annotations
    return [folder / name for name in sorted(Listing(folder).files) if name.endswith(".json") and name[0] != "."]


def read_risors(
    root: str | Path,
    split: Split,
    *,
    mask_cleanup: MaskCleanup = "none",
    drop_empty: bool = False,
    absent: list[str] | None = None,
) -> list[Record]:
    """Read one split: a record per annotation, in the order of the list and of the annotations.

    Args:
        root: see `find_risors`.
        split: ``train``, ``val`` or ``test``.
        mask_cleanup: filter of the masks.
        drop_empty: leave out samples without foreground.
        absent: receives the names of missing files, whose samples are then left out; None to raise an error.

    Raises:
        MissingDataError: a part, a file or the whole split is missing.
        DataFormatError: content that does not match the layout; the message names the file.
    """
    files = find_risors(root)
    if split not in files.lists:
        raise MissingDataError(f"{CARD.title}: no 'RISORS_{split}.txt' under {str(root)!r}; {CARD.how_to_get}")
    listed = files.lists[split]
    try:
        lines = read_bytes(annotation_file(listed), FILE_LIMIT).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataFormatError(f"{listed}: is not UTF-8 ({error.reason}); convert it with iconv") from error
    there, described = Listing(files.images), Listing(files.annotations)
    records: list[Record] = []
    missing: list[str] = []
    seen: set[str] = set()
    for row, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        stem = plain_name(line.strip().rsplit(".", 1)[0], f"{listed}, line {row}")
        if stem in seen:
            raise DataFormatError(f"{listed}, line {row}: {stem!r} is listed twice")
        seen.add(stem)
        image_file = f"{stem}.jpg"
        lacks = [
            f"{one.folder.name}/{lack}"
            for one, name in ((there, image_file), (described, f"{stem}.json"))
            if (lack := one.lack(name))
        ]
        if lacks:
            missing += lacks
            continue
        path = files.annotations / f"{stem}.json"
        for place, entry in enumerate(get(read_json(annotation_file(path)), "annotations", list, str(path))):
            where = f"{path}: annotation {place}"
            area = number(entry, "area", where)
            if not area > 0:
                continue
            segmentation = get(entry, "segmentation", dict, where)
            mask = segmentation_mask([segmentation], (0, 0), "any", where)
            expression = sentence(get(entry, "description", str, where), where)
            if not expression:
                raise DataFormatError(f"{where}: field 'description' is blank")
            mask = clean(mask, mask_cleanup)
            if drop_empty and mask.is_empty:
                continue
            records.append(
                Record(
                    sample_id=f"{CARD.name}/{split}/{stem}/{place}",
                    scene_id=f"{CARD.name}/{stem}",
                    image_path=files.images / image_file,
                    image_file=image_file,
                    expression=expression,
                    split=split,
                    category=get(entry, "name", str, where),
                    category_source="label",
                    mask=mask,
                )
            )
    if absent is not None:
        absent += missing
    elif missing:
        raise missing_files(f"{CARD.title}: {{}} files of split {split!r}", missing, listed.parent, CARD.how_to_get)
    if not records and not missing:
        raise MissingDataError(f"{CARD.title}: {listed} has no samples; {CARD.how_to_get}")
    return records


def left_out(root: Path) -> list[str]:
    """Return the annotations that the reader leaves out because of their area, as file and position.

    Raises:
        MissingDataError, DataFormatError: as `find_risors`.
    """
    folder = find_risors(root).annotations
    found = []
    for name in sorted(name for name in Listing(folder).files if name.endswith(".json")):
        try:
            entries = get(read_json(annotation_file(folder / name)), "annotations", list, name)
            areas = [number(entry, "area", name) for entry in entries]
        except RRSISError:
            continue  # the reader says what is wrong with it
        found += [f"{name}: annotation {place}" for place, area in enumerate(areas) if not area > 0]
    return found


class RISORSWriter(LayoutWriter):
    """RISORS: a JPEG and a JSON file per scene, an annotation per sentence."""

    title, folders = CARD.title, (Path("JPEGImages"), Path("Annotations"))
    holds_empty = False

    def __init__(self, root: str | Path, **options: Any) -> None:
        super().__init__(root, **options)
        self._names: dict[Split, list[str]] = {split: [] for split in SPLITS}
        self._entries: list[dict[str, Any]] = []

    def add(self, scene: ReferredScene) -> list[Written]:
        """Write a scene; see `LayoutWriter.add`."""
        self._entries = []
        written = super().add(scene)
        stem = f"{self.scenes:05d}"
        content = {"annotations": self._entries}
        write_text(self.root / self.folders[1] / f"{stem}.json", json.dumps(content, ensure_ascii=False))
        self._names[scene.split].append(f"{stem}\n")
        return written

    def _referent(self, scene: ReferredScene, referent: Referent, ann_id: int) -> list[Written]:
        file_name = f"{self.scenes:05d}.jpg"
        if not self._entries:
            Image.fromarray(scene.image).save(self.root / self.folders[0] / file_name, quality=95, subsampling=0)
        code = {"size": list(referent.mask.shape), "counts": encode_mask(referent.mask).decode("ascii")}
        written = []
        for expression in referent.expressions:
            self.references += 1
            self._entries.append(
                {
                    "area": int(referent.mask.sum()),
                    "segmentation": code,
                    "description": expression,
                    "name": referent.category,
                }
            )
            written.append(Written(file_name, self.scenes, self.references, ann_id))
        return written

    def close(self) -> None:
        """Write the three lists of names."""
        for split, names in self._names.items():
            write_text(self.root / f"RISORS_{split}.txt", "".join(names))
