"""Facts about a method for users, conversion and downloads, as plain data. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rrsis_zoo.errors import unknown_name

PresetKind = Literal["published", "other", "lighter", "miniature", "tiny"]
"""``published``: the full size, for which scores are published; a method has one. ``other``: another full size of the
authors or of others, whose scores are not the card's. ``lighter``: with smaller foundation models of the same
family. ``miniature``: with very small ones pretrained by this project. ``tiny``: very small, from random weights.
"""


@dataclass(frozen=True)
class Preset:
    """A named size of a method.

    Attributes:
        parameters: of the whole model.
        trained: those that training changes.
        weights: role -> source that the published recipe starts from; empty if it starts from random weights.
        kind: see `PresetKind`; only scores of a published one are comparable with a paper's.
    """

    parameters: int
    trained: int
    weights: Mapping[str, str] = field(default_factory=dict)
    kind: PresetKind = field(kw_only=True)

    @property
    def small(self) -> bool:
        """Whether it is meant to train in minutes; its scores say nothing about the method's."""
        return self.kind in ("miniature", "tiny")


@dataclass(frozen=True)
class FoundationModel:
    """A foundation model that a method is built on. Its key in `MethodCard.foundations` is its *role*: ``sam``, …

    Attributes:
        title: its name in error messages.
        weights: possible names of its weight file, the preferred one first.
        tokenizer: possible names of its tokenizer's file; empty if it has none.
        base: its entry in the leakage ledger (`rrsis_zoo.leakage.ledger`), which says what it was trained on; empty if
            it can be any model.
        further: for each other file that is needed, such as a configuration, its possible names.
        whole: whether all of its folder is read, so that a download takes everything that belongs to the model.
    """

    title: str
    weights: tuple[str, ...]
    tokenizer: tuple[str, ...] = ()
    base: str = field(default="", kw_only=True)
    further: tuple[tuple[str, ...], ...] = ()
    whole: bool = False

    @property
    def files(self) -> tuple[tuple[str, ...], ...]:
        """For each needed file its possible names."""
        return (self.weights, *([self.tokenizer] if self.tokenizer else []), *self.further)


@dataclass(frozen=True)
class Official:
    """Format of the authors' checkpoints.

    Attributes:
        files: possible names of such a file in a folder, the preferred one first.
        prefixes: added to every name by wrappers; removed in this order if all names have them.
        wrapper: key of the state dict in a torch file; None for a bare one.
        skipped: ``fnmatch`` pattern of their names -> why ours has no such entry.
        tokenizer: the role with the method's tokenizer.
        settings: configuration behind the published results, if it differs from a preset.
        joined: key of a further state dict that some of their files have -> prefix of its names in the others.
    """

    files: tuple[str, ...]
    tokenizer: str
    prefixes: tuple[str, ...] = ("module.",)
    wrapper: str | None = "state_dict"
    skipped: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    joined: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """Trained weights that the authors published.

    Attributes:
        name: short name.
        source: their repository.
        files: possible names of their file there, the likeliest first.
        preset: with the matching sizes.
        dataset: of their training.
        licence: as stated in the repository.
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
        dataset, split: of the test.
        values: metric -> value under our names (``oiou``, ``miou``, ``pr@0.5`` …).
        protocol: of the computation, as far as known.
        source: publication that contains it.
        program: the protocol (`rrsis_zoo.metrics.protocols`) of the authors' public program; empty if unknown.
    """

    dataset: str
    split: str
    values: Mapping[str, float]
    protocol: str
    source: str
    program: str = ""


@dataclass(frozen=True)
class TextLimit:
    """Length of sentences that a method reads.

    Attributes:
        tokens: maximum number, including start and end marks.
        marks: number of start and end marks among them.
        source: of this information.
    """

    tokens: int
    marks: int
    source: str


@dataclass(frozen=True)
class OutputGrid:
    """Grid of a method's mask logits.

    Attributes:
        side: of its square input in pixels.
        cells: of its masks, along each side.
        keeps_aspect: whether the image is fitted into the upper left of the square, rather than stretched over it.
        source: of this information.
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
        title: one-line description.
        paper: its publication.
        code: the authors' repository; empty for this project's own method.
        code_licence: of the authors' code.
        weights_licence: of the weights it starts from and of the authors' own, if any.
        presets: preset name -> its size and sources; the same names as in the torch class.
        default_preset: the one used if none is named: the paper's.
        foundations: role -> its foundation model.
        official: format of the authors' checkpoints; None for this project's own method.
        releases: the authors' trained weights.
        published: results from the method's publication or reported by others.
        text: length of sentences that the default preset reads; None if unknown.
        grid: of the default preset's masks; None if unknown.
        readable: what people can read of what ``localise`` hands over: ``boxes``, ``points``; empty if nothing.
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
    readable: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"MethodCard({self.name!r}, {self.title!r}, presets {', '.join(self.presets)})"

    @property
    def training_free(self) -> bool:
        """Whether nothing of it is trained, in any preset."""
        return not any(preset.trained for preset in self.presets.values())

    def preset_named(self, name: str | None) -> str:
        """Return a preset's name; the default's for None.

        Raises:
            ConfigError: there is no such preset.
        """
        if name is not None and name not in self.presets:
            raise unknown_name(f"preset of {self.name}", name, self.presets)
        return name or self.default_preset


def scores(line: str) -> dict[str, float]:
    """Parse ``Pr@0.5 Pr@0.6 Pr@0.7 Pr@0.8 Pr@0.9 oIoU mIoU``, the usual order of papers; ``-`` for none."""
    names = ("pr@0.5", "pr@0.6", "pr@0.7", "pr@0.8", "pr@0.9", "oiou", "miou")
    return {name: float(value) for name, value in zip(names, line.split(), strict=True) if value != "-"}
