"""Finds samples of the same scene where a dataset stores a copy of the image per expression. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rrsis_zoo.data.hashes import file_hashes
from rrsis_zoo.data.records import Record


def share_scenes(root: Path, records: Sequence[Record]) -> list[Record]:
    """Give records with byte-identical image files the same scene id, across all splits.

    Args:
        root: folder of the dataset.
        records: of one dataset.

    Returns:
        The records with scene ids ``<dataset>/<first digits of the file's SHA-256>``.
    """
    hashes = file_hashes(root, [record.image_path for record in records])
    return [
        replace(record, scene_id=f"{record.sample_id.partition('/')[0]}/{hashes[record.image_path][:16]}")
        for record in records
    ]
