"""From a list of your own images to a published layout, which any program for that dataset reads. No torch here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rrsis_zoo.data.imagery.picture import read_picture
from rrsis_zoo.data.layouts import LAYOUTS, RRSIS_D_CATEGORIES
from rrsis_zoo.data.masks import at_image_size
from rrsis_zoo.data.own import own_splits, read_own
from rrsis_zoo.data.records import Record
from rrsis_zoo.data.synthetic.write import drafted
from rrsis_zoo.data.writing import Referent, ReferredScene
from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.files import cannot_write, expanded

NO_CATEGORY = "object"
"""The class of rows without one, in layouts that need one."""


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        root: the new folder.
        layout: of its files.
        expressions: their number by split.
        scenes: images.
        unlabelled: expressions without a category.
    """

    root: Path
    layout: str
    expressions: Mapping[str, int]
    scenes: int
    unlabelled: int

    def __str__(self) -> str:
        counts = ", ".join(f"{number:,} {split}" for split, number in self.expressions.items())
        text = f"{self.root}: {self.scenes:,} images in the layout of {self.layout}; expressions: {counts}"
        if self.unlabelled:
            text += (
                f"\n{self.unlabelled:,} of them without a category are written as {NO_CATEGORY!r} where one is needed"
            )
        return text


def convert(listing: str | Path, layout: str, root: str | Path) -> Converted:
    """Write the rows of a list in a published layout.

    Images become 8-bit RGB, and JPEG files where the layout has these; a mask of another size than its image is
    resized to it.

    Args:
        listing: see `rrsis_zoo.data.own.find_own`.
        layout: one of `rrsis_zoo.data.layouts.LAYOUTS`.
        root: folder to create.

    Raises:
        ConfigError: an unknown layout, one that has no place for a row, or a folder with other content.
        MissingDataError, DataFormatError: as `rrsis_zoo.data.own.read_own`.
        OutputError: it cannot be written; what was there is unchanged.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    root = expanded(root)
    with cannot_write(root):
        place = Path(os.path.realpath(root))
        if os.path.exists(place) and (not os.path.isdir(place) or any(place.iterdir())):
            raise ConfigError(f"{root} is there already: give --root the name of a new folder")
    records = [record for split in own_splits(listing) for record in read_own(listing, split)]
    scenes: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        scenes.setdefault((record.split, record.scene_id), []).append(record)
    with drafted(root, place) as draft:
        writer = LAYOUTS[layout](draft, categories=_categories(records))
        for some in scenes.values():
            try:
                writer.add(_scene(some))
            except ConfigError as error:
                rows = ", ".join(sorted({record.sample_id.split("/")[2].lstrip("0") for record in some}, key=int)[:5])
                raise ConfigError(f"{listing}, row {rows}: {str(error).partition(': ')[2] or error}") from error
        writer.close()
    return Converted(
        root,
        layout,
        Counter(record.split for record in records),
        len(scenes),
        sum(record.category is None for record in records),
    )


def _categories(records: Iterable[Record]) -> dict[str, tuple[int, str]]:
    """Return RRSIS-D's classes with their ids, and others numbered behind them."""
    categories = dict(RRSIS_D_CATEGORIES)
    for name in sorted({record.category or NO_CATEGORY for record in records} - categories.keys()):
        categories[name] = (len(categories), name)
    return categories


def _scene(records: list[Record]) -> ReferredScene:
    pixels = read_picture(records[0].image_path).pixels
    referents: dict[str, list[Record]] = {}
    for record in records:
        referents.setdefault(record.reference_id, []).append(record)
    return ReferredScene(
        pixels,
        [
            Referent(
                at_image_size(some[0].mask.decode(), (pixels.shape[0], pixels.shape[1])),
                [record.expression for record in some],
                some[0].category or NO_CATEGORY,
                some[0].no_target,
            )
            for some in referents.values()
        ],
        records[0].split,
    )
