"""What a test can be marked with, and how certain that is. No torch."""

from __future__ import annotations

from typing import Literal, get_args

Level = Literal["targets", "selection", "boxes", "images", "pool", "unknown", "clean"]
"""What the weights have seen of a test split, the worst first; an unknown part spoils a clean one."""

LEVELS: tuple[Level, ...] = get_args(Level)

MEANING: dict[Level, str] = {
    "targets": "the split's images were trained on with their referring masks or expressions",
    "selection": "the split chose the checkpoint or the settings",
    "boxes": "the split's images and expressions were trained on, without masks",
    "images": "the split's images were trained on with other labels",
    "pool": "some training images come from the collection that the split was drawn from; which ones is not known",
    "unknown": "what the weights were trained on is not public, or nothing is recorded about it",
    "clean": "nothing of the split or its collection was trained on, as far as stated",
}

CONTAMINATED: frozenset[Level] = frozenset(("targets", "selection", "boxes"))
"""Levels at which a score must not be ranked."""

FOOTNOTED: frozenset[Level] = frozenset(("images", "pool"))
"""Levels at which a score is ranked, with a footnote."""

Certainty = Literal["stated", "derived", "third_party", "memory", "suspected"]
"""Where a line of the ledger comes from, the strongest first."""

CERTAINTIES: tuple[Certainty, ...] = get_args(Certainty)

WORDS: dict[Certainty, str] = {
    "stated": "stated",
    "derived": "derived",
    "third_party": "said by others",
    "memory": "from memory, no source read",
    "suspected": "suspected",
}


def worst(levels: list[Level]) -> Level:
    """Return the level of something with several parts; of nothing, ``unknown``.

    Example:
        >>> worst(["clean", "unknown", "pool"]), worst(["clean", "unknown"]), worst([])
        ('pool', 'unknown', 'unknown')
    """
    return min(levels, key=LEVELS.index) if levels else "unknown"
