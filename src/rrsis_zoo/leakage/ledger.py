"""The ledger: its schema, and the shipped one, ``ledger.toml``. No torch.

It is TOML because the standard library reads it: ``rrsis models`` prints it and imports next to nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, model_validator

from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.files import read_text
from rrsis_zoo.leakage.levels import Certainty, Level
from rrsis_zoo.schema import Strict, checked

FORMAT = 1
PATH = Path(__file__).with_name("ledger.toml")
LIMIT = 2**20
"""Largest ledger in bytes; the shipped one has 30 kB."""

_EACH = "each"
"""In place of a data set: that of the entry, see `_Weights.each`."""

_SPLITS: dict[str, frozenset[str]] = {
    "train": frozenset(("train",)),
    "val": frozenset(("val",)),
    "test": frozenset(("test",)),
    "trainval": frozenset(("train", "val")),
    "all": frozenset(("train", "val", "test")),
}

_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]*$", max_length=100)]
_Split = Literal["train", "val", "test", "trainval", "all"]


# -- what the file holds -----------------------------------------------------------------------------------------------


class Strictest(Strict):
    """Also refuses fields that it does not know: a misspelt one would be a line without effect."""

    model_config = ConfigDict(extra="forbid")


class Evidence(Strictest):
    """A paragraph that lines refer to.

    Attributes:
        text: one or more sentences, readable by themselves.
        see: addresses of what was read, or files of this repository.
    """

    text: Annotated[str, Field(min_length=10)]
    see: list[_Name] = Field(default_factory=list)


class _Source(Strictest):
    origin: _Name = Field(alias="from")
    via: str = ""
    certainty: Certainty
    evidence: _Id


class _Generated(Strictest):
    dataset: _Id
    evidence: _Id


class _Within(Strictest):
    dataset: _Id
    disjoint: list[Annotated[list[_Split], Field(min_length=2, max_length=2)]]
    certainty: Certainty
    evidence: _Id


class _Overlap(Strictest):
    on: Annotated[list[str], Field(min_length=2, max_length=2)]
    touches: Annotated[list[str], Field(min_length=2, max_length=2)]
    level: Level
    certainty: Certainty
    evidence: _Id


class _Overlaps(Strictest):
    lines: list[_Overlap]


class _Base(Strictest):
    id: _Id
    title: _Name
    data: _Name
    aerial: Literal["none", "unknown", "generated"]
    certainty: Certainty
    evidence: _Id
    sources: list[_Name] = Field(default_factory=list)


class _Weights(Strictest):
    """``each``: one entry for each of these data sets, under ``id/DATASET``; its lines say ``each`` for it."""

    id: _Id
    title: _Name
    where: _Name
    bases: list[_Id]
    each: list[_Id] = Field(default_factory=list)
    sources: list[_Name] = Field(default_factory=list)
    trained_on: list[Annotated[list[str], Field(min_length=4, max_length=4)]]
    marks: list[Annotated[list[str], Field(min_length=5, max_length=5)]] = Field(default_factory=list)


class _Published(Strictest):
    lines: list[Annotated[list[str], Field(min_length=3, max_length=3)]]


class _File(Strictest):
    format: Literal[1]
    sources: dict[_Id, list[_Source]]
    generated: list[_Generated]
    within: list[_Within]
    overlaps: _Overlaps
    bases: list[_Base]
    weights: list[_Weights]
    published: _Published
    evidence: dict[_Id, Evidence]

    @model_validator(mode="after")
    def _refers_to_itself(self) -> Self:
        for kind, ids in (
            ("bases", [base.id for base in self.bases]),
            ("weights", [weights.id for weights in self.weights]),
            ("within", [entry.dataset for entry in self.within]),
        ):
            if twice := [name for name in ids if ids.count(name) > 1]:
                raise ValueError(f"{kind} has {twice[0]!r} twice")
        known = {base.id for base in self.bases}
        for weights in self.weights:
            for base in weights.bases:
                if base not in known:
                    raise ValueError(f"the weights {weights.id!r} start from {base!r}, which is not in bases")
        return self


# -- the ledger --------------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A split of a data set; ``trainval`` and ``all`` are several."""

    dataset: str
    split: str

    def __str__(self) -> str:
        return f"{self.dataset} {self.split}"

    def meets(self, other: Part) -> bool:
        """Return whether two parts have a split of the same data set in common."""
        return self.dataset == other.dataset and bool(_splits(self.split) & _splits(other.split))


