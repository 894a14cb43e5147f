"""Foreign sentences: sentences of other scenes about something that does not occur in this one. No torch here.

Every published data set asks only for what is there. A foreign sentence asks for what is not: it is taken from another
scene of the same split, and the category of its referent does not occur here. How well that is known depends on the
data set. The synthetic scenes list everything in them (``rrsis_zoo.data.records.Record.present``). Elsewhere a category
counts as present if a label or a sentence of the scene names it, or names one of its `KIN`; what nobody mentions may
still be in the picture, so that a few foreign sentences do fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.data.categories import Categories
from rrsis_zoo.data.masks import MaskSource
from rrsis_zoo.data.records import Record
from rrsis_zoo.errors import ConfigError

SEED = 0
"""Of the foreign sentences of an evaluation: they are the same for every training and every seed."""

KIN = tuple(
    frozenset(group)
    for group in (
        ("airport", "airplane", "helipad", "helicopter"),
        ("bridge", "overpass"),
        ("expressway service area", "expressway toll station"),
        ("ground track field", "soccer ball field", "soccer field", "stadium"),
        ("harbor", "ship", "container crane"),
        ("road", "road marking", "bikeway", "sidewalk", "impervious surface"),
        ("tree", "low vegetation"),
        ("vehicle", "car", "van", "truck", "trailer", "bus"),
    )
)
"""Categories that are parts, kinds or likely neighbours of each other: where one is named, the others may be there."""


@dataclass(frozen=True, slots=True)
class NoMask:
    """The mask of a sentence without a referent.

    Attributes:
        like: a mask of the same scene, for the size.
    """

    like: MaskSource

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.like.height

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.like.width

    @property
    def is_empty(self) -> bool:
        """Always true."""
        return True

    @property
    def identity(self) -> str:
        """The same for every empty mask."""
        return "NoMask()"

    def decode(self) -> NDArray[np.bool_]:
        """Return the mask, (height, width) bool, all False."""
        return np.zeros((self.height, self.width), dtype=np.bool_)


class ForeignSentences:
    """The foreign sentences of every scene of a split.

    Args:
        records: of the split.
        words: the data set's categories and their words; None for the names that the records have.
    """

    def __init__(self, records: Sequence[Record], words: Categories | None = None) -> None:
        self.records = tuple(records)
        self.scenes: dict[str, list[int]] = {}
        for place, record in enumerate(self.records):
            self.scenes.setdefault(record.scene_id, []).append(place)
        names = sorted({record.category for record in self.records if record.category})
        words = words or (Categories(names) if names else None)
        self._present = {
            scene: _present([self.records[i] for i in places], words) for scene, places in self.scenes.items()
        }
        self._asked = np.array([i for i, record in enumerate(self.records) if record.category], dtype=np.int64)
        named = set(names)
        self._hosts = {scene: bool(named - present) for scene, present in self._present.items()}

    def hosts(self, scene_id: str) -> bool:
        """Return whether any sentence of the split is foreign to a scene."""
        return self._hosts[scene_id]

    def draw(self, scene_id: str, count: int, rng: np.random.Generator) -> list[int]:
        """Return the positions of up to ``count`` sentences that are foreign to a scene, no text twice.

        Fewer only if the split does not have as many.
        """
        if not self._hosts[scene_id]:
            return []
        present = self._present[scene_id]
        chosen: dict[str, int] = {}
        for place in rng.permutation(self._asked).tolist():
            if len(chosen) == count:
                break
            record = self.records[place]
            if record.category not in present:
                chosen.setdefault(record.expression, place)
        return list(chosen.values())

    def asked_of(self, host: Record, place: int, number: int) -> Record:
        """Return a foreign sentence as a sample of the host's scene, without a referent.

        Args:
            host: a sample of the scene.
            place: position of the sentence, from `draw`.
            number: makes the sample's id unique among those of the same host.
        """
        source = self.records[place]
        return replace(
            host,
            sample_id=f"{host.sample_id}/foreign{number}",
            expression=source.expression,
            category=source.category,
            category_source=source.category_source,
            kind=source.kind,
            mask=NoMask(host.mask),
            reference=None,
        )


def foreign_records(records: Sequence[Record], words: Categories | None = None, seed: int = SEED) -> list[Record]:
    """Return foreign sentences for every scene of a split, as many as it has sentences of its own.

    They depend on the split and the seed only, not on processes or batches.

    Args:
        records: of the whole split.
        words: see `ForeignSentences`.
        seed: non-negative.

    Returns:
        Scene by scene in the order of the split. Each takes scene, image and id (with a suffix) of one of the scene's
        own samples, and an empty mask. A scene in which every category occurs has none.

    Raises:
        ConfigError: no sentence is foreign to any scene.
    """
    sentences = ForeignSentences(records, words)
    found: list[Record] = []
    for number, (scene, places) in enumerate(sentences.scenes.items()):
        drawn = sentences.draw(scene, len(places), np.random.default_rng((seed, number)))
        # a scene may have fewer than it has hosts, never more
        found += [sentences.asked_of(sentences.records[i], k, 0) for i, k in zip(places, drawn, strict=False)]
    if not found:
        raise none_foreign(records)
    return found


def none_foreign(records: Iterable[Record]) -> ConfigError:
    """Return the error for a split in which no sentence is foreign to any scene."""
    names = sorted({record.category for record in records if record.category})
    known = f"only {names[0]!r} is asked for" if len(names) == 1 else "every category occurs in every scene"
    return ConfigError(
        f"no sentence of this split is foreign to any of its scenes ({known if names else 'no category is known'}): "
        "sentences about two categories at least are needed, in different scenes"
    )


def _present(scene: Sequence[Record], words: Categories | None) -> frozenset[str]:
    """Return the categories that occur in a scene, or may."""
    if scene[0].present is not None:
        return scene[0].present
    named = {record.category for record in scene if record.category}
    if words is not None:
        named = named.union(*(words.all_in(record.expression) for record in scene))
    return frozenset(named.union(*(group for group in KIN if group & named)))
