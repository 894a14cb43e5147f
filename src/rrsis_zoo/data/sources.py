"""The datasets by name. A further one is a reader function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rrsis_zoo.data.masks import LayerRule
from rrsis_zoo.data.records import Record, Split
from rrsis_zoo.data.rrsisd import find_rrsisd, read_rrsisd
from rrsis_zoo.data.synthetic.read import find_synthetic, read_synthetic


class Reader(Protocol):
    """A function that reads one split of a dataset."""

    def __call__(self, root: Path, split: Split, *, layers: LayerRule, drop_empty: bool) -> list[Record]:
        """Return the records of the split; errors as in ``read_rrsisd``."""
        ...


@dataclass(frozen=True)
class Source:
    """How one dataset is found and read.

    Attributes:
        find: looks for the files without reading them; raises MissingDataError where a part is not there.
        read: reads one split.
        make: makes the dataset in a folder, for one that is embedded in the package.
        default_root: where it goes if no root is given.
    """

    find: Callable[[Path], object]
    read: Reader
    make: Callable[[Path], object] | None = None
    default_root: Path | None = None


def _make_synthetic(root: Path) -> None:
    from rrsis_zoo.data.synthetic.write import make_synthetic

    print(f"making the synthetic scenes in {root} (about half a minute, once)", flush=True)
    print(make_synthetic(root))


SOURCES: Mapping[str, Source] = {
    "rrsis-d": Source(find_rrsisd, read_rrsisd),
    "synthetic": Source(find_synthetic, read_synthetic, _make_synthetic, Path("datasets/synthetic")),
}
"""Public name -> source."""
