"""Which annotations a number was made with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from rrsis_zoo.data.records import Record


def annotations_hash(records: Iterable[Record]) -> str:
    """Return the SHA-256 of a split's samples: ids, expressions, image names and encoded masks, in order."""
    digest = hashlib.sha256()
    for record in records:
        described = (record.sample_id, record.split, record.image_file, record.expression)
        digest.update(f"({', '.join(map(repr, described))}, {record.mask.identity})".encode())
    return digest.hexdigest()
