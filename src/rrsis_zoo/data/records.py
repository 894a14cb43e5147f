"""The samples of a dataset before any pixel is read. No torch here.

A ``Record`` is one (image, expression) pair with its mask still encoded: 12,181 decoded masks of 800 x 800 would take
7.8 GB.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rrsis_zoo.data.cards import Split
from rrsis_zoo.data.masks import MaskSource
from rrsis_zoo.shown import short_repr


@dataclass(frozen=True, slots=True)
class Record:
    """One expression about one image, and its mask.

    Attributes:
        sample_id: name that is unique over all datasets and splits and stable across runs, such as
            ``rrsis-d/test/00413/0`` (dataset, split, reference, sentence).
        scene_id: shared by records with the same image.
        image_path: the image file.
        image_file: its name as written in the dataset.
        expression: the sentence, stripped at both ends, Unicode NFC, case kept.
        split: ``train``, ``val`` or ``test``.
        category: display name of the referent's class, None if unknown.
        category_source: ``label`` if the dataset gives the class, ``text`` if it was found in the expression.
        mask: the encoded mask.
        kind: kind of the expression (``category``, ``attribute``, ``position`` …), if the dataset gives it.
        reference: shared by the sentences about one annotated referent; None if the sample is the only one about its
            referent.
        present: every category that occurs in the scene, referred to or not, if the dataset knows all of them, with
            those easily taken for one of them; None if it does not.
        no_target: whether the dataset says that nothing in the image fits the expression; the mask is then empty by
            intention and not a defect.
        any_depth: whether the image may have more than 8 bits a channel, and is then read as `rrsis segment` reads it.
    """

    sample_id: str
    scene_id: str
    image_path: Path
    image_file: str
    expression: str
    split: Split
    category: str | None
    category_source: Literal["label", "text"] | None
    mask: MaskSource
    kind: str | None = None
    reference: str | None = None
    present: frozenset[str] | None = None
    no_target: bool = False
    any_depth: bool = False

    __repr__ = short_repr

    @property
    def height(self) -> int:
        """Native height of the annotation in pixels."""
        return self.mask.height

    @property
    def width(self) -> int:
        """Native width of the annotation in pixels."""
        return self.mask.width

    @property
    def is_empty(self) -> bool:
        """Whether the annotation has no foreground pixel."""
        return self.mask.is_empty

    @property
    def reference_id(self) -> str:
        """Name of the referent among all samples."""
        return self.reference or self.sample_id
