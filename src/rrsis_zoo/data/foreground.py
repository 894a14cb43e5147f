"""Why masks are empty: what their files contain instead of foreground, and which setting fixes it. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rrsis_zoo.data.masks import GreyFile, MaskSource, Median3, RunLengths
from rrsis_zoo.data.pixels import open_image, to_array
from rrsis_zoo.data.records import Record
from rrsis_zoo.errors import DataFormatError

_EXAMINED = 25  # masks of a split that are examined to explain why all are empty
_SHOWN = 6


def check_foreground(records: Sequence[Record], split: str) -> None:
    """Refuse a split in which no mask has a pixel of foreground: nothing can be learned from it, and every score is 0.

    Stops at the first mask with foreground.

    Args:
        records: of the split, at least one.
        split: its name.

    Raises:
        DataFormatError: all masks are empty; the message says what they contain and which setting reads it.
        MissingDataError: a mask file has disappeared.
    """
    if any(not record.is_empty for record in records):
        return
    if records and all(record.no_target for record in records):
        raise DataFormatError(
            f"all {len(records):,} expressions of split {split!r} have no target by the data set's own word, so there "
            "is nothing to learn or score: add expressions that have one"
        )
    if not records:
        raise DataFormatError(
            f"no sample of split {split!r} is left: data.drop_empty leaves out empty masks, and all are empty"
        )
    reasons = Counter(explain(record.mask) for record in records[:_EXAMINED])
    why = "; ".join(text for text, _ in reasons.most_common(3) if text) or "they are blank"
    raise DataFormatError(
        f"all {len(records):,} masks of split {split!r} are empty, so there is nothing to learn or score: {why}"
    )


def explain(mask: MaskSource) -> str:
    """Return what an empty mask's file contains instead of foreground; an empty text if it is simply blank.

    Raises:
        DataFormatError: the file cannot be read.
    """
    while isinstance(mask, Median3):
        mask = mask.source
        if not mask.is_empty:
            return "the filter removes all of their foreground: leave data.mask_cleanup at none"
    if isinstance(mask, GreyFile):
        return _explain_file(mask)
    if isinstance(mask, RunLengths) and not replace(mask, rule="any").is_empty:
        return (
            "their layers overlap wherever there is foreground, which sum_eq_1 treats as background: set data.layers "
            "to any"
        )
    return ""


@dataclass(frozen=True)
class _File:
    grey: tuple[int, ...]
    palette: tuple[int, ...]
    alpha: tuple[int, ...]


def _explain_file(mask: GreyFile) -> str:
    file = _look(mask)
    low, high = file.grey[0], file.grey[-1]
    rule = f"foreground is above {mask.threshold}"
    if high > low:
        whose = "palette colours are as bright as grey levels" if file.palette else "grey levels are"
        return f"their {whose} {_listed(file.grey)}, and {rule}: set data.threshold to {low}"
    if len(file.alpha) > 1:
        return (
            f"the mask is in their alpha channel (values {_listed(file.alpha)}), which is not read, and their grey "
            f"level is {low} throughout: save the alpha channel as grey files"
        )
    if len(file.palette) > 1:
        return (
            f"their palette gives the indices {_listed(file.palette)} the same brightness {low}: save them as grey "
            "files of 0 and 255"
        )
    return (
        f"their grey level is {low} throughout, and {rule}: set data.threshold to 0 if all is foreground" if low else ""
    )


def _look(mask: GreyFile) -> _File:
    image = open_image(mask.path)
    grey = _levels(to_array(image, "L", str(mask.path)))
    palette = _levels(np.asarray(image)) if image.mode == "P" else ()
    alpha = _levels(np.asarray(image.convert("RGBA"))[..., 3]) if image.has_transparency_data else ()
    return _File(grey, palette, alpha)


def _levels(values: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist())


def _listed(levels: Iterable[int]) -> str:
    names = [str(level) for level in levels]
    if len(names) > _SHOWN:
        return f"{', '.join(names[:_SHOWN])} … {names[-1]}"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
