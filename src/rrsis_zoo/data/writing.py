"""Writing datasets in their published layouts: what is written, what all writers share, and the family of RRSIS-D."""

from __future__ import annotations

import json
import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.data.cards import SPLITS, Split
from rrsis_zoo.data.describe import bounding_box
from rrsis_zoo.data.masks import encode_mask
from rrsis_zoo.data.rrsisd import ANNOTATION_DIR, CATEGORIES, IMAGE_DIR, INSTANCES_FILE, REFS_FILE
from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.files import cannot_write, expanded, make_folder, write_bytes, write_text
from rrsis_zoo.shown import short_repr

RRSIS_D_CATEGORIES: dict[str, tuple[int, str]] = {
    display: (number, name) for number, (name, display) in enumerate(CATEGORIES)
}
"""Display name -> (id, name in the files) of RRSIS-D's 20 classes."""


@dataclass(frozen=True)
class Referent:
    """One object (or group) in a scene and the sentences that refer to it.

    Attributes:
        mask: bool (H, W) of the scene's size; may be empty. Referents of a scene that share one array object
            are one annotation with several references.
        expressions: one or more sentences.
        category: display name of its class, see ``rrsis_zoo.data.rrsisd.CATEGORIES``.
        no_target: whether the sentences fit nothing in the scene; the mask is then empty.
    """

    mask: NDArray[np.bool_]
    expressions: Sequence[str]
    category: str
    no_target: bool = False

    __repr__ = short_repr


@dataclass(frozen=True)
class ReferredScene:
    """One image with its referents.

    Attributes:
        image: uint8 RGB (H, W, 3).
        referents: one or more.
        split: ``train``, ``val`` or ``test``.
    """

    image: NDArray[np.uint8]
    referents: Sequence[Referent]
    split: Split

    __repr__ = short_repr


@dataclass(frozen=True)
class Written:
    """Where a sentence went.

    Attributes:
        file_name: its image file, without folder.
        image_id: number of the scene, from 1.
        ref_id: number of the reference, from 1 over all scenes.
        ann_id: number of the annotation, from 1 over all scenes.
    """

    file_name: str
    image_id: int
    ref_id: int
    ann_id: int


class LayoutWriter(ABC):
    """Writes scenes one by one, so that a generator need not keep them all; ``close`` writes the files that list them.

    Args:
        root: folder to write to; created if missing.
        categories: display names that referents may have -> (id, name in the files).

    Raises:
        ConfigError: a root that already contains files of the layout.
        OutputError: it cannot be created.
    """

    title: ClassVar[str]
    folders: ClassVar[tuple[Path, Path]]
    """Folder of the images, and of the annotations or masks."""
    splits: ClassVar[tuple[Split, ...]] = SPLITS
    """Splits that the layout has."""
    holds_no_target: ClassVar[bool] = False
    """Whether a sentence can be marked as fitting nothing."""
    holds_empty: ClassVar[bool] = True
    """Whether its readers keep a sentence with an empty mask that is not marked so."""

    def __init__(self, root: str | Path, *, categories: Mapping[str, tuple[int, str]] = RRSIS_D_CATEGORIES) -> None:
        self.root = expanded(root)
        self.categories = dict(categories)
        if any(os.path.exists(self.root / folder) for folder in self.folders):
            raise ConfigError(f"{root} already contains {self.title} files: give another folder, or remove them")
        for folder in self.folders:
            make_folder(self.root / folder)
        self.scenes = self.references = self.annotations = 0

    @classmethod
    def image_folder(cls, split: Split) -> Path:
        """Return the folder of a split's images, below the root."""
        return cls.folders[0]

    def add(self, scene: ReferredScene) -> list[Written]:
        """Write a scene; return where each sentence went, referent by referent.

        Raises:
            ConfigError: a scene that the layout cannot represent.
            OutputError: a file cannot be written.
        """
        self.scenes += 1
        _check(scene, self.scenes, self.categories)
        self._check_held(scene)
        numbers: dict[int, int] = {}
        written: list[Written] = []
        for referent in scene.referents:
            if id(referent.mask) not in numbers:
                self.annotations += 1
                numbers[id(referent.mask)] = self.annotations
            with cannot_write(self.root):
                written += self._referent(scene, referent, numbers[id(referent.mask)])
        return written

    def _check_held(self, scene: ReferredScene) -> None:
        """Refuse what the layout has no place for: it would be lost, or come back as something else."""
        where = f"scene {self.scenes}"
        if scene.split not in self.splits:
            raise ConfigError(
                f"{where}: {self.title} has no split {scene.split!r}; it has {' and '.join(self.splits)}: give the "
                "scene one of these, or write another layout"
            )
        for referent in scene.referents:
            if referent.no_target and referent.mask.any():
                raise ConfigError(f"{where}: {referent.expressions[0]!r} has no target, but its mask is not empty")
            if referent.no_target and not self.holds_no_target:
                raise ConfigError(
                    f"{where}: {referent.expressions[0]!r} has no target, which {self.title} has no place for: write "
                    "earthreason or nwpu-refer, or leave such expressions out"
                )
            if not (referent.no_target or self.holds_empty or referent.mask.any()):
                raise ConfigError(
                    f"{where}: the mask of {referent.expressions[0]!r} is empty, and readers of {self.title} leave "
                    "such annotations out: leave it out, or write another layout"
                )

    @abstractmethod
    def _referent(self, scene: ReferredScene, referent: Referent, ann_id: int) -> list[Written]:
        """Write one referent of the scene; count its references."""

    @abstractmethod
    def close(self) -> None:
        """Write the files that list the samples.

        Raises:
            OutputError: one of them cannot be written.
        """


