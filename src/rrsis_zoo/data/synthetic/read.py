"""The synthetic dataset as the data module sees it: RRSIS-D's reader, kinds of expressions, contents of scenes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from rrsis_zoo.data.masks import LayerRule, MaskCleanup
from rrsis_zoo.data.records import Record, Split
from rrsis_zoo.data.rrsisd import RRSISDFiles, find_rrsisd, read_rrsisd
from rrsis_zoo.data.sentences import characters
from rrsis_zoo.data.synthetic.language import CONFUSABLE_CATEGORIES
from rrsis_zoo.data.synthetic.sidecar import Contents, Made, Readings, part, read_sidecar
from rrsis_zoo.data.synthetic.write import GENERATOR_VERSION, SIDECAR
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import dangling, expanded


def find_synthetic(root: str | Path) -> RRSISDFiles:
    """Return where the files of a synthetic dataset are.

    Raises:
        MissingDataError: it has not been generated there, or a part is missing.
        DataFormatError: it is from another version of the generator.
    """
    return _find(expanded(root))[0]


def _find(root: Path) -> tuple[RRSISDFiles, Any]:
    """Return where the files are, and the sidecar's content."""
    path = root / SIDECAR
    if not os.path.lexists(path):
        raise MissingDataError(
            f"no synthetic dataset in '{root}'{dangling(root)} (no {SIDECAR}): it is generated when training "
            f"starts, or by: rrsis data make --root {root}"
        )
    content = read_sidecar(path)
    made = part(Made, content, path)
    if made.version != GENERATOR_VERSION:
        raise DataFormatError(
            f"{root} was made by version {made.version} of the generator, this is version {GENERATOR_VERSION}: remove "
            "the folder to generate it again"
        )
    if made.layout == "scene":
        raise DataFormatError(
            f"{root} holds georeferenced scenes to segment, not a dataset to train on: make one with rrsis data make "
            "--root FOLDER"
        )
    if made.layout != "rrsis-d":
        raise DataFormatError(
            f"{root} was made in the layout of {made.layout}: read it with data.dataset {made.layout}"
        )
    return find_rrsisd(root), content


def read_synthetic(
    root: str | Path,
    split: Split,
    *,
    layers: LayerRule = "sum_eq_1",
    mask_cleanup: MaskCleanup = "none",
    drop_empty: bool = False,
    absent: list[str] | None = None,
) -> list[Record]:
    """Read one split; errors as ``read_rrsisd`` and ``find_synthetic``."""
    root = expanded(root)
    _, content = _find(root)
    records = read_rrsisd(
        root,
        split,
        layers=layers,
        mask_cleanup=mask_cleanup,
        drop_empty=drop_empty,
        absent=absent,
        dataset="synthetic",
    )
    path = root / SIDECAR
    readings = part(Readings, content, path)
    kinds = {entry.ref_id: characters(entry.kind, str(path)) for entry in readings.expressions}
    present = {scene.file_name: _present(scene) for scene in readings.images}
    numbers = [int(record.sample_id.split("/")[2]) for record in records]
    if lost := set(numbers) - kinds.keys():
        raise DataFormatError(f"{path}: has no expression of ref {min(lost)}; remove its folder to generate it again")
    return [
        replace(record, kind=kinds[number], present=present.get(record.image_file))
        for record, number in zip(records, numbers, strict=True)
    ]


def _present(scene: Contents) -> frozenset[str]:
    """Return the categories of a scene's objects, and those that the generator finds too alike to tell apart."""
    there = {thing.category for thing in scene.objects}
    return frozenset(there.union(*(pair for pair in CONFUSABLE_CATEGORIES if pair & there)))
