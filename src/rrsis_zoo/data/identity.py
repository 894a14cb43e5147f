"""Which data a split really is: the published one, or somebody's own in its layout. No torch here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rrsis_zoo.data.cards import DatasetCard
from rrsis_zoo.data.records import Record, Split
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.provenance import annotations_hash

_SAME_SIZE = 0.99  # published copies have known exceptions: 14 of RRSIS-D's 17,402 masks


def is_published(card: DatasetCard | None, split: Split, records: Sequence[Record]) -> bool:
    """Whether a split is the published one, as far as it can be told without the original beside it.

    The number of its samples must be the published one, all but a hundredth of its masks must have the published
    images' size, and the hash of its annotations the known one where the card has one.

    Args:
        card: of the dataset whose layout it has; None for a layout that nobody published.
        split: which one.
        records: all of its samples, none left out.
    """
    if card is None or len(records) != card.counts[split]:
        return False
    known = card.annotations_sha256.get(split)
    if known is not None and annotations_hash(records) != known:
        return False
    try:
        fitting = sum((record.mask.height, record.mask.width) == card.image_size for record in records)
    except (DataFormatError, MissingDataError):
        return False
    return fitting >= _SAME_SIZE * len(records)


def data_name(layout: str, root: Path, given: str | None, published: bool, names: Sequence[str]) -> str:
    """Return the name under which results of some data stand.

    Args:
        layout: name of the dataset in whose layout they are.
        root: their folder.
        given: the name that their owner gave them; None for the dataset's own where they are it, else the folder's.
        published: whether they are the published dataset.
        names: of all published datasets.

    Raises:
        ConfigError: the given name is a published dataset's, and they are not it.
    """
    if given is not None:
        if _plain(given) in map(_plain, names) and not (published and given == layout):
            raise ConfigError(
                f"data.name {given!r} is a published dataset's, and {root} does not match it (number of samples, sizes "
                "or annotations of the split differ): give another name, or leave it out"
            )
        return given
    if published:
        return layout
    own = root.absolute().name
    return own if own and _plain(own) not in map(_plain, names) else f"own data ({layout} layout)"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
