"""The synthetic dataset as the data module sees it: RRSIS-D's reader, and the kind of each expression."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from rrsis_zoo.data.masks import LayerRule, MaskCleanup
from rrsis_zoo.data.records import Record, Split
from rrsis_zoo.data.rrsisd import RRSISDFiles, find_rrsisd, read_rrsisd
from rrsis_zoo.data.synthetic.write import GENERATOR_VERSION, SIDECAR
from rrsis_zoo.errors import DataFormatError, MissingDataError


def find_synthetic(root: str | Path) -> RRSISDFiles:
    """Return where the files of a synthetic dataset are.

    Raises:
        MissingDataError: it has not been made there, or a part is gone.
        DataFormatError: another version of the generator made it.
    """
    root = Path(root)
    path = root / SIDECAR
    if not path.is_file():
        raise MissingDataError(
            f"no synthetic dataset in '{root}' (no {SIDECAR}): it is made there when training starts, or by: "
            f"rrsis data make --root {root}"
        )
    sidecar = _sidecar(path)
    version, layout = sidecar["version"], sidecar.get("layout", "rrsis-d")
    if version != GENERATOR_VERSION:
        raise DataFormatError(
            f"{root} was made by version {version} of the generator, this is version {GENERATOR_VERSION}: remove the "
            "folder to have it made again"
        )
    if layout != "rrsis-d":
        raise DataFormatError(f"{root} was made in the layout of {layout}: read it with data.dataset {layout}")
    return find_rrsisd(root)


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
    find_synthetic(root)
    records = read_rrsisd(
        root,
        split,
        layers=layers,
        mask_cleanup=mask_cleanup,
        drop_empty=drop_empty,
        absent=absent,
        dataset="synthetic",
    )
    said = {expression["ref_id"]: expression for expression in _sidecar(Path(root) / SIDECAR)["expressions"]}
    return [replace(record, kind=said[int(record.sample_id.split("/")[2])]["kind"]) for record in records]


def _sidecar(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataFormatError(f"{path} is damaged ({error}); remove its folder to have it made again") from error
