"""Large scenes whose sentences fit one object in the whole of them.

Objects are as many pixels long as in the scenes of 128 px that the shipped miniatures know, so a window of such a
scene looks like one of those. What a sentence says is decided over the whole scene, by the rules of
`rrsis_zoo.data.synthetic.language`: "the upper left" is that of the scene, "the largest" is larger than all others of
its kind in the scene, "nearest to the harbor" means that no other is nearer anywhere. Most of them cannot be told from
a window.

So that there are such sentences among dozens of objects, some kinds occur once, some two to four times, others as often
as they fall; in many kinds one object alone has its colour, and one alone its size.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rrsis_zoo.data.synthetic.chance import ANGLE_STEPS, RandomStream
from rrsis_zoo.data.synthetic.draw import CATEGORIES, NOMINAL
from rrsis_zoo.data.synthetic.ground import THEMES
from rrsis_zoo.data.synthetic.landscape import District, Landscape, make_landscape
from rrsis_zoo.data.synthetic.language import (
    SIZES,
    UNCLEAR,
    YES,
    Meaning,
    Phrase,
    Reader,
    form_of,
    held_out,
    measure_part,
    say,
    sayable,
    superlative,
)
from rrsis_zoo.data.synthetic.scenes import (
    FIXED,
    MIN_AREA,
    Patch,
    Placement,
    draw_patches,
    expose,
    fill_spot,
    find_place,
    lay_patches,
    unplaced,
)
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.shown import short_repr

MIN_SIDE, MAX_SIDE = 512, 4096
MAX_PER_KIND = 4  # more would need more kinds that occur once than a scene of 512 px has

WIDE_KINDS = ("category", "attribute", "size", "position", "relation")
"""Kinds of sentences: a kind that occurs once, a colour, the largest or smallest of its kind, a place in the scene, a
relation to another object."""

_STREAM = 3  # the first numbers of a stream are seed and split; 0 to 2 are the splits of the small scenes
_ATTEMPTS = 12  # with one landscape


@dataclass(frozen=True)
class WideObject:
    """An object of a large scene.

    Attributes:
        category, colour, large, angle: as of `SceneObject`.
        mask: bool (h, w), all its pixels.
        left, top: the mask's corner in pixels of the scene.
    """

    category: str
    colour: str | None
    large: bool | None
    angle: int
    mask: np.ndarray
    left: int
    top: int

    __repr__ = short_repr


@dataclass(frozen=True)
class WideSentence:
    """A sentence that fits one object of the whole scene.

    Attributes:
        text: the sentence.
        kind: one of ``WIDE_KINDS``.
        meaning: its logical form.
        referent: index of the object that it fits.
        anchors: indices of the objects that a relation is to.
    """

    text: str
    kind: str
    meaning: Meaning
    referent: int
    anchors: tuple[int, ...] = ()

    __repr__ = short_repr


@dataclass(frozen=True)
class Fitting:
    """A sentence with everything that it fits.

    Attributes:
        text: a category, or a category with a colour.
        kind: ``category`` or ``attribute``.
        category: what the objects are.
        objects: indices of all objects that it fits; every other object is clearly none.
    """

    text: str
    kind: str
    category: str
    objects: tuple[int, ...]


@dataclass(frozen=True)
class WideScene:
    """A large scene and all that can be asked about it.

    Attributes:
        image: uint8 RGB (size, size, 3).
        objects: everything on it, with disjoint masks.
        sentences: of every kind as many, each true of one object of the scene.
        fitting: sentences with all objects that they fit.
    """

    image: np.ndarray
    objects: tuple[WideObject, ...]
    sentences: tuple[WideSentence, ...]
    fitting: tuple[Fitting, ...]

    __repr__ = short_repr


def make_wide_scene(index: int = 0, *, size: int = 1024, seed: int = 0, per_kind: int = 4) -> WideScene:
    """Return a large scene: the same pixels and sentences on every machine.

    Args:
        index: number of the scene, from 0.
        size: side in pixels, 512 to 4096.
        seed: non-negative seed of the set.
        per_kind: sentences of each kind, 1 to 4.

    Raises:
        ConfigError: a value out of range.

    Example:
        >>> scene = make_wide_scene(size=512, per_kind=1)
        >>> scene.image.shape, len(scene.objects)
        ((512, 512, 3), 29)
        >>> for sentence in scene.sentences:
        ...     print(sentence.text)
        the baseball field in the image
        the blue basketball court
        the smallest harbor
        the bottommost windmill
        the basketball court nearest to the tennis court
    """
    check_wide(size, seed, per_kind)
    stream = RandomStream(seed, _STREAM, index, size)
    while True:
        landscape = make_landscape(size, stream)
        for _ in range(_ATTEMPTS):
            placements = _populate(landscape, size, stream)
            patches = draw_patches(placements, 1.0, landscape.sun, stream)
            if min(int(patch.mask.sum()) for patch in patches) < MIN_AREA:
                continue
            objects = tuple(_object(p, patch) for p, patch in zip(placements, patches, strict=True))
            shapes = [measure_part(o.category, o.colour, o.mask, o.left, o.top, size) for o in objects]
            reader = Reader(shapes, NOMINAL / size)
            sentences = _sentences(reader, per_kind, stream)
            if sentences is None:
                continue
            lay_patches(landscape.image, patches, landscape.sun)
            return WideScene(expose(landscape.image, stream), objects, sentences, _fitting(reader))


def check_wide(size: int, seed: int, per_kind: int) -> None:
    """Check the settings of a large scene.

    Raises:
        ConfigError: a value out of range.
    """
    if not MIN_SIDE <= size <= MAX_SIDE:
        raise ConfigError(f"size must be {MIN_SIDE} to {MAX_SIDE} pixels for the layout scene, got {size}")
    if seed < 0:
        raise ConfigError(f"seed must not be negative, got {seed}")
    if not 1 <= per_kind <= MAX_PER_KIND:
        raise ConfigError(f"expressions must be 1 to {MAX_PER_KIND} of each kind for the layout scene, got {per_kind}")


def _object(placement: Placement, patch: Patch) -> WideObject:
    mask = patch.mask
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, x0 = int(rows[0]), int(columns[0])
    return WideObject(
        placement.category.name,
        placement.colour,
        placement.large,
        placement.angle * (360 // ANGLE_STEPS),
        mask[y0 : int(rows[-1]) + 1, x0 : int(columns[-1]) + 1],
        patch.left + x0,
        patch.top + y0,
    )


# -- what stands where -------------------------------------------------------------------------------------------------


class _Roles:
    """How many there may be of each kind, and which colour and size the next one gets."""

    def __init__(self, names: Sequence[str], stream: RandomStream) -> None:
        self.stream = stream
        self.made: Counter[str] = Counter()
        order = stream.shuffled([name for name in names if name not in FIXED])
        few = len(order) * 2 // 3
        self.most = {name: 1 if i < len(order) / 3 else 4 if i < few else 10**9 for i, name in enumerate(order)}
        self.usual = {name: stream.choice(CATEGORIES[name].colours) for name in names if CATEGORIES[name].colours}
        # One of its colour (the first to be placed) and one of its size (the second), or whatever comes.
        self.odd_colour = {name: stream.chance(0.7) for name in names}
        self.odd_size = {name: stream.weighted((True, False, None), (2, 2, 1)) for name in names}

    def left(self, name: str) -> bool:
        return self.made[name] < self.most.get(name, 10**9)

    def next(self, name: str) -> Placement:
        category, stream, number = CATEGORIES[name], self.stream, self.made[name]
        colour = None
        if category.colours:
            usual = self.usual[name]
            others = [other for other in category.colours if other != usual]
            if self.odd_colour[name]:
                colour = stream.choice(others) if number == 0 else usual
            else:
                colour = stream.choice(category.colours)
        odd = self.odd_size[name]
        large = None if odd is None else odd if number == 1 else not odd
        return unplaced(category, colour, large, stream)


def _populate(landscape: Landscape, size: int, stream: RandomStream) -> list[Placement]:
    """Return objects with their places, in pixels of the scene: about 32 on 512 px, 144 on 4096."""
    districts = landscape.districts
    names = sorted({name for d in districts for name in THEMES[d.ground.theme].objects})
    roles = _Roles(names, stream)
    placed: list[Placement] = []
    for district in districts:  # an empty place for a bridge or a roundabout would look like an unlisted one
        for spot in district.ground.spots:
            if spot.category in ("bridge", "roundabout"):
                near = [district.within(p) for p in placed]
                fill = fill_spot(spot, district.ground, near)
                assert fill is not None  # they lie near the middle of a district, and nothing else is placed yet
                placed.append(district.without(fill))
    share = (16 + size / 32) / len(districts)
    for district in stream.shuffled(districts):
        count = int(share) + stream.integer(0, 1) + (1 if stream.chance(share - int(share)) else 0)
        placed += _people(district, count, placed, roles, stream)
    return placed


def _people(
    district: District, count: int, placed: Sequence[Placement], roles: _Roles, stream: RandomStream
) -> list[Placement]:
    """Return ``count`` objects for a district, or as many as find a place."""
    weights = {name: w for name, w in THEMES[district.ground.theme].objects.items() if name not in FIXED[:2]}
    near = [district.within(p) for p in placed]
    own: list[Placement] = []
    for _ in range(count):
        names = [name for name in weights if roles.left(name)]
        if not names:
            break
        name = stream.weighted(names, [weights[n] for n in names])
        found = find_place(roles.next(name), district.ground, near, stream)
        if found is not None:
            roles.made[name] += 1
            near.append(found)
            own.append(district.without(found))
    return own


# -- what is said ------------------------------------------------------------------------------------------------------


def _sentences(reader: Reader, per_kind: int, stream: RandomStream) -> tuple[WideSentence, ...] | None:
    """Return ``per_kind`` sentences of each kind, about different objects if possible; None where there are fewer."""
    pool = [
        (meaning, referent)
        for meaning, referent in sayable(reader, ("category", "attribute", "position", "relation"))
        if not held_out(meaning)  # a matter of words, not of scenes
    ]
    out: list[WideSentence] = []
    for kind in WIDE_KINDS:
        options = [entry for entry in pool if _kind(entry[0]) == kind]
        if len(options) < per_kind:
            return None
        for _ in range(per_kind):
            used = {sentence.referent for sentence in out}
            fresh = [entry for entry in options if entry[1] not in used] or options
            form = stream.choice(sorted({form_of(entry[0]) for entry in fresh}))
            entry = stream.choice([entry for entry in fresh if form_of(entry[0]) == form])
            options.remove(entry)
            meaning, referent = entry
            peers = len(reader.peers[referent])
            text = superlative(meaning.phrase, peers) if kind == "size" else say(meaning, peers, stream)
            anchors = tuple(index for link in reader.anchors(meaning) or () for index in link)
            out.append(WideSentence(text, kind, meaning, referent, anchors))
    return tuple(out)


def _kind(meaning: Meaning) -> str:
    return "size" if meaning.kind == "attribute" and meaning.phrase.attribute in SIZES else meaning.kind


def _fitting(reader: Reader) -> tuple[Fitting, ...]:
    """Return every category and every category with a colour that fits some objects and clearly not the others."""
    shapes = reader.shapes
    phrases = sorted({(s.category, colour) for s in shapes for colour in ("", s.colour or "")})
    out = []
    for category, colour in phrases:
        phrase = Phrase(category, colour or None)
        answers = reader.phrase(phrase)
        if UNCLEAR not in answers and not held_out(Meaning("attribute", phrase)):
            objects = tuple(i for i, answer in enumerate(answers) if answer == YES)
            text = f"the {colour} {category}" if colour else f"the {category}"
            out.append(Fitting(text, "attribute" if colour else "category", category, objects))
    return tuple(out)
