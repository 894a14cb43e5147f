"""Scenes to pretrain on: many, without a data set's splits, and never one of the benchmark's.

A scene here has its objects' *phrases* ("red ship", a category with at most a colour or a size) and *places* ("the ship
at the top left") beside the sentences that `rrsis_zoo.data.synthetic` makes. Word combinations that the benchmark keeps
for its test are left out of all, so that a miniature knows no more of them than a method trained on the benchmark does.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rrsis_zoo.data.synthetic import GENERATOR_VERSION
from rrsis_zoo.data.synthetic.chance import RandomStream
from rrsis_zoo.data.synthetic.draw import CATEGORIES, COLOURS
from rrsis_zoo.data.synthetic.language import (
    CONFUSABLE_CATEGORIES,
    CONFUSABLE_COLOURS,
    NO,
    POSITIONS,
    SIZES,
    UNCLEAR,
    YES,
    Meaning,
    Phrase,
    Reader,
    express,
    held_out,
    say,
)
from rrsis_zoo.data.synthetic.scenes import SceneObject, make_scene

SIZE = 128
SEED, UNSEEN_SEED = 9_000_001, 9_000_002  # of training and of scoring; the benchmark's scenes are of seed 0
FORM = 4  # of what is stored
MOST_OBJECTS = 5
SENTENCES = 6
STRANGERS = 6

SAYABLE = {
    name: [
        f"{colour} {name}" if colour else name
        for colour in (None, *COLOURS)
        if not held_out(Meaning("attribute", Phrase(name, colour)))
    ]
    for name in CATEGORIES
}
"""Category -> its phrases, with a colour or without, that are not kept for the benchmark's test."""


@dataclass(frozen=True)
class PretrainingScene:
    """One scene.

    Attributes:
        image: uint8 (128, 128, 3).
        labels: uint8 (128, 128), 0 for ground and k + 1 for object k.
        absent: phrases of categories of which nothing here is one, or could be taken for one.
        wrong: phrases that give things of the scene a colour which clearly none of them has.
        phrases: text -> the objects that it fits, all of them; only phrases that leave no object in doubt.
        places: as phrases, texts that say where something of a category lies in the image, or which one is larger.
        sentences: texts that fit exactly one object, with the object.
        strangers: sentences of other scenes that fit nothing here; the first half speak of a category that is here.
    """

    image: np.ndarray
    labels: np.ndarray
    absent: tuple[str, ...]
    wrong: tuple[str, ...]
    phrases: dict[str, tuple[int, ...]]
    places: dict[str, tuple[int, ...]]
    sentences: tuple[tuple[str, int], ...]
    strangers: tuple[str, ...]


@dataclass(frozen=True)
class _Made:
    image: np.ndarray
    labels: np.ndarray
    phrases: dict[str, tuple[int, ...]]
    places: dict[str, tuple[int, ...]]
    sentences: tuple[tuple[str, int], ...]
    meanings: tuple[Meaning, ...]
    objects: tuple[SceneObject, ...]


