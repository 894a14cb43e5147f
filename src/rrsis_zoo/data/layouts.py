"""The published layouts by name, for everything that writes data: synthetic scenes, conversions, tests."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from rrsis_zoo.data.aeriald import AerialDWriter
from rrsis_zoo.data.cards import SPLITS, Split
from rrsis_zoo.data.earthreason import EarthReasonWriter
from rrsis_zoo.data.nwpurefer import NWPUReferWriter
from rrsis_zoo.data.rislad import RISLADWriter
from rrsis_zoo.data.risors import RISORSWriter
from rrsis_zoo.data.rrsishr import RRSISHRWriter
from rrsis_zoo.data.writing import (
    RRSIS_D_CATEGORIES,
    LayoutWriter,
    Referent,
    ReferredScene,
    RRSISDWriter,
    Written,
)
from rrsis_zoo.files import write_text

__all__ = [
    "LAYOUTS",
    "RRSIS_D_CATEGORIES",
    "LayoutWriter",
    "RISBenchWriter",
    "RRSISDWriter",
    "RefSegRSWriter",
    "Referent",
    "ReferredScene",
    "Written",
    "write_refsegrs",
    "write_risbench",
    "write_rrsisd",
]


class _PhraseWriter(LayoutWriter):
    """One image file, mask file and line per sentence, as RefSegRS and RISBench store them."""

    def __init__(self, root: str | Path, *, categories: Mapping[str, tuple[int, str]] = RRSIS_D_CATEGORIES) -> None:
        super().__init__(root, categories=categories)
        self._lines: dict[Split, list[str]] = {split: [] for split in SPLITS}

    @abstractmethod
    def _name(self, scene: ReferredScene) -> tuple[str, str]:
        """Return the next sentence's id in the phrase file and its file name."""

    def _referent(self, scene: ReferredScene, referent: Referent, ann_id: int) -> list[Written]:
        written = []
        for expression in referent.expressions:
            self.references += 1
            name, file_name = self._name(scene)
            images, masks = self.folders
            Image.fromarray(scene.image).save(self.root / images / file_name)
            Image.fromarray(referent.mask.astype(np.uint8) * 255).save(self.root / masks / file_name)
            self._lines[scene.split].append(f"{name} {expression}\n")
            written.append(Written(file_name, self.scenes, self.references, ann_id))
        return written

    def close(self) -> None:
        """Write the three phrase files."""
        for split, lines in self._lines.items():
            write_text(self.root / f"output_phrase_{split}.txt", "".join(lines))


class RefSegRSWriter(_PhraseWriter):
    """RefSegRS: TIFF files, with ids numbered over all splits."""

    title, folders = "RefSegRS", (Path("images"), Path("masks"))

    def _name(self, scene: ReferredScene) -> tuple[str, str]:
        return str(self.references), f"{self.references}.tif"


class RISBenchWriter(_PhraseWriter):
    """RISBench: PNG files named ``<pool>_<scene>_<sentence>``; validation scenes belong to the pool ``train``."""

    title, folders = "RISBench", (Path("img_rgb"), Path("mask"))

    def __init__(self, root: str | Path, *, categories: Mapping[str, tuple[int, str]] = RRSIS_D_CATEGORIES) -> None:
        super().__init__(root, categories=categories)
        self._scene_numbers: dict[str, dict[int, int]] = {"train": {}, "test": {}}
        self._sentence_numbers: Counter[int] = Counter()

    def _name(self, scene: ReferredScene) -> tuple[str, str]:
        pool = "test" if scene.split == "test" else "train"
        numbers = self._scene_numbers[pool]
        number = numbers.setdefault(self.scenes, len(numbers))
        name = f"{pool}_{number}_{self._sentence_numbers[self.scenes]}.png"
        self._sentence_numbers[self.scenes] += 1
        return name, name


LAYOUTS: dict[str, type[LayoutWriter]] = {
    "rrsis-d": RRSISDWriter,
    "refsegrs": RefSegRSWriter,
    "risbench": RISBenchWriter,
    "earthreason": EarthReasonWriter,
    "aerial-d": AerialDWriter,
    "rrsis-hr": RRSISHRWriter,
    "ris-lad": RISLADWriter,
    "risors": RISORSWriter,
    "nwpu-refer": NWPUReferWriter,
}
"""The layouts by the name of the dataset published in them."""


def write_rrsisd(root: str | Path, scenes: Iterable[ReferredScene], *, quality: int = 95) -> None:
    """Write scenes in the published layout of RRSIS-D; arguments and errors as `RRSISDWriter`."""
    _write(RRSISDWriter(root, quality=quality), scenes)


def write_refsegrs(root: str | Path, scenes: Iterable[ReferredScene]) -> None:
    """Write scenes in the published layout of RefSegRS; errors as `LayoutWriter`."""
    _write(RefSegRSWriter(root), scenes)


def write_risbench(root: str | Path, scenes: Iterable[ReferredScene]) -> None:
    """Write scenes in the published layout of RISBench; errors as `LayoutWriter`."""
    _write(RISBenchWriter(root), scenes)


def _write(writer: LayoutWriter, scenes: Iterable[ReferredScene]) -> None:
    for scene in scenes:
        writer.add(scene)
    writer.close()
