"""EarthReason (Li et al., SegEarth-R1, arXiv 2504.09644): questions about regions, some without an answer in the image.

Each split is a folder with ``images``, ``labels`` and ``QAs``. The three belong together by stem; the authors' reader
pairs the sorted listings by position, so that one missing file shifts every later pair.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from rrsis_zoo.data.cards import SPLITS, DatasetCard, Split
from rrsis_zoo.data.fields import get
from rrsis_zoo.data.folders import (
    Listing,
    annotation_file,
    broken_links,
    existing_folder,
    is_folder,
    missing_files,
    walk,
)
from rrsis_zoo.data.masks import GreyFile, MaskCleanup, clean
from rrsis_zoo.data.records import Record
from rrsis_zoo.data.sentences import characters, sentence
from rrsis_zoo.data.writing import LayoutWriter, Referent, ReferredScene, Written
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import make_folder, read_json, write_json

Questions = Literal["first", "all"]

CARD = DatasetCard(
    name="earthreason",
    title="EarthReason",
    paper="Li et al., SegEarth-R1, arXiv 2504.09644",
    source="https://huggingface.co/datasets/earth-insights/EarthReason",
    licence="Apache-2.0 as stated on ModelScope; the images are Million-AID's and fMoW's, under their own terms",
    layout="<root>/{train,val,test}/images/<stem>.jpg, /labels/<stem>.png and /QAs/<stem>.json",
    counts={"train": 2371, "val": 1135, "test": 1928},
    image_size=None,
    image_names={},
)

_PARTS = ("images", "labels", "QAs")
_SEARCH_DEPTH = 2


@dataclass(frozen=True)
class EarthReasonFiles:
    """Where a copy is.

    Attributes:
        root: the folder that contains the folders of the splits.
    """

    root: Path


def find_earthreason(root: str | Path) -> EarthReasonFiles:
    """Find the folder that contains the splits, at the root or up to two folders below it.

    Raises:
        MissingDataError: no such folder, or no split in it.
        DataFormatError: several copies, none directly in the root.
    """
    root = existing_folder(root, CARD.title, CARD.how_to_get)
    found = []
    for folder, folders, _ in walk(root):
        here = Path(folder)
        if any(is_folder(here / split / "QAs") for split in SPLITS):
            found.append(here)
            folders[:] = []
        deeper = len(here.relative_to(root).parts) < _SEARCH_DEPTH
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX") if deeper else []
    if not found:
        raise MissingDataError(
            f"{CARD.title}: no 'train/QAs' under {str(root)!r}{broken_links(root)}; {CARD.how_to_get}"
        )
    if len(found) > 1:
        places = ", ".join(map(str, found))
        raise DataFormatError(f"{CARD.title}: several copies under {str(root)!r} ({places}); give the root of one")
    return EarthReasonFiles(found[0])


def question_files(root: str | Path) -> list[Path]:
    """Return the question files of all splits; raise as `find_earthreason`."""
    folders = (find_earthreason(root).root / split / "QAs" for split in SPLITS)
    return [folder / name for folder in folders if is_folder(folder) for name in _by_stem(folder).values()]


def read_earthreason(
    root: str | Path,
    split: Split,
    *,
    questions: Questions = "first",
    threshold: int | None = None,
    mask_cleanup: MaskCleanup = "none",
    drop_empty: bool = False,
    drop_no_target: bool = False,
    absent: list[str] | None = None,
) -> list[Record]:
    """Read one split, sorted by file name.

    Args:
        root: see `find_earthreason`.
        split: ``train``, ``val`` or ``test``.
        questions: ``first`` for one sample per image, as in the published protocol; ``all`` for one per question.
        threshold: foreground is above this grey level; None for 0.
        mask_cleanup: filter of the masks.
        drop_empty: leave out samples without foreground that should have some.
        drop_no_target: leave out questions without an answer in the image.
        absent: receives the names of missing files, whose samples are then left out; None to raise an error.

    Raises:
        MissingDataError: the split is missing, or a stem lacks one of its three files.
        DataFormatError: a stem with several files in a folder, or content that does not match the layout.
    """
    base = find_earthreason(root).root / split
    if not all(is_folder(base / part) for part in _PARTS):
        where = f"{str(base)!r}{broken_links(base) if is_folder(base) else ''}"
        raise MissingDataError(f"{CARD.title}: no {', '.join(_PARTS)} in {where}; {CARD.how_to_get}")
    parts = {part: _by_stem(base / part) for part in _PARTS}
    stems = sorted({stem for part in parts.values() for stem in part})
    missing = [f"{part}/{stem}" for stem in stems for part in _PARTS if stem not in parts[part]]
    if missing and absent is None:
        raise missing_files(f"{CARD.title}: {{}} files of split {split!r}", missing, base, CARD.how_to_get)
    if absent is not None:
        absent += missing
    records: list[Record] = []
    whole = [stem for stem in stems if all(stem in part for part in parts.values())]
    for stem in sorted(whole, key=parts["images"].__getitem__):
        path = base / "QAs" / parts["QAs"][stem]
        asked, answers = _questions(path)
        mask = clean(GreyFile(base / "labels" / parts["labels"][stem], threshold or 0), mask_cleanup)
        no_target = not answers
        if (no_target and drop_no_target) or (drop_empty and not no_target and mask.is_empty):
            continue
        name = f"{CARD.name}/{split}/{stem}"
        image_file = parts["images"][stem]
        records += [
            Record(
                sample_id=f"{name}/{number}",
                scene_id=name,
                image_path=base / "images" / image_file,
                image_file=image_file,
                expression=question,
                split=split,
                category=None,
                category_source=None,
                mask=mask,
                kind="reasoning",
                reference=name,
                no_target=no_target,
            )
            for number, question in enumerate(asked[:1] if questions == "first" else asked)
        ]
    if not stems:
        raise MissingDataError(f"{CARD.title}: {str(base)!r} has no samples; {CARD.how_to_get}")
    return records


def _by_stem(folder: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    for name in sorted(Listing(folder).files):
        if name.startswith("."):
            continue
        stem = os.path.splitext(name)[0]
        if stem in names:
            raise DataFormatError(f"{folder}: {names[stem]!r} and {name!r} have the same stem; remove one of them")
        names[stem] = name
    return names


def _questions(path: Path) -> tuple[list[str], list[Any]]:
    content = read_json(annotation_file(path))
    asked, answers = get(content, "questions", list, str(path)), get(content, "answer", list, str(path))
    texts = []
    for number, text in enumerate(asked):
        where = f"{path}: question {number}"
        if not isinstance(text, str) or not (cleaned := sentence(characters(text, where), where)):
            raise DataFormatError(f"{where}: must be a text that is not blank")
        texts.append(cleaned)
    if not texts:
        raise DataFormatError(f"{path}: has no question")
    return texts, answers


class EarthReasonWriter(LayoutWriter):
    """EarthReason: an image, a label and a file of questions per sentence, ``<scene>_<sentence>``.

    The published files have several questions about one region; one each keeps every sentence in the published
    protocol, which asks the first question only.
    """

    title: ClassVar[str] = CARD.title
    folders = (Path("train"), Path("val"))
    holds_no_target = True

    @classmethod
    def image_folder(cls, split: Split) -> Path:
        """Return the folder of a split's images, below the root."""
        return Path(split) / "images"

    def _referent(self, scene: ReferredScene, referent: Referent, ann_id: int) -> list[Written]:
        base = self.root / scene.split
        images, labels, questions = (make_folder(base / part) for part in _PARTS)
        written = []
        for expression in referent.expressions:
            self.references += 1
            stem = f"{self.scenes:05d}_{self.references}"
            Image.fromarray(scene.image).save(images / f"{stem}.png")
            Image.fromarray(referent.mask.astype(np.uint8) * 255).save(labels / f"{stem}.png")
            answers = [] if referent.no_target else [f"The {referent.category}."]
            write_json(questions / f"{stem}.json", {"questions": [expression], "answer": answers})
            written.append(Written(f"{stem}.png", self.scenes, self.references, ann_id))
        return written

    def close(self) -> None:
        """Create the folders of splits without a scene."""
        for split in SPLITS:
            for part in _PARTS:
                make_folder(self.root / split / part)
