"""What a user, a converter and a downloader must know of a method, as plain data. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rrsis_zoo.errors import unknown_name

PresetKind = Literal["published", "lighter", "miniature", "tiny"]
"""``published``: the full size, which published scores are of. ``lighter``: on smaller foundation models of the same
family. ``miniature``: on very small ones that this project has pretrained. ``tiny``: very small, from random weights.
"""


@dataclass(frozen=True)
class Preset:
    """A named size of a method.

    Attributes:
        parameters: scalars of the whole model.
        trained: scalars that training changes.
        weights: role -> source that the published recipe starts from; empty where it starts from random weights.
        kind: see `PresetKind`; only the scores of a published one may stand beside a paper's.
    """

    parameters: int
    trained: int
    weights: Mapping[str, str] = field(default_factory=dict)
    kind: PresetKind = field(kw_only=True)

    @property
    def small(self) -> bool:
        """Whether it is there to learn in minutes, and its scores say nothing about the method's."""
        return self.kind in ("miniature", "tiny")


@dataclass(frozen=True)
class FoundationModel:
    """A foundation model that a method is built on. Its key in `MethodCard.foundations` is its *role*: ``sam``, …

    Attributes:
        title: its name, as an error says it.
        weights: names that its weight file may have, the preferred one first.
        tokenizer: names that its tokenizer's file may have; empty where it brings none.
    """

    title: str
    weights: tuple[str, ...]
    tokenizer: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[tuple[str, ...], ...]:
        """For each file that is needed, the names it may have."""
        return (self.weights, self.tokenizer) if self.tokenizer else (self.weights,)


@dataclass(frozen=True)
class Official:
    """How the authors' program writes its checkpoints.

    Attributes:
        files: names that such a file has in a folder, the preferred one first.
        prefixes: what wrapping programs put in front of every name; stripped in this order where all names have it.
        wrapper: key under which a torch file holds the state dict; None for a bare one.
        skipped: ``fnmatch`` pattern of their names -> why we have no place for it.
        tokenizer: the role whose tokenizer the method reads with.
        settings: configuration that the published numbers were made with, where a preset has it otherwise.
    """

    files: tuple[str, ...]
    tokenizer: str
    prefixes: tuple[str, ...] = ("module.",)
    wrapper: str | None = "state_dict"
    skipped: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """Trained weights that the authors published.

    Attributes:
        name: short name.
        source: the repository that they are in.
        files: names that their file may have there, the likeliest first.
        preset: the sizes that they fit.
        dataset: what they were trained on.
        licence: what the place where they lie says.
    """

    name: str
    source: str
    files: tuple[str, ...]
    preset: str
    dataset: str
    licence: str


@dataclass(frozen=True)
class Score:
    """A published result, in percent.

    Attributes:
        dataset, split: what was scored.
        values: metric -> value under our names (``oiou``, ``miou``, ``pr@0.5`` …).
        protocol: how it was computed, as far as it is known.
        source: where it is printed.
        program: the protocol (`rrsis_zoo.metrics.protocols`) of the authors' public program; empty where none is known.
    """

    dataset: str
    split: str
    values: Mapping[str, float]
    protocol: str
    source: str
    program: str = ""


@dataclass(frozen=True)
class TextLimit:
    """How much of a sentence a method reads.

    Attributes:
        tokens: read at most, start and end marks included.
        marks: how many of them are start and end marks.
        source: where this is known from.
    """

    tokens: int
    marks: int
    source: str


@dataclass(frozen=True)
class OutputGrid:
    """Where a method's mask logits live.

    Attributes:
        side: of its square input in pixels.
        cells: of its masks, along each side.
        keeps_aspect: whether the image is fitted into the upper left of the square, or stretched over it.
        source: where this is known from.
    """

    side: int
    cells: int
    keeps_aspect: bool
    source: str


@dataclass(frozen=True)
class MethodCard:
    """The facts about a method.

    Attributes:
        name: public name.
        title: what it is, in one line.
        paper: where it was published.
        code: the authors' repository; empty where this project is the authors.
        code_licence: of the authors' code.
        weights_licence: of the weights it starts from and of the authors' own, where there are any.
        presets: preset name -> its size and sources; the same names as the torch class has.
        default_preset: the one that is meant where none is named: the paper's.
        foundations: role -> the foundation model behind it.
        official: how the authors write checkpoints; None where there are no authors but us.
        releases: the authors' trained weights.
        published: results that the method was published with or that others report of it.
        text: what the default preset reads of a sentence; None where nothing is known.
        grid: of the default preset's masks; None where nothing is known.
    """

    name: str
    title: str
    paper: str
    code: str
    code_licence: str
    weights_licence: str
    presets: Mapping[str, Preset]
    default_preset: str
    foundations: Mapping[str, FoundationModel] = field(default_factory=dict)
    official: Official | None = None
    releases: tuple[Release, ...] = ()
    published: tuple[Score, ...] = ()
    text: TextLimit | None = None
    grid: OutputGrid | None = None

    def preset_named(self, name: str | None) -> str:
        """Return a preset's name; the default's for None.

        Raises:
            ConfigError: there is no such preset.
        """
        if name is not None and name not in self.presets:
            raise unknown_name(f"preset of {self.name}", name, self.presets)
        return name or self.default_preset


def scores(line: str) -> dict[str, float]:
    """Read ``Pr@0.5 Pr@0.6 Pr@0.7 Pr@0.8 Pr@0.9 oIoU mIoU``, the order in which papers print them; ``-`` for none."""
    names = ("pr@0.5", "pr@0.6", "pr@0.7", "pr@0.8", "pr@0.9", "oiou", "miou")
    return {name: float(value) for name, value in zip(names, line.split(), strict=True) if value != "-"}
