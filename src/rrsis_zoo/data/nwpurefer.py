"""NWPU-Refer (MRSNet, arXiv 2506.03583): expressions in Chinese and English for no, one or many targets.

The authors published no reader, and the programs that read the files differ; the card names our reading, which
belongs to every number. An expression for many targets is spread over several refs of the image with the same words;
these are merged into one sample whose mask is the union. Polygons are rasterised as pycocotools does.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.data.cards import DatasetCard, Split
from rrsis_zoo.data.describe import bounding_box
from rrsis_zoo.data.fields import get, index, segmentation_mask
from rrsis_zoo.data.folders import Listing, broken_links, existing_folder, is_folder, missing_files, plain_name, walk
from rrsis_zoo.data.foreign import NoMask
from rrsis_zoo.data.masks import MaskCleanup, RunLengths, clean, encode_polygon
from rrsis_zoo.data.records import Record
from rrsis_zoo.data.rrsisd import TextField, expression_of, in_split, load_instances, load_refs
from rrsis_zoo.data.writing import LayoutWriter, Referent, ReferredScene, Written
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import write_bytes, write_text

Language = Literal["en", "zh", "mixed", "all"]

CARD = DatasetCard(
    name="nwpu-refer",
    title="NWPU-Refer",
    paper="Yang et al., MRSNet, arXiv 2506.03583",
    source="the Baidu link (code NWPU) in the README of https://github.com/CVer-Yang/NWPU-Refer",
    licence="none stated; the images come from Google Earth",
    layout=(
        "<root>/new_refs(unc).p and <root>/new_instances.json (else both without new_), and <root>/image/<file>.jpg or "
        "<root>/image/image/<file>.jpg"
    ),
    counts={},
    image_size=None,
    image_names={},
    reading=(
        "NWPU-Refer has no published reader; read here with language {language}, equal words about an image merged "
        "(union of the masks): {merge}, polygons rasterised as pycocotools does"
    ),
)

NO_TARGET = "no target"
"""The class of a ref that fits nothing in its image."""

_SEARCH_DEPTH = 2
_CHINESE, _LATIN = re.compile("[\u4e00-\u9fff]"), re.compile("[A-Za-z\u00c0-\u024f]")


@dataclass(frozen=True)
class NWPUReferFiles:
    """Where the parts of a copy are.

    Attributes:
        refs: the pickle of references.
        instances: the JSON of images, annotations and categories, of the same generation.
        images: folder of the JPEG files.
    """

    refs: Path
    instances: Path
    images: Path


def find_nwpurefer(root: str | Path) -> NWPUReferFiles:
    """Find the parts of a copy, at the root or up to two folders below it; the ``new_`` pair counts if there is one.

    Raises:
        MissingDataError: no such folder, or a part is missing from it.
        DataFormatError: several copies.
    """
    root = existing_folder(root, CARD.title, CARD.how_to_get)
    found = []
    for folder, folders, files in walk(root):
        here = Path(folder)
        for prefix in ("new_", ""):
            refs, instances = f"{prefix}refs(unc).p", f"{prefix}instances.json"
            if refs in files and instances in files and is_folder(here / "image"):
                images = here / "image"
                images = images / "image" if is_folder(images / "image") else images
                found.append(NWPUReferFiles(here / refs, here / instances, images))
                break
        deeper = len(here.relative_to(root).parts) < _SEARCH_DEPTH
        skipped = ("image", "__MACOSX")
        folders[:] = sorted(f for f in folders if f not in skipped and not f.startswith(".")) if deeper else []
    found = [one for one in found if one.refs.parent == root] or found
    if not found:
        raise MissingDataError(
            f"{CARD.title}: its parts are not under {str(root)!r}{broken_links(root)}; {CARD.how_to_get}"
        )
    if len(found) > 1:
        raise DataFormatError(f"{CARD.title}: {len(found)} copies under {str(root)!r}; give the root of one")
    return found[0]


@dataclass
class _Sample:
    expression: str
    ref_id: int
    number: int
    image_id: int
    annotations: list[int] = field(default_factory=list)


def read_nwpurefer(
    root: str | Path,
    split: Split,
    *,
    text: TextField = "raw",
    language: Language = "en",
    merge: bool = True,
    mask_cleanup: MaskCleanup = "none",
    drop_empty: bool = False,
    drop_no_target: bool = False,
    absent: list[str] | None = None,
) -> list[Record]:
    """Read one split, in order of first appearance in the pickle.

    Args:
        root: see `find_nwpurefer`.
        split: ``train`` and ``val`` by equality, ``test`` by containment.
        text: the field of a sentence that is the expression; ``sent`` is also used if there is no ``raw``.
        language: ``en`` has no Chinese character, ``zh`` has some and no Latin letter, ``mixed`` has both.
        merge: one sample for equal words about an image, with the union of the masks; False for one per sentence.
        mask_cleanup: filter of the masks.
        drop_empty: leave out samples without foreground that should have some.
        drop_no_target: leave out expressions that fit nothing by the dataset's own word.
        absent: receives the names of missing image files, whose samples are then left out; None to raise an error.

    Raises:
        MissingDataError: a part, an image file or the whole split is missing.
        DataFormatError: content that does not match the layout; the message names file and record.
    """
    files = find_nwpurefer(root)
    refs = index(load_refs(files.refs), "ref_id", f"{files.refs}: ref")
    instances = load_instances(files.instances)
    tables = {
        name: index(get(instances, name, list, str(files.instances)), "id", f"{files.instances}: {name}")
        for name in ("images", "annotations", "categories")
    }
    names = {k: get(one, "name", str, f"{files.instances}: category {k}") for k, one in tables["categories"].items()}
    samples: dict[tuple[Any, ...], _Sample] = {}
    for ref_id, ref in refs.items():
        where = f"{files.refs}: ref {ref_id}"
        if not in_split(get(ref, "split", str, where), split, where):
            continue
        image_id, ann_id = get(ref, "image_id", int, where), get(ref, "ann_id", int, where)
        for what, number in (("images", image_id), ("annotations", ann_id)):
            if number not in tables[what]:
                raise DataFormatError(f"{where}: {number} is not among the {what} of {files.instances}")
        owner = get(tables["annotations"][ann_id], "image_id", int, f"{files.instances}: annotation {ann_id}")
        if owner != image_id:
            raise DataFormatError(
                f"{files.instances}: annotation {ann_id} belongs to image {owner}, but ref {ref_id} says {image_id}"
            )
        for number, entry in enumerate(get(ref, "sentences", list, where)):
            expression = expression_of(entry, text, f"{where}, sentence {number}")
            if language not in ("all", _language(expression)):
                continue
            key = (image_id, expression) if merge else (ref_id, number)
            sample = samples.setdefault(key, _Sample(expression, ref_id, number, image_id))
            if ann_id not in sample.annotations:
                sample.annotations.append(ann_id)
    listing = Listing(files.images)
    records: list[Record] = []
    missing: list[str] = []
    for sample in samples.values():
        where = f"{files.instances}: image {sample.image_id}"
        image = tables["images"][sample.image_id]
        image_file = plain_name(get(image, "file_name", str, where), f"{where}: field 'file_name'")
        if lack := listing.lack(image_file):
            if lack not in missing:
                missing.append(lack)
            continue
        size = (get(image, "height", int, where), get(image, "width", int, where))
        labels, masks = [], []
        for ann_id in sample.annotations:
            place = f"{files.instances}: annotation {ann_id}"
            annotation = tables["annotations"][ann_id]
            category_id = get(annotation, "category_id", int, place)
            if category_id not in names:
                raise DataFormatError(f"{place}: its category {category_id} is not in the file's categories")
            labels.append(names[category_id])
            masks.append(_mask(get(annotation, "segmentation", list, place), size, place))
        targets = [one for one, label in zip(masks, labels, strict=True) if label.lower() != NO_TARGET]
        full = [one for one in targets if not one.is_empty]
        if full:
            mask = clean(replace(full[0], layers=tuple(layer for one in full for layer in one.layers)), mask_cleanup)
        else:
            mask = NoMask(masks[0])
        no_target = not targets
        if (no_target and drop_no_target) or (drop_empty and not no_target and mask.is_empty):
            continue
        label = labels[0] if len(set(labels)) == 1 and not no_target else None
        records.append(
            Record(
                sample_id=f"{CARD.name}/{split}/{sample.image_id}/{sample.ref_id}/{sample.number}",
                scene_id=f"{CARD.name}/{image_file}",
                image_path=files.images / image_file,
                image_file=image_file,
                expression=sample.expression,
                split=split,
                category=label,
                category_source="label" if label else None,
                mask=mask,
                kind="no_target" if not full else "one_target" if len(full) == 1 else "many_targets",
                no_target=no_target,
            )
        )
    if absent is not None:
        absent += missing
    elif missing:
        raise missing_files(
            f"{CARD.title}: {{}} image files of split {split!r}", missing, files.images, CARD.how_to_get
        )
    if not records and not missing:
        raise MissingDataError(
            f"{CARD.title}: {os.fspath(files.refs)} has no expression of split {split!r} in language {language!r}; "
            "set data.language to all, or give a complete copy"
        )
    return records


def _language(expression: str) -> Language:
    if not _CHINESE.search(expression):
        return "en"
    return "mixed" if _LATIN.search(expression) else "zh"


def _mask(segmentation: list[Any], size: tuple[int, int], where: str) -> RunLengths:
    """Return the union of an annotation's polygons; no polygon is an empty mask."""
    if segmentation:
        return segmentation_mask(segmentation, size, "any", where)
    try:
        empty = encode_polygon([0, 0, 0, 0, 0, 0], *size)
        return RunLengths((empty,), *size, "any")
    except ValueError as error:
        raise DataFormatError(f"{where}: its size cannot be read: {error}") from error


