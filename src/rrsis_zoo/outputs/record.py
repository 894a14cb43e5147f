"""The record of a picture's answers as plain values: COCO run lengths, scores, and where they are from. No torch."""

from __future__ import annotations

from typing import Any

from rrsis_zoo.outputs.found import Findings, Found
from rrsis_zoo.version import __version__

FORMAT = 1
"""Version of the record's fields."""


def record(findings: Findings) -> dict[str, Any]:
    """Return the record; ``answers`` has an entry for each sentence, in the order of the sentences.

    ``segmentation`` is COCO's compressed run lengths: ``pycocotools.mask.decode`` reads it. ``prompts`` is there only
    if boxes and points of the localiser were asked for.
    """
    return {
        "format": FORMAT,
        "version": __version__,
        "input": str(findings.path),
        "height": findings.height,
        "width": findings.width,
        "model": findings.model.method,
        "source": findings.model.given,
        "weights_sha256": findings.model.weights_sha256,
        "threshold": findings.threshold,
        "stretch": None if findings.limits is None else [list(pair) for pair in findings.limits],
        "answers": [_answer(one) for one in findings.found],
    }


def _answer(one: Found) -> dict[str, Any]:
    return {
        "text": one.text,
        "score": one.score,
        "presence": one.presence,
        "presence_needed": one.needed,
        "absent": one.absent,
        "area_px": one.area,
        "share": one.share,
        "bbox": None if one.box is None else list(one.box),
        "segmentation": {"size": [one.mask.height, one.mask.width], "counts": one.mask.layers[0].decode("ascii")},
        **({} if one.marks is None else {"prompts": one.marks.plain()}),
    }
