"""The kinds of file that a picture's answers become, each with its ending; a new kind is a new entry here. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.files import write_json, writing
from rrsis_zoo.outputs.drawing import Drawn, drawing, drawing_size
from rrsis_zoo.outputs.found import Findings
from rrsis_zoo.outputs.record import record
from rrsis_zoo.outputs.shapes import resized_mask
from rrsis_zoo.version import __version__

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Kind:
    """A kind of output.

    Attributes:
        name: as in ``--kind``.
        what: it is, for the help.
        suffix: of a file that the user names.
        ending: what follows an input's name in a folder.
        each: whether every sentence has a file of its own.
        write: writes the files of one picture: what was found, the picture's pixels, and a path, or one per sentence.
    """

    name: str
    what: str
    suffix: str
    ending: str
    each: bool
    write: Callable[[Findings, Pixels, Sequence[Path]], None]

    def numbered(self, path: Path, sentences: int) -> tuple[Path, ...]:
        """Return the files for a path: itself, or with several sentences ``NAME-1.png``, ``NAME-2.png`` …"""
        if not self.each or sentences == 1:
            return (path,)
        return tuple(path.with_name(f"{path.stem}-{n + 1}{path.suffix}") for n in range(sentences))


def _write_drawing(findings: Findings, pixels: Pixels, paths: Sequence[Path]) -> None:
    """Write the picture with masks, sentences and scores."""
    size = drawing_size(*pixels.shape[:2])
    drawn = [
        Drawn(
            one.text, resized_mask(one.mask.decode(), size), one.score, one.share, one.presence, one.needed, one.marks
        )
        for one in findings.found
    ]
    _save(
        drawing(pixels, drawn, f"{findings.model.method} ({findings.model.given}), rrsis-zoo {__version__}"), paths[0]
    )


def _write_masks(findings: Findings, pixels: Pixels, paths: Sequence[Path]) -> None:
    """Write grey files of the picture's size, 0 and 255."""
    for one, path in zip(findings.found, paths, strict=True):
        _save(Image.fromarray(one.mask.decode()), path)


def _write_record(findings: Findings, pixels: Pixels, paths: Sequence[Path]) -> None:
    write_json(paths[0], record(findings))


def _save(image: Image.Image, path: Path) -> None:
    with writing(path) as temporary:
        image.save(temporary, "PNG")


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("png", "the picture with masks, sentences and scores", ".png", ".png", False, _write_drawing),
        Kind("json", "COCO run lengths with sentences and scores", ".json", ".json", False, _write_record),
        Kind("mask", "a mask, black and white, for each sentence", ".png", ".mask.png", True, _write_masks),
    )
}
"""By name; the first with a suffix is what ``--out FILE`` means by it."""
