"""Reader of RRSIS-D (Liu et al., Rotated Multi-Scale Interaction Network, CVPR 2024, arXiv 2312.12470).

The files are like COCO with exceptions that break ordinary COCO readers: the class is called ``categories_id``,
``bbox`` is (xmin, ymin, xmax, ymax), ``segmentation`` is a list of run lengths that belong to one object, and ``area``
is the sum of grey values. Masks, order and splits are those of the reference loader.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rrsis_zoo.data.cards import RRSIS_D, DatasetCard
from rrsis_zoo.data.fields import get, index, segmentation_mask
from rrsis_zoo.data.folders import Listing, annotation_file, existing_folder, is_folder, missing_files, plain_name, walk
from rrsis_zoo.data.masks import LayerRule, MaskCleanup, clean
from rrsis_zoo.data.plain_pickle import read_plain_pickle
from rrsis_zoo.data.records import Record, Split
from rrsis_zoo.data.sentences import sentence
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import dangling, read_json

CATEGORIES: tuple[tuple[str, str], ...] = (
    ("Expressway-Service-area", "expressway service area"),
    ("Expressway-toll-station", "expressway toll station"),
    ("airplane", "airplane"),
    ("airport", "airport"),
    ("baseballfield", "baseball field"),
    ("basketballcourt", "basketball court"),
    ("bridge", "bridge"),
    ("chimney", "chimney"),
    ("dam", "dam"),
    ("golffield", "golf field"),
    ("groundtrackfield", "ground track field"),
    ("harbor", "harbor"),
    ("overpass", "overpass"),
    ("ship", "ship"),
    ("stadium", "stadium"),
    ("storagetank", "storage tank"),
    ("tenniscourt", "tennis court"),
    ("trainstation", "train station"),
    ("vehicle", "vehicle"),
    ("windmill", "windmill"),
)
"""The 20 classes in the order of their ids: (name in the files, display name)."""

REFS_FILE = "refs(unc).p"
INSTANCES_FILE = "instances.json"
ANNOTATION_DIR = Path("rrsisd")
IMAGE_DIR = Path("images/rrsisd/JPEGImages")

_SEARCH_DEPTH = 4  # folders below the root; the published layout needs three
TextField = Literal["raw", "sent"]
"""The field of a sentence that is the expression."""


@dataclass(frozen=True)
class RRSISDFiles:
    """Where the parts of one copy of RRSIS-D are.

    Attributes:
        refs: the pickle of references.
        instances: the JSON of images, annotations and categories.
        images: folder of the JPEG files.
    """

    refs: Path
    instances: Path
    images: Path


@dataclass(frozen=True)
class ReferLayout:
    """What distinguishes one dataset in this layout from another.

    Attributes:
        card: what is known about it.
        folder: name of its folder of annotations.
        named: whether the classes 0-19 must be RRSIS-D's; otherwise the file's own list is used.
    """

    card: DatasetCard
    folder: str
    named: bool = False


LAYOUT = ReferLayout(RRSIS_D, ANNOTATION_DIR.name, named=True)


def find_rrsisd(root: str | Path, layout: ReferLayout = LAYOUT) -> RRSISDFiles:
    """Find the parts of RRSIS-D under a folder; reads no content.

    The published layout is used if present; otherwise the parts are searched for by name, a few folders deep, because
    copies of the dataset arrange them differently.

    Args:
        root: the folder, ``refer/data`` in the original project.
        layout: which dataset.

    Raises:
        MissingDataError: no such folder, or a part is missing from it.
        DataFormatError: a part occurs several times, never at the published place.
    """
    card = layout.card
    root = existing_folder(root, card.title, card.how_to_get)
    annotations = root / layout.folder
    images = root / "images" / layout.folder / IMAGE_DIR.name
    published = RRSISDFiles(annotations / REFS_FILE, annotations / INSTANCES_FILE, images)
    if os.path.exists(published.refs) and os.path.exists(published.instances) and is_folder(published.images):
        return published
    paths = _search(root, (REFS_FILE, INSTANCES_FILE), IMAGE_DIR.name)
    return RRSISDFiles(
        refs=_only(root, card, published.refs, paths[REFS_FILE]),
        instances=_only(root, card, published.instances, paths[INSTANCES_FILE]),
        images=_only(root, card, published.images, paths[IMAGE_DIR.name]),
    )


def read_rrsisd(
    root: str | Path,
    split: Split,
    *,
    layers: LayerRule = "sum_eq_1",
    text: TextField = "raw",
    mask_cleanup: MaskCleanup = "none",
    drop_empty: bool = False,
    absent: list[str] | None = None,
    dataset: str | None = None,
    layout: ReferLayout = LAYOUT,
) -> list[Record]:
    """Read one split: a record per sentence, in the order of the pickle.

    ``train`` and ``val`` are matched by equality, ``test`` by containment (``testA`` is test), as in the reference.

    Args:
        root: the folder, see ``find_rrsisd``.
        split: ``train``, ``val`` or ``test``.
        layers: how several layers of an annotation combine into one mask.
        text: the field of a sentence that is the expression; ``sent`` is also used if there is no ``raw``.
        mask_cleanup: filter of the masks; ``none`` for the official ones.
        drop_empty: leave out samples whose annotation has no foreground (the published files have three).
        absent: receives the names of missing image files, whose samples are then left out; None to raise an error.
        dataset: prefix of sample and scene ids; None for the card's name.
        layout: which dataset.

    Raises:
        MissingDataError: a part, an image file or the whole split is missing.
        DataFormatError: content that does not match the layout; the message names file and record.
    """
    card, dataset = layout.card, dataset or layout.card.name
    files = find_rrsisd(root, layout)
    refs = index(load_refs(files.refs), "ref_id", f"{files.refs}: ref")
    instances = load_instances(files.instances)
    images = index(get(instances, "images", list, str(files.instances)), "id", f"{files.instances}: image")
    annotations = index(
        get(instances, "annotations", list, str(files.instances)), "id", f"{files.instances}: annotation"
    )
    categories = _categories(instances, files.instances, layout.named)
    listing = Listing(files.images)

    records: list[Record] = []
    missing: list[str] = []
    for ref_id, ref in refs.items():
        where = f"{files.refs}: ref {ref_id}"
        if not in_split(get(ref, "split", str, where), split, where):
            continue
        image_id = get(ref, "image_id", int, where)
        ann_id = get(ref, "ann_id", int, where)
        if ann_id not in annotations:
            raise DataFormatError(f"{where}: its annotation {ann_id} is not in {files.instances}")
        if image_id not in images:
            raise DataFormatError(f"{where}: its image {image_id} has no entry in {files.instances}")
        image, annotation = images[image_id], annotations[ann_id]
        in_image = f"{files.instances}: image {image_id}"
        in_annotation = f"{files.instances}: annotation {ann_id}"
        if get(annotation, "image_id", int, in_annotation) != image_id:
            raise DataFormatError(
                f"{in_annotation}: belongs to image {annotation['image_id']}, but ref {ref_id} says {image_id}"
            )
        image_file = plain_name(get(image, "file_name", str, in_image), f"{in_image}: field 'file_name'")
        if lack := listing.lack(image_file):
            missing.append(lack)
            continue
        size = (get(image, "height", int, in_image), get(image, "width", int, in_image))
        segmentation = get(annotation, "segmentation", list, in_annotation)
        mask = clean(segmentation_mask(segmentation, size, layers, in_annotation), mask_cleanup)
        category_id = get(annotation, _class_key(annotation, layout.named), int, in_annotation)
        if category_id not in categories:
            raise DataFormatError(f"{in_annotation}: its category {category_id} is not in the file's categories")
        sentences = get(ref, "sentences", list, where)
        if not sentences:
            raise DataFormatError(f"{where}: has no sentence")
        if drop_empty and mask.is_empty:
            continue
        records += [
            Record(
                sample_id=f"{dataset}/{split}/{ref_id:05d}/{n}",
                scene_id=f"{dataset}/{image_file}",
                image_path=files.images / image_file,
                image_file=image_file,
                expression=expression_of(entry, text, f"{where}, sentence {n}"),
                split=split,
                category=categories[category_id],
                category_source="label",
                mask=mask,
                reference=f"{dataset}/{split}/{ref_id:05d}",
            )
            for n, entry in enumerate(sentences)
        ]
    if absent is not None:
        absent += missing
    elif missing:
        raise missing_files(
            f"{card.title}: {{}} image files of split {split!r}", missing, files.images, card.how_to_get
        )
    if not records and not missing:
        raise MissingDataError(f"{card.title}: {files.refs} has no expression of split {split!r}; {card.how_to_get}")
    return records


# -- files -------------------------------------------------------------------------------------------------------------


def _search(root: Path, file_names: Iterable[str], folder_name: str) -> dict[str, list[Path]]:
    paths: dict[str, list[Path]] = {name: [] for name in (*file_names, folder_name)}
    for folder, folders, files in walk(root):
        here = Path(folder)
        if folder_name in folders:
            paths[folder_name].append(here / folder_name)
        for name in file_names:
            if name in files:
                paths[name].append(here / name)
        deeper = len(here.relative_to(root).parts) < _SEARCH_DEPTH
        # The two folders with thousands of files contain nothing that is searched for.
        skipped = {folder_name, "ann_split"}
        folders[:] = sorted(f for f in folders if f not in skipped and not f.startswith(".")) if deeper else []
    return paths


def _only(root: Path, card: DatasetCard, published: Path, paths: list[Path]) -> Path:
    if os.path.exists(published):
        return published
    if not paths:
        link = dangling(published)
        raise MissingDataError(f"{card.title}: no {published.name!r} under {str(root)!r}{link}; {card.how_to_get}")
    if len(paths) > 1:
        places = ", ".join(map(str, paths))
        raise DataFormatError(
            f"{card.title}: {published.name!r} occurs {len(paths)} times under {str(root)!r} ({places}), never at the "
            f"published place {published}; give the root of one copy"
        )
    return paths[0]


def load_refs(path: Path) -> list[Any]:
    """Return the references of a pickle.

    Raises:
        DataFormatError: not a list.
    """
    refs = read_plain_pickle(annotation_file(path))
    if not isinstance(refs, list):
        raise DataFormatError(f"{path}: must contain a list of refs, got {type(refs).__name__}")
    return refs


def load_instances(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        DataFormatError: not an object.
    """
    instances = read_json(annotation_file(path))
    if not isinstance(instances, dict):
        raise DataFormatError(f"{path}: must contain an object, got {type(instances).__name__}")
    return instances


