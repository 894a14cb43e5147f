"""Base of the adapters, which run the cases of one method. Independent of the methods and the runner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from golden_cases.case import Case
from golden_cases.report import Row
from rrsis_zoo.models.base import ReferringSegmenter


@dataclass
class Computed:
    """Results of a part for a case's inputs.

    Attributes:
        tensors: by the case's names; losses that the case records as tensors too.
        losses: by the case's names.
        objective: the scalar whose gradients the case records, or None.
        leaves: inputs whose gradients the case records as tensors, by the gradients' names.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    losses: dict[str, float | None] = field(default_factory=dict)
    objective: Tensor | None = None
    leaves: dict[str, Tensor] = field(default_factory=dict)


class Part(nn.Module):
    """A piece of a method that is run without the rest: as much of a model as a case needs.

    Args:
        modules: by the first part of their parameters' names.
        official: maps a parameter's name to the case's.
    """

    def __init__(self, modules: Mapping[str, nn.Module], official: Callable[[str], str]) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.official = official

    def inert_parameters(self) -> dict[str, str]:
        """Return none."""
        return {}


Runnable = ReferringSegmenter | Part


@dataclass(frozen=True)
class Adapter:
    """Functions that run the cases of one method.

    Attributes:
        build: builds the method's model from a case's configuration (also for a part: unused towers may be empty), or a
            `Part` of it.
        parts: part -> function that runs the filled model on the case's inputs.
        buffers: official names that are buffers of ours and parameters of the program that made the cases, and whether
            it flagged them as trainable; they are left out of parameter counts and lists, nowhere else.
        skipped: ``fnmatch`` pattern of official entries that ours does not have -> reason. The program flags them as
            trainable and never uses them.
        aliases: likewise for official entries that are a second name of a tensor, not separate parameters.
        own: part -> function that compares a case of another form by itself; ``keys`` too, if it is not the usual list.
        flips: pixels of a recorded mask that may differ, because a value is too close to the threshold.
    """

    build: Callable[[Case], Runnable]
    parts: dict[str, Callable[[Any, Case], Computed]]
    buffers: dict[str, bool] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    own: dict[str, Callable[[Case], list[Row]]] = field(default_factory=dict)
    flips: int = 0

    def is_skipped(self, name: str) -> bool:
        """Return whether ours lacks an official entry on purpose."""
        return self.why_skipped(name) is not None

    def why_skipped(self, name: str) -> str | None:
        """Return why ours lacks an official entry; None if it must have it."""
        reasons = {**self.skipped, **self.aliases}
        return next((reason for pattern, reason in reasons.items() if fnmatchcase(name, pattern)), None)

    def is_alias(self, name: str) -> bool:
        """Return whether an official entry is a second name of a tensor."""
        return any(fnmatchcase(name, pattern) for pattern in self.aliases)
