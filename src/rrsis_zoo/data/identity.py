"""Which data a split really is: the published one, or somebody's own in its layout. No torch here."""

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

    The hash of its annotations decides where the card has it. Nobody with an original copy has told us one yet; until
    then all must fit that is known of the original: the number of samples, their images' names, how many of the masks
    are empty, and the size of all but a hundredth of them. Own data do not fit all of that by chance; a copy whose
    sentences or masks were edited would.

    Args:
        card: of the dataset in whose layout it is; None for a layout that nobody published.
        split: which one.
        records: all of its samples, read with the dataset's own options.
    """
    if card is None or len(records) != card.counts[split]:
        return False
    if split in card.annotations_sha256:
        return annotations_hash(records) == card.annotations_sha256[split]
    if not all(re.fullmatch(card.image_names[split], record.image_file) for record in records):
        return False
    try:
        fitting = sum((record.mask.height, record.mask.width) == card.image_size for record in records)
        if fitting < _SAME_SIZE * len(records):
            return False
        return split not in card.empty_masks or sum(r.is_empty for r in records) == card.empty_masks[split]
    except (DataFormatError, MissingDataError):  # a mask that cannot be read; whoever needs it says so
        return False


def data_name(layout: str, root: Path, given: str | None, published: bool, names: Iterable[str]) -> str:
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
    taken = {_plain(name) for name in names}
    if given is not None:
        if _plain(given) in taken and not (published and _plain(given) == _plain(layout)):
            raise ConfigError(
                f"data.name {given!r} is a published dataset's, and {root} does not match it (the number of samples, "
                "their images' names, sizes or empty masks differ): give another name, or leave it out"
            )
        return given
    if published:
        return layout
    own = root.absolute().name.strip()
    return own if own and own.isprintable() and _plain(own) not in taken else f"own data ({layout} layout)"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