def _splits(split: str) -> frozenset[str]:
    return _SPLITS.get(split, frozenset((split,)))


@dataclass(frozen=True)
class Line:
    """Something that the ledger says about a part of a data set.

    Attributes:
        part: of a data set.
        level: at which it was seen.
        certainty: of this line.
        evidence: its name in `Ledger.evidence`.
    """

    part: Part
    level: Level
    certainty: Certainty
    evidence: str


@dataclass(frozen=True)
class Origin:
    """Where pixels of a data set come from.

    Attributes:
        name: of the collection.
        via: the data set in between; empty if there is none.
        certainty, evidence: as of a `Line`.
    """

    name: str
    via: str
    certainty: Certainty
    evidence: str


@dataclass(frozen=True)
class Base:
    """Public weights that a training starts from.

    Attributes:
        id, title: names.
        data: that it was trained on.
        aerial: whether aerial images of public data sets are among them; ``generated``: only scenes drawn here are.
        certainty, evidence: as of a `Line`.
        sources: ``fnmatch`` patterns of sources of weights.
    """

    id: str
    title: str
    data: str
    aerial: Literal["none", "unknown", "generated"]
    certainty: Certainty
    evidence: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Released:
    """Trained weights that others released.

    Attributes:
        id, title, where: names, and where they are.
        bases: ids of what they started from.
        sources: ``fnmatch`` patterns of sources of weights.
        trained_on: parts of data sets; the level of these lines is ``targets``.
        marks: what they have seen of other parts, as far as the ledger says.
    """

    id: str
    title: str
    where: str
    bases: tuple[str, ...]
    sources: tuple[str, ...]
    trained_on: tuple[Line, ...]
    marks: tuple[Line, ...]


@dataclass(frozen=True)
class Within:
    """What is known about the splits of one data set.

    Attributes:
        disjoint: pairs of splits that share no image.
        certainty, evidence: as of a `Line`.
    """

    disjoint: tuple[frozenset[str], ...]
    certainty: Certainty
    evidence: str


@dataclass(frozen=True)
class Ledger:
    """Everything that is known.

    Attributes:
        evidence: name -> paragraph.
        origins: data set -> where its pixels come from.
        generated: data sets that a program of this package draws -> evidence.
        within: data set -> what is known about its splits.
        overlaps: pairs of a part that may be trained on and what that touches.
        bases, released: by id.
        published: (method, data set), in lower case -> id of the released weights behind the printed result.
    """

    evidence: dict[str, Evidence]
    origins: dict[str, tuple[Origin, ...]]
    generated: dict[str, str]
    within: dict[str, Within]
    overlaps: tuple[tuple[Part, Line], ...]
    bases: dict[str, Base]
    released: dict[str, Released]
    published: dict[tuple[str, str], str]

    def __repr__(self) -> str:
        return f"Ledger({len(self.overlaps)} overlaps, {len(self.bases)} bases, {len(self.released)} released weights)"

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """All data sets that occur in it."""
        parts = [line.part for entry in self.released.values() for line in (*entry.trained_on, *entry.marks)]
        parts += [part for on, line in self.overlaps for part in (on, line.part)]
        return tuple(dict.fromkeys([*self.origins, *self.within, *self.generated, *(part.dataset for part in parts)]))

    def named(self, weights: str) -> str | None:
        """Return the id of a base or of released weights; None if there is no entry.

        Args:
            weights: an id, or a source of weights such as ``hub:ORG/REPO:FILE``; its revision does not matter.
        """
        if weights in self.released or weights in self.bases:
            return weights
        plain = without_revision(weights)
        for entry in (*self.released.values(), *self.bases.values()):
            if any(fnmatchcase(plain, pattern) for pattern in entry.sources):
                return entry.id
        return None

    def title(self, weights: str) -> str:
        """Return what to call weights in a sentence; an unknown id is returned."""
        entry = self.released.get(weights) or self.bases.get(weights)
        return weights if entry is None else entry.title


def without_revision(source: str) -> str:
    """Return a source of weights without its revision.

    Example:
        >>> without_revision("hub:ORG/REPO@main:FILE")
        'hub:ORG/REPO:FILE'
    """
    head, at, tail = source.partition("@")
    if not at or not source.startswith("hub:"):
        return source
    _, colon, file = tail.partition(":")
    return head + colon + file


@cache
def shipped() -> Ledger:
    """Return the ledger of this package, read once."""
    return read_ledger(PATH)


