"""Writers of the datasets' published layouts: for synthetic scenes and for tests, so that the real readers are used."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.data.masks import encode_mask
from rrsis_zoo.data.records import Split
from rrsis_zoo.data.rrsisd import ANNOTATION_DIR, CATEGORIES, IMAGE_DIR, INSTANCES_FILE, REFS_FILE
from rrsis_zoo.errors import ConfigError, unknown_name


@dataclass(frozen=True)
class Referent:
    """One object (or group) of a scene and the sentences that mean it.

    Attributes:
        mask: bool (H, W) of the scene's size; may be empty.
        expressions: one or more sentences.
        category: display name of its class, see ``rrsis_zoo.data.rrsisd.CATEGORIES``.
    """

    mask: NDArray[np.bool_]
    expressions: Sequence[str]
    category: str


@dataclass(frozen=True)
class Scene:
    """One image with its referents.

    Attributes:
        image: uint8 RGB (H, W, 3).
        referents: one or more.
        split: ``train``, ``val`` or ``test``.
    """

    image: NDArray[np.uint8]
    referents: Sequence[Referent]
    split: Split


def write_rrsisd(root: str | Path, scenes: Iterable[Scene], *, quality: int = 95) -> None:
    """Write scenes in the published layout of RRSIS-D, with its field names and oddities.

    Images are numbered from 1, references from 1 over all scenes (in the published files, which have one sentence a
    reference and one reference an image, all numbers of a sample are equal). The XML files are not written: no reader
    uses them.

    Args:
        root: folder to write to; made where it is not there.
        scenes: taken one by one, so that a generator need not hold them all.
        quality: of the JPEG files, 1-100; no colour subsampling.

    Raises:
        ConfigError: a root that holds RRSIS-D files already, or a scene that cannot be written.
    """
    root = Path(root)
    annotation_dir, image_dir = root / ANNOTATION_DIR, root / IMAGE_DIR
    if annotation_dir.exists() or image_dir.exists():
        raise ConfigError(f"{root} holds RRSIS-D files already: give another folder, or remove them")
    annotation_dir.mkdir(parents=True)
    image_dir.mkdir(parents=True)
    numbers = {display: number for number, (_, display) in enumerate(CATEGORIES)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    sent_id = 0
    for image_id, scene in enumerate(scenes, start=1):
        _check(scene, image_id, numbers)
        height, width = scene.image.shape[:2]
        file_name = f"{image_id:05d}.jpg"
        Image.fromarray(scene.image).save(image_dir / file_name, quality=quality, subsampling=0)
        images.append({"file_name": file_name, "height": height, "width": width, "id": image_id})
        for referent in scene.referents:
            ref_id = len(refs) + 1
            category_id = numbers[referent.category]
            annotations.append(
                {
                    "bbox": _corners(referent.mask),
                    "categories_id": category_id,
                    "id": ref_id,
                    "image_id": image_id,
                    "segmentation": [{"size": [height, width], "counts": encode_mask(referent.mask).decode("ascii")}],
                    "area": 255 * int(referent.mask.sum()),
                }
            )
            sentences = []
            for expression in referent.expressions:
                sent_id += 1
                tokens = expression.split()
                sentences.append({"tokens": tokens, "raw": expression, "sent_id": sent_id, "sent": expression})
            refs.append(
                {
                    "image_id": image_id,
                    "split": scene.split,
                    "sentences": sentences,
                    "file_name": file_name,
                    "category_id": category_id,
                    "ann_id": ref_id,
                    "sent_ids": [sentence["sent_id"] for sentence in sentences],
                    "ref_id": ref_id,
                }
            )
    categories = [{"name": name, "id": number} for number, (name, _) in enumerate(CATEGORIES)]
    instances = {"images": images, "annotations": annotations, "categories": categories}
    (annotation_dir / INSTANCES_FILE).write_text(json.dumps(instances), encoding="utf-8")
    (annotation_dir / REFS_FILE).write_bytes(pickle.dumps(refs, protocol=2))


def _corners(mask: NDArray[np.bool_]) -> list[int]:
    """Return [xmin, ymin, xmax, ymax], the last row and column included; zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return [0, 0, 0, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])]


def _check(scene: Scene, number: int, categories: dict[str, int]) -> None:
    image = scene.image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ConfigError(f"scene {number}: the image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if scene.split not in ("train", "val", "test"):
        raise unknown_name(f"split of scene {number}", scene.split, ("train", "val", "test"))
    if not scene.referents:
        raise ConfigError(f"scene {number}: has no referent")
    for referent in scene.referents:
        mask = referent.mask
        if mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
            raise ConfigError(f"scene {number}: a mask must be bool {image.shape[:2]}, got {mask.dtype} {mask.shape}")
        if referent.category not in categories:
            raise unknown_name(f"category of scene {number}", referent.category, categories)
        if isinstance(referent.expressions, str) or not referent.expressions:
            raise ConfigError(f"scene {number}: expressions must be a list of one or more sentences")
        if not all(expression.strip() for expression in referent.expressions):
            raise ConfigError(f"scene {number}: an expression is blank")