class NWPUReferWriter(LayoutWriter):
    """NWPU-Refer: refs and instances of the new generation, a ref per referent, masks as polygons.

    A mask is written as rectangles, the runs of its rows joined where they are equal, because these are rasterised to
    exactly its pixels.
    """

    title, folders = CARD.title, (Path("image"), Path("image"))
    holds_no_target = True

    def __init__(self, root: str | Path, **options: Any) -> None:
        super().__init__(root, **options)
        self._numbers = {name: number for number, name in enumerate([*self.categories, NO_TARGET])}
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._refs: list[dict[str, Any]] = []
        self._sentences = 0

    def _referent(self, scene: ReferredScene, referent: Referent, ann_id: int) -> list[Written]:
        height, width = scene.image.shape[:2]
        file_name = f"{self.scenes}.jpg"
        if len(self._images) < self.scenes:
            Image.fromarray(scene.image).save(self.root / self.folders[0] / file_name, quality=95, subsampling=0)
            self._images.append({"id": self.scenes, "file_name": file_name, "width": width, "height": height})
        category_id = self._numbers[NO_TARGET if referent.no_target else referent.category]
        if len(self._annotations) < ann_id:
            x0, y0, x1, y1 = bounding_box(referent.mask) or (0, 0, -1, -1)
            self._annotations.append(
                {
                    "id": ann_id,
                    "image_id": self.scenes,
                    "category_id": category_id,
                    "bbox": [x0, y0, x1 - x0 + 1, y1 - y0 + 1],
                    "segmentation": _rectangles(referent.mask),
                }
            )
        self.references += 1
        sentences = []
        for expression in referent.expressions:
            self._sentences += 1
            tokens = expression.split()
            sentences.append({"raw": expression, "sent": expression, "tokens": tokens, "sent_id": self._sentences})
        self._refs.append(
            {
                "ref_id": self.references,
                "ann_id": ann_id,
                "image_id": self.scenes,
                "split": scene.split,
                "category_id": category_id,
                "file_name": file_name,
                "sent_ids": [sentence["sent_id"] for sentence in sentences],
                "sentences": sentences,
            }
        )
        return [Written(file_name, self.scenes, self.references, ann_id) for _ in sentences]

    def close(self) -> None:
        """Write the JSON of instances and the pickle of references."""
        categories = [{"id": number, "name": name} for name, number in self._numbers.items()]
        instances = {"images": self._images, "annotations": self._annotations, "categories": categories}
        write_text(self.root / "new_instances.json", json.dumps(instances))
        # as for RRSIS-D: the bytes of a pickle depend on which strings are the same object, unless they are new
        write_bytes(self.root / "new_refs(unc).p", pickle.dumps(json.loads(json.dumps(self._refs)), protocol=2))


def _rectangles(mask: NDArray[np.bool_]) -> list[list[int]]:
    """Return a bool (H, W) mask as the corners x, y, x, y, ... of rectangles along the edges of its pixels."""
    done: list[list[int]] = []
    growing: dict[tuple[int, int], int] = {}  # first and last column -> top row
    for y in range(mask.shape[0] + 1):
        runs: set[tuple[int, int]] = set()
        if y < mask.shape[0]:
            edges = np.flatnonzero(np.diff(np.concatenate(([False], mask[y], [False])).astype(np.int8)))
            runs = {(int(x0), int(x1)) for x0, x1 in edges.reshape(-1, 2)}
        for run in [run for run in growing if run not in runs]:
            (x0, x1), top = run, growing.pop(run)
            done.append([x0, top, x1, top, x1, y, x0, y])
        for run in runs:
            growing.setdefault(run, y)
    return sorted(done, key=lambda corners: (corners[1], corners[0]))