class RRSISDWriter(LayoutWriter):
    """RRSIS-D, with its field names and quirks: one reference per referent with all its sentences.

    Images are numbered from 1, references and annotations from 1 over all scenes (in the published files, which have
    one sentence per reference and one reference per image, all numbers of a sample are equal). The XML files are not
    written: no reader uses them.

    Args:
        root: see `LayoutWriter`.
        categories: see `LayoutWriter`. The ids 0-19 are RRSIS-D's own classes; others are numbered from 20 on.
        quality: of the JPEG files, 1-100; no chroma subsampling, which would wash out the colours that sentences name.

    Raises:
        ConfigError: see `LayoutWriter`; categories that RRSIS-D's reader would refuse.
    """

    title, folders = "RRSIS-D", (IMAGE_DIR, ANNOTATION_DIR)
    named: ClassVar[bool] = True
    """Whether the ids 0-19 are RRSIS-D's classes; otherwise the file's names are the display names."""

    def __init__(
        self,
        root: str | Path,
        *,
        categories: Mapping[str, tuple[int, str]] = RRSIS_D_CATEGORIES,
        quality: int = 95,
    ) -> None:
        if self.named:
            _check_ids(categories)
        super().__init__(root, categories=categories)
        self.quality = quality
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._refs: list[dict[str, Any]] = []
        self._sentences = 0

    def _referent(self, scene: ReferredScene, referent: Referent, ann_id: int) -> list[Written]:
        height, width = scene.image.shape[:2]
        file_name = f"{self.scenes:05d}.jpg"
        if len(self._images) < self.scenes:
            path = self.root / self.folders[0] / file_name
            Image.fromarray(scene.image).save(path, quality=self.quality, subsampling=0)
            self._images.append({"file_name": file_name, "height": height, "width": width, "id": self.scenes})
        category_id = self.categories[referent.category][0]
        if len(self._annotations) < ann_id:
            self._annotations.append(
                {
                    "bbox": bounding_box(referent.mask) or [0, 0, 0, 0],
                    "categories_id": category_id,
                    "id": ann_id,
                    "image_id": self.scenes,
                    "segmentation": [{"size": [height, width], "counts": encode_mask(referent.mask).decode("ascii")}],
                    "area": 255 * int(referent.mask.sum()),
                }
            )
        self.references += 1
        sentences = []
        for expression in referent.expressions:
            self._sentences += 1
            tokens = expression.split()
            sentences.append({"tokens": tokens, "raw": expression, "sent_id": self._sentences, "sent": expression})
        self._refs.append(
            {
                "image_id": self.scenes,
                "split": scene.split,
                "sentences": sentences,
                "file_name": file_name,
                "category_id": category_id,
                "ann_id": ann_id,
                "sent_ids": [sentence["sent_id"] for sentence in sentences],
                "ref_id": self.references,
            }
        )
        return [Written(file_name, self.scenes, self.references, ann_id) for _ in sentences]

    def close(self) -> None:
        """Write the JSON of instances and the pickle of references."""
        listed = sorted((n, name if self.named else shown) for shown, (n, name) in self.categories.items())
        categories = [{"name": name, "id": number} for number, name in listed]
        instances = {"images": self._images, "annotations": self._annotations, "categories": categories}
        folder = self.root / self.folders[1]
        write_text(folder / INSTANCES_FILE, json.dumps(instances))
        # Pickle writes the second occurrence of the same string object as a reference, and which strings are the same
        # object depends on the process; a round trip through JSON makes the bytes depend on the values alone.
        write_bytes(folder / REFS_FILE, pickle.dumps(json.loads(json.dumps(self._refs)), protocol=2))


def _check_ids(categories: Mapping[str, tuple[int, str]]) -> None:
    owners: dict[int, str] = {}
    for display, (number, name) in categories.items():
        if number < 0 or (number < len(CATEGORIES) and (name, display) != CATEGORIES[number]):
            raise ConfigError(
                f"category {display!r}: the id {number} with the name {name!r} is not in RRSIS-D's list of "
                f"{len(CATEGORIES)}: number your own categories from {len(CATEGORIES)} on"
            )
        if number in owners:
            raise ConfigError(f"categories {owners[number]!r} and {display!r} have the same id {number}")
        owners[number] = display


def _check(scene: ReferredScene, number: int, categories: Mapping[str, Any]) -> None:
    image = scene.image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ConfigError(f"scene {number}: the image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if scene.split not in SPLITS:
        raise unknown_name(f"split of scene {number}", scene.split, SPLITS)
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
