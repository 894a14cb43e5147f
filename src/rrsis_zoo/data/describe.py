"""Masks described by numbers, so that two programs can compare them without exchanging them. No torch here."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.data.records import Record


def describe_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return size, foreground count, box and digest of a bool (H, W) mask.

    Returns:
        ``height``, ``width``, ``pixel_count``; ``bbox_xyxy_inclusive``, the first and last column and row with
        foreground as [xmin, ymin, xmax, ymax], None for an empty mask; ``sha256_packed_bool``, the SHA-256 of
        ``numpy.packbits(mask.ravel("C"))``.
    """
    return {
        "height": mask.shape[0],
        "width": mask.shape[1],
        "pixel_count": int(mask.sum()),
        "bbox_xyxy_inclusive": bounding_box(mask),
        "sha256_packed_bool": hashlib.sha256(np.packbits(mask.ravel("C")).tobytes()).hexdigest(),
    }


def bounding_box(mask: NDArray[np.bool_]) -> list[int] | None:
    """Return [xmin, ymin, xmax, ymax] of the foreground, last row and column included; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])]


def describe_record(record: Record) -> dict[str, Any]:
    """Return a sample as plain values, its mask at native size by the reader's rules."""
    return {
        "sample_id": record.sample_id,
        "image_file": record.image_file,
        "expression": record.expression,
        "category": record.category,
        "category_source": record.category_source,
        "kind": record.kind,
        "is_empty": record.is_empty,
        "no_target": record.no_target,
        "mask": describe_mask(record.mask.decode()),
    }
