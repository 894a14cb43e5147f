"""The datasets by name. Adding one takes a reader function and a line here. No torch here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from rrsis_zoo.data import aeriald, earthreason, nwpurefer, own, rislad, risors, rrsishr
from rrsis_zoo.data.cards import REFSEGRS, RISBENCH, RRSIS_D, SPLITS, DatasetCard
from rrsis_zoo.data.categories import Categories
from rrsis_zoo.data.masks import LayerRule, MaskCleanup
from rrsis_zoo.data.records import Record, Split
from rrsis_zoo.data.refsegrs import CATEGORIES as REFSEGRS_CATEGORIES
from rrsis_zoo.data.refsegrs import find_refsegrs, read_refsegrs
from rrsis_zoo.data.risbench import CATEGORIES as RISBENCH_CATEGORIES
from rrsis_zoo.data.risbench import find_risbench, read_risbench
from rrsis_zoo.data.rrsisd import TextField, find_rrsisd, read_rrsisd
from rrsis_zoo.data.synthetic.read import find_synthetic, read_synthetic
from rrsis_zoo.errors import ConfigError, MissingDataError, unknown_name
from rrsis_zoo.files import expanded


@dataclass(frozen=True)
class ReadOptions:
    """Choices on which published programs differ; the defaults are those behind the published numbers.

    Attributes:
        layers: how several layers of an annotation combine into one mask (run lengths only).
        text: the field of a sentence that is the expression (RRSIS-D only).
        threshold: foreground is above this grey level (grey masks only); None for the dataset's own rule.
        mask_cleanup: filter of the masks.
        drop_empty: leave out samples without foreground, but not those without a target by the dataset's own word.
        drop_no_target: leave out expressions that by the dataset's own word have no target in their image.
        questions: the first one of each image or all of them (EarthReason only).
        expressions: kinds of expressions to read (Aerial-D only).
        language: of the expressions (NWPU-Refer only).
        merge: whether equal words about an image are one sample (NWPU-Refer only).
    """

    layers: LayerRule = "sum_eq_1"
    text: TextField = "raw"
    threshold: int | None = None
    mask_cleanup: MaskCleanup = "none"
    drop_empty: bool = False
    drop_no_target: bool = False
    questions: earthreason.Questions = "first"
    expressions: aeriald.Expressions = "all"
    language: nwpurefer.Language = "en"
    merge: bool = True


CHOICES: Mapping[str, tuple[str, ...]] = {
    name: ("false", "true") if kind is bool else get_args(kind)
    for name, kind in get_type_hints(ReadOptions).items()
    if name != "threshold"
}
"""What the options other than the threshold can be, as they are written in a command."""


@dataclass(frozen=True)
class DataSource:
    """How to find and read one dataset.

    Attributes:
        find: looks for the files without reading them; raises MissingDataError if a part is missing.
        reader: reads one split.
        options: fields of `ReadOptions` that the reader supports.
        default_root: its folder if no root is given.
        card: what is known about a published dataset.
        copies: whether a scene has one image file per expression.
        make: generates the dataset in a folder, if it is embedded in the package.
        categories: recognised in its sentences, if it has no labels.
        splits: those that it was published with.
        own: whether it is the user's own data, in a form that nobody published.
        found_splits: returns the splits of the data in a folder; None if they must have all of ``splits``.
        left_out: returns what its reader leaves out by rule, one text each; None if it leaves nothing out.
        per_image: returns the annotation files, if every image has one of its own; None if ``find`` names them all.
    """

    find: Callable[[Path], object]
    reader: Callable[..., list[Record]]
    options: frozenset[str]
    default_root: Path
    card: DatasetCard | None = None
    copies: bool = False
    make: Callable[[Path], object] | None = None
    categories: Categories | None = None
    splits: tuple[Split, ...] = SPLITS
    own: bool = False
    found_splits: Callable[[Path], tuple[Split, ...]] | None = None
    left_out: Callable[[Path], list[str]] | None = None
    per_image: Callable[[Path], list[Path]] | None = None

    def read(self, root: Path, split: Split, options: ReadOptions, absent: list[str] | None = None) -> list[Record]:
        """Read one split.

        Args:
            root: folder of the dataset.
            split: ``train``, ``val`` or ``test``.
            options: see `ReadOptions`.
            absent: receives the names of missing files, whose samples are then left out; None to raise an error.

        Raises:
            ConfigError: an option that does not apply to this dataset.
            MissingDataError, DataFormatError: as the reader.
        """
        self.check_options(options)
        supported = {name: getattr(options, name) for name in self.options}
        return self.reader(root, split, absent=absent, **supported)

    def splits_in(self, root: Path) -> tuple[Split, ...]:
        """Return the splits that data in a folder should have.

        Raises:
            MissingDataError, DataFormatError: as ``find``, where the data themselves say it.
        """
        return self.splits if self.found_splits is None else self.found_splits(root)

    def check_options(self, options: ReadOptions) -> None:
        """Refuse an option that would have no effect.

        Raises:
            ConfigError: such an option is not at its default, or a threshold is out of range.
        """
        if options.threshold is not None and not 0 <= options.threshold <= 254:
            raise ConfigError(f"threshold must be 0 to 254 grey levels, got {options.threshold}")
        for field in fields(options):
            value = getattr(options, field.name)
            if field.name not in self.options and value != field.default:
                raise ConfigError(
                    f"{field.name}={value!r} does not apply to this dataset: leave data.{field.name} at "
                    f"{field.default!r}"
                )


def _make_synthetic(root: Path) -> None:
    from rrsis_zoo.data.synthetic.write import make_synthetic

    print(f"generating the synthetic scenes in {root} (about half a minute, once)", flush=True)
    print(make_synthetic(root))


_ALL = frozenset(("mask_cleanup", "drop_empty"))

SOURCES: Mapping[str, DataSource] = {
    "refsegrs": DataSource(
        find_refsegrs,
        read_refsegrs,
        _ALL | {"threshold"},
        Path("datasets/refsegrs"),
        card=REFSEGRS,
        copies=True,
        categories=REFSEGRS_CATEGORIES,
    ),
    "rrsis-d": DataSource(find_rrsisd, read_rrsisd, _ALL | {"layers", "text"}, Path("datasets/rrsis-d"), card=RRSIS_D),
    "risbench": DataSource(
        find_risbench,
        read_risbench,
        _ALL | {"threshold"},
        Path("datasets/risbench"),
        card=RISBENCH,
        copies=True,
        categories=RISBENCH_CATEGORIES,
    ),
    "earthreason": DataSource(
        earthreason.find_earthreason,
        earthreason.read_earthreason,
        _ALL | {"threshold", "questions", "drop_no_target"},
        Path("datasets/earthreason"),
        card=earthreason.CARD,
        per_image=earthreason.question_files,
    ),
    "aerial-d": DataSource(
        aeriald.find_aeriald,
        aeriald.read_aeriald,
        _ALL | {"expressions"},
        Path("datasets/aerial-d"),
        card=aeriald.CARD,
        per_image=aeriald.annotation_files,
        splits=("train", "val"),
    ),
    "rrsis-hr": DataSource(
        rrsishr.find_rrsishr,
        rrsishr.read_rrsishr,
        _ALL | {"layers", "text"},
        Path("datasets/rrsis-hr"),
        card=rrsishr.CARD,
    ),
    "ris-lad": DataSource(
        rislad.find_rislad, rislad.read_rislad, _ALL | {"layers", "text"}, Path("datasets/ris-lad"), card=rislad.CARD
    ),
    "risors": DataSource(
        risors.find_risors,
        risors.read_risors,
        _ALL,
        Path("datasets/risors"),
        card=risors.CARD,
        left_out=risors.left_out,
        per_image=risors.annotation_files,
    ),
    "nwpu-refer": DataSource(
        nwpurefer.find_nwpurefer,
        nwpurefer.read_nwpurefer,
        _ALL | {"text", "language", "merge", "drop_no_target"},
        Path("datasets/nwpu-refer"),
        card=nwpurefer.CARD,
    ),
    own.NAME: DataSource(
        own.find_own,
        own.read_own,
        _ALL | {"threshold", "drop_no_target"},
        Path("datasets/folder"),
        own=True,
        found_splits=own.own_splits,
    ),
    "synthetic": DataSource(
        find_synthetic, read_synthetic, _ALL | {"layers"}, Path("datasets/synthetic"), make=_make_synthetic
    ),
}
"""Public name -> source."""


def source(name: str) -> DataSource:
    """Return a dataset's source.

    Raises:
        ConfigError: no dataset of that name.
    """
    if name not in SOURCES:
        raise unknown_name("dataset", name, SOURCES)
    return SOURCES[name]


def locate(name: str, root: str | Path | None) -> Path:
    """Return the root of a dataset: the argument with ``~`` and variables expanded, or the default.

    Raises:
        ConfigError: the argument has an unknown user or variable.
        MissingDataError: it is None and there is no folder at the default place.
    """
    known = source(name)
    if root is not None:
        return expanded(root)
    if not os.path.isdir(known.default_root) and known.make is None:
        if known.own:
            raise MissingDataError(
                f"data.dataset {name} needs the folder of your list, or the list itself: set data.root (--root for "
                "rrsis data)",
                mend="--data.root ROOT",
            )
        what: Any = known.card
        lack = f"{what.title}: no folder was given and there is none at {str(known.default_root)!r}"
        raise MissingDataError(
            f"{lack}: set data.root (--root for rrsis data); {what.how_to_get}",
            what=f"{lack}; {what.how_to_get}",
            mend="--data.root ROOT",
        )
    return known.default_root