def read_ledger(path: str | Path) -> Ledger:
    """Read a ledger.

    Raises:
        MissingDataError: there is no such file.
        DataFormatError: it is not TOML, has an unknown or missing field, or a line refers to something that is not in
            it; the message names the place.
    """
    try:
        content = tomllib.loads(read_text(path, LIMIT))
    except tomllib.TOMLDecodeError as cause:
        raise DataFormatError(f"{path} is not TOML ({cause})") from cause
    file = checked(_File, content, str(path))
    return _Builder(str(path), file).ledger()


class _Builder:
    """Makes a ledger from the content of a file, and checks what its lines refer to."""

    def __init__(self, where: str, file: _File) -> None:
        self._where, self._file = where, file
        self._used: set[str] = set()

    def ledger(self) -> Ledger:
        file = self._file
        origins = {
            name: tuple(
                Origin(o.origin, o.via, o.certainty, self._evidence(o.evidence, f"sources.{name}")) for o in some
            )
            for name, some in file.sources.items()
        }
        generated = {g.dataset: self._evidence(g.evidence, f"generated {g.dataset}") for g in file.generated}
        within = {
            w.dataset: Within(
                tuple(frozenset(pair) for pair in w.disjoint),
                w.certainty,
                self._evidence(w.evidence, f"within {w.dataset}"),
            )
            for w in file.within
        }
        overlaps = tuple(self._overlap(f"overlaps.lines.{i}", line) for i, line in enumerate(file.overlaps.lines))
        bases = {
            b.id: Base(
                b.id,
                b.title,
                b.data,
                b.aerial,
                b.certainty,
                self._evidence(b.evidence, f"bases {b.id}"),
                tuple(b.sources),
            )
            for b in file.bases
        }
        released = {r.id: r for weights in file.weights for r in self._released(weights)}
        published = {}
        for i, (method, dataset, weights) in enumerate(file.published.lines):
            if weights not in released:
                raise self._fault(f"published.lines.{i}", f"there are no weights {weights!r}")
            published[method.casefold(), dataset] = weights
        if unused := sorted(set(file.evidence) - self._used):
            raise self._fault("evidence", f"no line refers to {', '.join(unused)}")
        return Ledger(dict(file.evidence), origins, generated, within, overlaps, bases, released, published)

    def _overlap(self, where: str, overlap: _Overlap) -> tuple[Part, Line]:
        (dataset, split), (other, other_split) = overlap.on, overlap.touches
        line = self._line(other, other_split, overlap.level, overlap.certainty, overlap.evidence, where)
        return self._part(dataset, split, where), line

    def _released(self, weights: _Weights) -> Iterator[Released]:
        for dataset in weights.each or [""]:
            name = f"{weights.id}/{dataset}" if dataset else weights.id
            where = f"weights {name}"
            trained = [
                self._line(own(seen, dataset), split, "targets", certainty, evidence, where)
                for seen, split, certainty, evidence in weights.trained_on
            ]
            marks = [
                self._line(own(seen, dataset), split, level, certainty, evidence, where)
                for seen, split, level, certainty, evidence in weights.marks
            ]
            yield Released(
                name,
                f"{weights.title}, {dataset}" if dataset else weights.title,
                weights.where,
                tuple(weights.bases),
                tuple(weights.sources),
                tuple(trained),
                tuple(marks),
            )

    def _part(self, dataset: str, split: str, where: str) -> Part:
        if split not in _SPLITS:
            raise self._fault(where, f"split {split!r} is none of {', '.join(_SPLITS)}")
        if dataset == _EACH:
            raise self._fault(where, f"{_EACH!r} needs a list of data sets, `each`")
        return Part(dataset, split)

    def _line(self, dataset: str, split: str, level: Any, certainty: Any, evidence: str, where: str) -> Line:
        checked(_Mark, {"level": level, "certainty": certainty}, f"{self._where}, {where}")
        return Line(self._part(dataset, split, where), level, certainty, self._evidence(evidence, where))

    def _evidence(self, name: str, where: str) -> str:
        if name not in self._file.evidence:
            raise self._fault(where, f"there is no evidence {name!r}")
        self._used.add(name)
        return name

    def _fault(self, where: str, what: str) -> DataFormatError:
        return DataFormatError(f"{self._where}, {where}: {what}")


class _Mark(Strictest):
    level: Level
    certainty: Certainty


def own(dataset: str, each: str) -> str:
    """Return a data set of an entry's line: the entry's own if the line says ``each``."""
    return each if dataset == _EACH and each else dataset
