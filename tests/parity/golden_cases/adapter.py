"""What an adapter is made of: how the cases of one method are run. Knows neither the methods nor the runner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from golden_cases.case import Case
from rrsis_zoo.models.base import ReferringSegmenter


@dataclass
class Computed:
    """What a part computed from a case's inputs.

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
    """How the cases of one method are run.

    Attributes:
        build: makes the method's model of a case's configuration (for a part too: unused towers may be empty), or a
            `Part` of it.
        parts: part -> function that runs the filled model on the case's inputs.
        buffers: official names that are buffers of ours and parameters of the program that made the cases, and whether
            it flagged them as trainable; they are left out of parameter counts and lists, nowhere else.
        skipped: ``fnmatch`` pattern of official entries that ours does not have -> reason. The program flags them as
            trainable and never uses them.
        aliases: the like for official entries that are a second name of a tensor; no parameters of their own.
    """

    build: Callable[[Case], Runnable]
    parts: dict[str, Callable[[Any, Case], Computed]]
    buffers: dict[str, bool] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def is_skipped(self, name: str) -> bool:
        """Whether an official entry has no place in ours on purpose."""
        return self.why_skipped(name) is not None

    def why_skipped(self, name: str) -> str | None:
        """Return why an official entry has no place in ours; None if it has to have one."""
        reasons = {**self.skipped, **self.aliases}
        return next((reason for pattern, reason in reasons.items() if fnmatchcase(name, pattern)), None)

    def is_alias(self, name: str) -> bool:
        """Whether an official entry is a second name of a tensor."""
        return any(fnmatchcase(name, pattern) for pattern in self.aliases)