def scenes(count: int, seed: int, folder: Path, processes: int = 1) -> list[PretrainingScene]:
    """Make scenes, or read them where they have been made; equal arguments give equal scenes.

    Args:
        count: how many to make; the few of which nothing can be said are left out.
        seed: of the set.
        folder: where made scenes are kept.
        processes: worker processes.
    """
    path = folder / f"scenes_v{GENERATOR_VERSION}.{FORM}_{seed}_{count}.pickle"
    if path.is_file():
        return pickle.loads(path.read_bytes())  # written by this function only
    with ProcessPoolExecutor(processes) as pool:
        made = list(pool.map(partial(_make, seed=seed), range(count), chunksize=16))
        said = [(text, meaning) for one in made for (text, _), meaning in zip(one.sentences, one.meanings, strict=True)]
        strangers = list(
            pool.map(partial(_strangers, said=said, seed=seed), enumerate(made), chunksize=-(-count // processes))
        )
    out = [
        PretrainingScene(
            one.image,
            one.labels,
            _absent(one.objects),
            _wrong_colours(one.phrases),
            one.phrases,
            one.places,
            one.sentences,
            others,
        )
        for one, others in zip(made, strangers, strict=True)
        if one.sentences  # a few scenes of things that look alike have none
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(out, protocol=5))
    return out


def _make(index: int, seed: int) -> _Made:
    stream = RandomStream(seed, 0, index)
    scene = make_scene(SIZE, stream)
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for k, thing in enumerate(scene.objects):
        labels[thing.mask] = k + 1
    said = express(scene.objects, SENTENCES, False, stream)
    return _Made(
        scene.image,
        labels,
        _phrases(scene.objects),
        _places(scene.objects, RandomStream(seed, 2, index)),
        tuple((one.text, one.referent) for one in said),
        tuple(one.meaning for one in said),
        scene.objects,
    )


def _absent(objects: Sequence[SceneObject]) -> tuple[str, ...]:
    here = {thing.category for thing in objects}
    alike = {name for pair in CONFUSABLE_CATEGORIES if pair & here for name in pair}
    return tuple(text for name in CATEGORIES if name not in here | alike for text in SAYABLE[name])


def _wrong_colours(phrases: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    found: list[str] = []
    for name in (phrase for phrase in phrases if phrase in CATEGORIES):
        here = {colour: phrases.get(f"{colour} {name}", ()) for colour in COLOURS}
        present = [colour for colour, things in here.items() if things]
        if {k for things in here.values() for k in things} != set(phrases[name]):
            continue  # the colour of one of them is in doubt
        for colour in COLOURS:
            doubtful = any(frozenset((colour, other)) in CONFUSABLE_COLOURS for other in present)
            text = f"{colour} {name}"
            if colour not in present and not doubtful and text in SAYABLE[name]:
                found.append(text)
    return tuple(found)


def _phrases(objects: Sequence[SceneObject]) -> dict[str, tuple[int, ...]]:
    reader = Reader(objects)
    found: dict[str, tuple[int, ...]] = {}
    for thing in objects:
        for attribute in (None, thing.colour, None if thing.large is None else "large" if thing.large else "small"):
            phrase = Phrase(thing.category, attribute)
            answers = reader.phrase(phrase)
            if UNCLEAR not in answers and YES in answers and not held_out(Meaning("attribute", phrase)):
                text = f"{attribute} {thing.category}" if attribute else thing.category
                found[text] = tuple(k for k, answer in enumerate(answers) if answer == YES)
    return found


def _places(objects: Sequence[SceneObject], stream: RandomStream) -> dict[str, tuple[int, ...]]:
    reader = Reader(objects)
    found: dict[str, tuple[int, ...]] = {}
    for category in sorted({thing.category for thing in objects}):
        peers = sum(thing.category == category for thing in objects) - 1
        meanings = [Meaning("position", Phrase(category), position) for position in POSITIONS]
        if peers:
            meanings += [Meaning("attribute", Phrase(category, size)) for size in SIZES]
        for meaning in meanings:
            answers = reader.answers(meaning)
            if answers and UNCLEAR not in answers and YES in answers and not held_out(meaning):
                found[say(meaning, peers, stream)] = tuple(k for k, answer in enumerate(answers) if answer == YES)
    return found


def _strangers(numbered: tuple[int, _Made], said: Sequence[tuple[str, Meaning]], seed: int) -> tuple[str, ...]:
    index, one = numbered
    stream, reader = RandomStream(seed, 1, index), Reader(one.objects)
    here = {thing.category for thing in one.objects}
    found: list[str] = []
    for _ in range(100 * STRANGERS):
        text, meaning = stream.choice(said)
        if len(found) < STRANGERS // 2 and meaning.phrase.category not in here:
            continue
        if text not in found and _fits_nothing(meaning, reader):
            found.append(text)
            if len(found) == STRANGERS:
                break
    return tuple(found)


def _fits_nothing(meaning: Meaning, reader: Reader) -> bool:
    """Whether a sentence speaks of nothing here: no such thing, none that lies so, or nothing to lie so to."""
    answers = reader.answers(meaning)
    if answers is None:  # an anchor is missing, or several could be meant
        anchors = [reader.phrase(anchor) for link in meaning.links for anchor in link.anchors]
        if any(all(answer == NO for answer in each) for each in anchors):
            return True
        answers = reader.phrase(meaning.phrase)
    return all(answer == NO for answer in answers)
