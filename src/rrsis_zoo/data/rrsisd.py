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
from typing import Any, Literal, TypeVar

from rrsis_zoo.data.cards import RRSIS_D
from rrsis_zoo.data.folders import Listing, annotation_file, existing_folder, is_folder, missing_files, plain_name, walk
from rrsis_zoo.data.masks import LayerRule, MaskCleanup, RunLengths, clean, encode_polygon, encode_runs
from rrsis_zoo.data.plain_pickle import read_plain_pickle
from rrsis_zoo.data.records import Record, Split
from rrsis_zoo.data.sentences import characters, sentence
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

T = TypeVar("T")


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


def find_rrsisd(root: str | Path) -> RRSISDFiles:
    """Find the parts of RRSIS-D under a folder; reads no content.

    The published layout is used if present; otherwise the parts are searched for by name, a few folders deep, because
    copies of the dataset arrange them differently.

    Args:
        root: the folder, ``refer/data`` in the original project.

    Raises:
        MissingDataError: no such folder, or a part is missing from it.
        DataFormatError: a part occurs several times, never at the published place.
    """
    root = existing_folder(root, "RRSIS-D", RRSIS_D.how_to_get)
    published = RRSISDFiles(root / ANNOTATION_DIR / REFS_FILE, root / ANNOTATION_DIR / INSTANCES_FILE, root / IMAGE_DIR)
    if os.path.exists(published.refs) and os.path.exists(published.instances) and is_folder(published.images):
        return published
    paths = _search(root, (REFS_FILE, INSTANCES_FILE), IMAGE_DIR.name)
    return RRSISDFiles(
        refs=_only(root, published.refs, paths[REFS_FILE]),
        instances=_only(root, published.instances, paths[INSTANCES_FILE]),
        images=_only(root, published.images, paths[IMAGE_DIR.name]),
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
    dataset: str = "rrsis-d",
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
        dataset: prefix of sample and scene ids; other datasets use this layout too.

    Raises:
        MissingDataError: a part, an image file or the whole split is missing.
        DataFormatError: content that does not match the layout; the message names file and record.
    """
    files = find_rrsisd(root)
    refs = _index(_list_of_refs(files.refs), "ref_id", f"{files.refs}: ref")
    instances = _load_instances(files.instances)
    images = _index(_get(instances, "images", list, str(files.instances)), "id", f"{files.instances}: image")
    annotations = _index(
        _get(instances, "annotations", list, str(files.instances)), "id", f"{files.instances}: annotation"
    )
    categories = _categories(instances, files.instances)
    listing = Listing(files.images)

    records: list[Record] = []
    missing: list[str] = []
    for ref_id, ref in refs.items():
        where = f"{files.refs}: ref {ref_id}"
        if not _in_split(_get(ref, "split", str, where), split, where):
            continue
        image_id = _get(ref, "image_id", int, where)
        ann_id = _get(ref, "ann_id", int, where)
        if ann_id not in annotations:
            raise DataFormatError(f"{where}: its annotation {ann_id} is not in {files.instances}")
        if image_id not in images:
            raise DataFormatError(f"{where}: its image {image_id} has no entry in {files.instances}")
        image, annotation = images[image_id], annotations[ann_id]
        in_image = f"{files.instances}: image {image_id}"
        in_annotation = f"{files.instances}: annotation {ann_id}"
        if _get(annotation, "image_id", int, in_annotation) != image_id:
            raise DataFormatError(
                f"{in_annotation}: belongs to image {annotation['image_id']}, but ref {ref_id} says {image_id}"
            )
        image_file = plain_name(_get(image, "file_name", str, in_image), f"{in_image}: field 'file_name'")
        if lack := listing.lack(image_file):
            missing.append(lack)
            continue
        size = (_get(image, "height", int, in_image), _get(image, "width", int, in_image))
        segmentation = _get(annotation, "segmentation", list, in_annotation)
        mask = clean(_mask(segmentation, size, layers, in_annotation), mask_cleanup)
        category_id = _get(annotation, "categories_id", int, in_annotation)
        if category_id not in categories:
            raise DataFormatError(f"{in_annotation}: its category {category_id} is not in the file's categories")
        sentences = _get(ref, "sentences", list, where)
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
                expression=_expression(entry, text, f"{where}, sentence {n}"),
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
        raise missing_files(f"RRSIS-D: {{}} image files of split {split!r}", missing, files.images, RRSIS_D.how_to_get)
    if not records and not missing:
        raise MissingDataError(f"RRSIS-D: {files.refs} has no expression of split {split!r}; {RRSIS_D.how_to_get}")
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


def _only(root: Path, published: Path, paths: list[Path]) -> Path:
    if os.path.exists(published):
        return published
    if not paths:
        link = dangling(published)
        raise MissingDataError(f"RRSIS-D: no {published.name!r} under {str(root)!r}{link}; {RRSIS_D.how_to_get}")
    if len(paths) > 1:
        places = ", ".join(map(str, paths))
        raise DataFormatError(
            f"RRSIS-D: {published.name!r} occurs {len(paths)} times under {str(root)!r} ({places}), never at the "
            f"published place {published}; give the root of one copy"
        )
    return paths[0]


def _list_of_refs(path: Path) -> list[Any]:
    refs = read_plain_pickle(annotation_file(path))
    if not isinstance(refs, list):
        raise DataFormatError(f"{path}: must contain a list of refs, got {type(refs).__name__}")
    return refs


def _load_instances(path: Path) -> dict[str, Any]:
    instances = read_json(annotation_file(path))
    if not isinstance(instances, dict):
        raise DataFormatError(f"{path}: must contain an object, got {type(instances).__name__}")
    return instances


# -- fields ------------------------------------------------------------------------------------------------------------


_MOST = 2**53  # limit of ids and sizes: JSON readers agree below it


def _get(entry: Any, key: str, kind: type[T], where: str) -> T:
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


def _index(entries: list[Any], key: str, what: str) -> dict[int, Any]:
    """Return the entries by id, in their order."""
    index: dict[int, Any] = {}
    for position, entry in enumerate(entries):
        number = _get(entry, key, int, f"{what} at position {position}")
        if number in index:
            raise DataFormatError(f"{what} {number}: field {key!r} occurs more than once")
        index[number] = entry
    return index


def _categories(instances: dict[str, Any], path: Path) -> dict[int, str]:
    """Return the display names by id; 0-19 must agree with the published list.

    From 20 on the file's own names are used: the synthetic scenes have classes that RRSIS-D lacks.
    """
    names: dict[int, str] = {}
    for number, entry in _index(_get(instances, "categories", list, str(path)), "id", f"{path}: category").items():
        name = _get(entry, "name", str, f"{path}: category {number}")
        if number < 0 or (number < len(CATEGORIES) and name != CATEGORIES[number][0]):
            raise DataFormatError(f"{path}: category {number} is {name!r}, which is not in RRSIS-D's list of 20")
        names[number] = CATEGORIES[number][1] if number < len(CATEGORIES) else name
    return names


def _in_split(value: str, split: Split, where: str) -> bool:
    if value not in ("train", "val") and "test" not in value:
        raise DataFormatError(f"{where}: its split {value!r} is not train, val or test")
    return "test" in value if split == "test" else value == split


def _expression(entry: Any, text: str, where: str) -> str:
    if text == "raw" and isinstance(entry, dict) and "raw" not in entry:
        text = "sent"
    expression = sentence(_get(entry, text, str, where), where)
    if not expression:
        raise DataFormatError(f"{where}: field {text!r} is blank")
    return expression


# -- masks -------------------------------------------------------------------------------------------------------------


def _mask(segmentation: list[Any], image_size: tuple[int, int], rule: LayerRule, where: str) -> RunLengths:
    """Return the layers of one annotation: run lengths at their own size, or polygons at the image's."""
    kinds = {type(layer) for layer in segmentation}
    try:
        if kinds == {list}:
            layers = tuple(encode_polygon(layer, *image_size) for layer in segmentation)
            return RunLengths(layers, *image_size, rule)
        if kinds == {dict}:
            sizes = {_size(layer.get("size")) for layer in segmentation}
            if len(sizes) > 1:
                raise ValueError(f"its layers have different sizes {sorted(sizes)}")
            height, width = sizes.pop()
            layers = tuple(_counts(layer.get("counts"), height, width) for layer in segmentation)
            return RunLengths(layers, height, width, rule)
        raise ValueError("it must be a non-empty list of run lengths or of polygons")
    except ValueError as error:
        raise DataFormatError(f"{where}: its segmentation cannot be read: {error}") from error


def _size(size: Any) -> tuple[int, int]:
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)):
        raise ValueError("run lengths need a size of two integers [height, width]")
    return size[0], size[1]


def _counts(counts: Any, height: int, width: int) -> bytes:
    if isinstance(counts, str):
        return counts.encode("ascii")
    if isinstance(counts, list):
        return encode_runs(counts, height, width)
    raise ValueError("run lengths need counts, a string or a list of integers")
