"""Pictures to begin with: synthetic scenes that no miniature was trained on. No torch, no gradio."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from rrsis_zoo.data.synthetic import Sample, make_sample
from rrsis_zoo.demo.pictures import Shown

SCENES = {"coast": 26, "airport": 9, "sea": 10, "sports": 7}
"""Name -> scene of the test split; chosen because the miniatures answer most of their sentences well."""
_SIZE = 512


@dataclass(frozen=True, eq=False)
class Example:
    """A scene with sentences about it.

    Attributes:
        name: a key of `SCENES`.
        sample: the scene with the true masks.
    """

    name: str
    sample: Sample

    @property
    def shown(self) -> Shown:
        """The picture."""
        return Shown(f"{self.name}.png", self.sample.scene.image)

    @property
    def texts(self) -> list[str]:
        """The sentences."""
        return [expression.text for expression in self.sample.expressions]


@cache
def examples() -> tuple[Example, ...]:
    """Return all examples; they are drawn anew in every process, which takes a second."""
    return tuple(Example(name, make_sample("test", index, size=_SIZE)) for name, index in SCENES.items())
