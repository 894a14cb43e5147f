"""Whether a split is the published one, or someone's own data in its layout. No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rrsis_zoo.data.annotations import annotations_hash
from rrsis_zoo.data.cards import DatasetCard
from rrsis_zoo.data.records import Record, Split
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError

_SAME_SIZE = 0.99  # published copies have known exceptions: 14 of RRSIS-D's 17,402 masks


def is_published(card: DatasetCard | None, split: Split, records: Sequence[Record]) -> bool:
    """Whether a split is the published one.

    If the card has the hash of its annotations, that decides. No hash of an original copy is known yet; until then
    everything known about the original must match: the number of samples, the names of their images, the number of
    empty masks, and the size of at least 99 % of the masks. Own data do not match all of that by chance; a copy with
    edited sentences or masks would.

    Args:
        card: of the dataset whose layout it has; None for a layout without a published dataset.
        split: which one.
        records: all of its samples, read with the dataset's own options.
    """
    if card is None or len(records) != card.counts.get(split):
        return False
    if split in card.annotations_sha256:
        return annotations_hash(records) == card.annotations_sha256[split]
    if not all(re.fullmatch(card.image_names.get(split, ".*"), record.image_file) for record in records):
        return False
    try:
        fitting = sum(card.image_size in (None, (record.mask.height, record.mask.width)) for record in records)
        if fitting < _SAME_SIZE * len(records):
            return False
        return split not in card.empty_masks or sum(r.is_empty for r in records) == card.empty_masks[split]
    except (DataFormatError, MissingDataError):  # an unreadable mask; reported where it is needed
        return False


def data_name(layout: str, root: Path, name: str | None, published: bool, names: Iterable[str]) -> str:
    """Return the name under which results on some data are reported.

    Args:
        layout: name of the dataset whose layout they have.
        root: their folder.
        name: chosen by the user; None for the dataset's own if they are the published data, else the folder's.
        published: whether they are the published dataset.
        names: of all published datasets.

    Raises:
        ConfigError: the name is that of a published dataset, and the data are not.
    """
    taken = {_plain(other) for other in names}
    if name is not None:
        if _plain(name) in taken and not (published and _plain(name) == _plain(layout)):
            raise ConfigError(
                f"data.name {name!r} is the name of a published dataset, and {root} does not match it (the number of "
                "samples, their images' names, sizes or empty masks differ): give another name, or leave it out"
            )
        return name
    if published:
        return layout
    own = root.absolute().name.strip()
    return own if own and own.isprintable() and _plain(own) not in taken else f"own data ({layout} layout)"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