# -- fields ------------------------------------------------------------------------------------------------------------


def _categories(instances: dict[str, Any], path: Path, named: bool) -> dict[int, str]:
    """Return the display names by id; 0-19 must agree with the published list.

    From 20 on the file's own names are used: the synthetic scenes have classes that RRSIS-D lacks.
    """
    names: dict[int, str] = {}
    for number, entry in index(get(instances, "categories", list, str(path)), "id", f"{path}: category").items():
        name = get(entry, "name", str, f"{path}: category {number}")
        if number < 0 or (named and number < len(CATEGORIES) and name != CATEGORIES[number][0]):
            raise DataFormatError(f"{path}: category {number} is {name!r}, which is not in RRSIS-D's list of 20")
        names[number] = CATEGORIES[number][1] if named and number < len(CATEGORIES) else name
    return names


def _class_key(annotation: Any, named: bool) -> str:
    """Return the field of the class: RRSIS-D spells it with s, other datasets in this layout either way."""
    return "category_id" if not named and "category_id" in annotation else "categories_id"


def in_split(value: str, split: Split, where: str) -> bool:
    """Return whether a reference belongs to a split: train and val by equality, test by containment.

    Raises:
        DataFormatError: it belongs to none.
    """
    if value not in ("train", "val") and "test" not in value:
        raise DataFormatError(f"{where}: its split {value!r} is not train, val or test")
    return "test" in value if split == "test" else value == split


def expression_of(entry: Any, text: str, where: str) -> str:
    """Return the expression of a sentence's entry.

    Raises:
        DataFormatError: the field is missing or blank.
    """
    if text == "raw" and isinstance(entry, dict) and "raw" not in entry:
        text = "sent"
    expression = sentence(get(entry, text, str, where), where)
    if not expression:
        raise DataFormatError(f"{where}: field {text!r} is blank")
    return expression
