"""From a key to a scene: objects on a ground, with their masks.

Ships lie on water, vehicles on roads and aprons, harbors at the shore, bridges over rivers. Objects keep a distance
from each other and from the image's border, so that every mask is whole and no two masks touch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rrsis_zoo.data.synthetic.chance import ANGLE_STEPS, UNIT, RandomStream
from rrsis_zoo.data.synthetic.draw import CATEGORIES, COLOURS, NOMINAL, OVERSAMPLING, Category, Painter
from rrsis_zoo.data.synthetic.ground import (
    LAND,
    PAVED,
    QUARTER,
    ROAD,
    THEMES,
    WATER,
    Ground,
    Spot,
    make_ground,
    point_on,
)
from rrsis_zoo.shown import short_repr

GAP = 3.0
"""Least distance between the boxes of two objects, in units."""

BORDER = 2.5
"""Least distance of an object's box from the image's border, in units."""

MIN_AREA = 90
"""Least area of a mask, in square units."""

FULL = OVERSAMPLING * OVERSAMPLING

SMALL, LARGE = (0.80, 0.87), (1.13, 1.24)
"""Length factors of the two sizes; the larger is at least 1.69 times the smaller in area."""

_VEHICLE = {False: (1.1, 1.2), True: (1.06, 1.14)}  # cars and lorries have boxes of their own
_LORRY_BOX = (16.0, 6.2)

_UNPAINTED = (200, 200, 200)  # categories without colours do not read it

FIXED = ("bridge", "roundabout", "harbor")
"""Categories that stand where the ground has a place for them."""

_STANDS_ON: dict[str, tuple[int, ...]] = {
    "airplane": (PAVED,),
    "building": (LAND, PAVED),
    "helipad": (LAND, PAVED),
    "ship": (WATER,),
    "storage tank": (LAND, PAVED),
    "vehicle": (PAVED, ROAD),
}
"""Ground that an object needs; land if not listed."""


@dataclass(frozen=True)
class Placement:
    """Where an object lies, before it is drawn. Lengths in units.

    Attributes:
        category: its kind.
        x, y: centre.
        angle: index into ``UNIT``, direction of its length.
        half: half length and half width of its box.
        factor: length factor relative to the drawing's own size.
        large: whether it is of the large size; None where the category has one size only.
        colour: colour name, or None.
        rgb: the colour it is painted with.
    """

    category: Category
    x: float
    y: float
    angle: int
    half: tuple[float, float]
    factor: float
    large: bool | None
    colour: str | None
    rgb: tuple[int, int, int]

    def corners(self, margin: float = 0.0) -> list[tuple[float, float]]:
        """Return the four corners of the box, widened by a margin."""
        cos, sin = UNIT[self.angle]
        a, b = self.half[0] + margin, self.half[1] + margin
        return [
            (self.x + p * a * cos - q * b * sin, self.y + p * a * sin + q * b * cos)
            for p, q in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]


@dataclass(frozen=True)
class SceneObject:
    """An object in a finished scene.

    Attributes:
        category: its name as expressions write it.
        colour: one of ``COLOURS``, or None where the category has no colour to speak of.
        large: whether it was drawn in the large size; None for categories of one size.
        angle: direction of its length in degrees, clockwise from the x axis, 0 to 355.
        mask: bool (size, size).
    """

    category: str
    colour: str | None
    large: bool | None
    angle: int
    mask: np.ndarray

    __repr__ = short_repr


@dataclass(frozen=True)
class Scene:
    """An image and everything in it.

    Attributes:
        theme: kind of scene, a key of ``THEMES``.
        image: uint8 RGB (size, size, 3).
        objects: two to five objects with disjoint masks.
    """

    theme: str
    image: np.ndarray
    objects: tuple[SceneObject, ...]

    __repr__ = short_repr


def make_scene(size: int, stream: RandomStream) -> Scene:
    """Return a random scene.

    Args:
        size: side of the image in pixels.
        stream: source of chance; equal stream give equal scenes.
    """
    while True:
        ground = make_ground(size, stream)
        placements: list[Placement] = []
        for _ in range(3):  # a full scene says more; large wishes do not always fit
            if len(placements) < 4:
                placements = max(placements, _place_objects(ground, stream), key=len)
        if len(placements) < 2:
            continue
        image, masks = _render(ground, placements, stream)
        if min(int(mask.sum()) for mask in masks) * NOMINAL * NOMINAL < MIN_AREA * size * size:
            continue
        objects = tuple(
            SceneObject(p.category.name, p.colour, p.large, p.angle * (360 // ANGLE_STEPS), mask)
            for p, mask in zip(placements, masks, strict=True)
        )
        return Scene(ground.theme, image, objects)


# -- placing -----------------------------------------------------------------------------------------------------------


def _wishes(ground: Ground, stream: RandomStream) -> list[Placement]:
    """Choose kinds, sizes and colours: mostly several of one kind, so that a sentence has distractors to rule out."""
    weights = THEMES[ground.theme].objects
    names = list(weights)
    count = stream.weighted((2, 3, 4, 5), (2, 5, 6, 5))
    main = stream.weighted(names, list(weights.values()))
    repeats = min(count, stream.weighted((1, 2, 3), (2, 6, 3)))
    chosen = [main] * repeats
    while len(chosen) < count:
        # A second kind also comes in pairs at times, so that anchors need attributes too.
        extra = stream.weighted(names, list(weights.values()))
        chosen += [extra] * stream.weighted((1, 2), (3, 1))
    shared = {name: stream.choice(CATEGORIES[name].colours) for name in names if CATEGORIES[name].colours}
    wishes = [_wish(CATEGORIES[name], shared.get(name), stream) for name in chosen[:count]]
    # Fixed places before free ones, large boxes first: small objects still find room between.
    fixed = {spot.category for spot in ground.spots}
    return sorted(wishes, key=lambda wish: (wish.category.name not in fixed, -wish.half[0] * wish.half[1]))


def _wish(category: Category, shared: str | None, stream: RandomStream) -> Placement:
    """Choose size and colour of one object; ``shared`` is its kind's colour in this scene."""
    colour = None
    if shared is not None:
        # Some share their kind's colour: then only place and neighbours tell them apart.
        colour = shared if stream.chance(0.3) else stream.choice(category.colours)
    return unplaced(category, colour, None, stream)


def unplaced(category: Category, colour: str | None, large: bool | None, stream: RandomStream) -> Placement:
    """Return an object of this kind, with its paint and its lengths, that has no place yet.

    Args:
        category: its kind.
        colour: one of the kind's colours; None where it has none.
        large: its size; None to draw one, if the kind has two.
        stream: source of chance.
    """
    rgb = _UNPAINTED
    if colour is not None:
        tone = stream.integer(-9, 9)
        r, g, b = (max(0, min(255, channel + tone + stream.integer(-2, 2))) for channel in COLOURS[colour])
        rgb = (r, g, b)
    if not category.sized:
        large = None
    elif large is None:
        large = stream.chance(0.5)
    half, factor = category.box, 1.0
    if category.name == "vehicle":
        half = _LORRY_BOX if large else category.box
        factor = stream.uniform(*_VEHICLE[bool(large)])
    elif large is not None:
        factor = stream.uniform(*(LARGE if large else SMALL))
    factor = round(factor * category.scale * 64) / 64
    half = (half[0] * factor, half[1] * factor)
    return Placement(category, 0.0, 0.0, 0, half, factor, large, colour, rgb)


def _place_objects(ground: Ground, stream: RandomStream) -> list[Placement]:
    """Choose objects and find places for them; what finds none is left out. Empty where a crossing stays bare."""
    placed: list[Placement] = []
    for wish in _wishes(ground, stream):
        found = find_place(wish, ground, placed, stream)
        if found is not None:
            placed.append(found)
    # An empty place for a bridge or a roundabout would look like an unlisted one.
    for spot in ground.spots:
        taken = any(p.x == spot.x and p.y == spot.y for p in placed)
        if not taken and spot.category in ("bridge", "roundabout"):
            fill = fill_spot(spot, ground, placed)
            if len(placed) == 5 or fill is None:
                return []
            placed.append(fill)
    return placed


def find_place(
    wish: Placement, ground: Ground, placed: Sequence[Placement], stream: RandomStream, tries: int = 40
) -> Placement | None:
    """Return the object at a place where it fits; None where none was found."""
    candidates: Iterable[Placement]
    if wish.category.name in FIXED:
        candidates = [_at(wish, spot) for spot in ground.spots if spot.category == wish.category.name]
    else:
        candidates = (_somewhere(wish, ground, stream) for _ in range(tries))
    return next((candidate for candidate in candidates if _fits(candidate, ground, placed)), None)


def fill_spot(spot: Spot, ground: Ground, placed: Sequence[Placement]) -> Placement | None:
    """Return a bridge or a roundabout for a place that was made for it; None where it does not fit."""
    category = CATEGORIES[spot.category]
    fill = _at(Placement(category, 0, 0, 0, category.box, 1.0, None, None, _UNPAINTED), spot)
    return fill if _fits(fill, ground, placed) else None


def _at(wish: Placement, spot: Spot) -> Placement:
    """Return the object at a place that the ground was made for."""
    half = (spot.length / 2, spot.width / 2) if spot.length else wish.half
    return replace(wish, x=spot.x, y=spot.y, angle=spot.angle, half=half)


def _somewhere(wish: Placement, ground: Ground, stream: RandomStream) -> Placement:
    """Return the object at a random place and in a sensible direction."""
    name = wish.category.name
    if name == "vehicle" and ground.lanes:
        lane = stream.choice(ground.lanes)
        side = stream.choice((-1, 1))
        x, y = point_on(lane.k, lane.d + side * lane.half * 0.5, stream.uniform(-ground.extent / 2, ground.extent / 2))
        # Traffic keeps to the right: seen along the line's direction, the two sides drive opposite ways.
        angle = (lane.k + (QUARTER if side < 0 else 3 * QUARTER)) % ANGLE_STEPS
        return replace(wish, x=x, y=y, angle=angle)
    low, high = ground.low + 8, ground.low + ground.extent - 8
    x, y = stream.uniform(low, high), stream.uniform(low, high)
    if name == "ship" and ground.flow is not None:
        angle = ground.flow + stream.integer(-2, 2) + stream.choice((0, 2 * QUARTER))
    elif name in ("airplane", "windmill", "ship", "storage tank"):
        angle = stream.angle()
    elif name == "helipad":
        angle = stream.integer(-3, 3)
    else:
        angle = ground.grid + QUARTER * stream.integer(0, 3) + (stream.integer(-3, 3) if stream.chance(0.3) else 0)
    return replace(wish, x=x, y=y, angle=angle % ANGLE_STEPS)


def _fits(candidate: Placement, ground: Ground, placed: Sequence[Placement]) -> bool:
    """Whether the object lies inside the image, apart from the others and on ground that suits it."""
    corners = candidate.corners()
    low, high = ground.low + BORDER, ground.low + ground.extent - BORDER
    if any(not (low <= x <= high and low <= y <= high) for x, y in corners):
        return False
    if any(_boxes_meet(candidate, other) for other in placed):
        return False
    name = candidate.category.name
    if name in ("bridge", "roundabout"):
        return True
    if name == "harbor":  # its quay on the land, the ends of its piers in the water
        landward, seaward = (corners[0], corners[1]), (corners[2], corners[3])
        return all(ground.label(x, y) == LAND for x, y in landward) and all(
            ground.label(x, y) == WATER for x, y in seaward
        )
    allowed = _STANDS_ON.get(name, (LAND,))
    if name == "windmill" and ground.theme == "sea":
        allowed = (WATER,)
    if name == "vehicle" and ground.lanes:
        allowed = (ROAD,)
    # The box and a margin, on a grid of points finer than the narrowest strip of other ground.
    cos, sin = UNIT[candidate.angle]
    a, b = candidate.half[0] + 1.5, candidate.half[1] + 1.0
    for i in range(7):
        for j in range(7):
            u, v = a * (i - 3) / 3, b * (j - 3) / 3
            x, y = candidate.x + u * cos - v * sin, candidate.y + u * sin + v * cos
            if ground.label(x, y) not in allowed:
                return False
    return True


def _boxes_meet(first: Placement, second: Placement) -> bool:
    """Whether two boxes come closer than ``GAP`` (separating axes)."""
    a, b = first.corners(GAP / 2), second.corners(GAP / 2)
    for angle in (first.angle, second.angle):
        cos, sin = UNIT[angle]
        for nx, ny in ((cos, sin), (-sin, cos)):
            pa, pb = [x * nx + y * ny for x, y in a], [x * nx + y * ny for x, y in b]
            if max(pa) < min(pb) or max(pb) < min(pa):
                return False
    return True


# -- rendering ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patch:
    """A drawn object at image resolution.

    Attributes:
        colour: int32 (h, w, 3), sum of the colours of a pixel's covered fine cells, 0 to 255 * 16.
        cover: int32 (h, w), number of covered fine cells, 0 to 16.
        left, top: the patch's corner in pixels of the image.
        shadow: length of its shadow in pixels; 0 for what lies flat.
        solid: whether the shadow reaches from the foot on.
    """

    colour: np.ndarray
    cover: np.ndarray
    left: int
    top: int
    shadow: float
    solid: bool

    @property
    def mask(self) -> np.ndarray:
        """Bool (h, w): what it covers by half or more."""
        return self.cover * 2 >= FULL


def draw_patches(placements: Iterable[Placement], unit: float, sun: int, stream: RandomStream) -> list[Patch]:
    """Draw every object.

    Args:
        placements: the objects.
        unit: pixels per unit.
        sun: index into ``UNIT``, the direction in which shadows fall.
        stream: source of chance.
    """
    patches = []
    for p in placements:
        cos, sin = abs(UNIT[p.angle][0]), abs(UNIT[p.angle][1])
        reach = max(p.half[0] * cos + p.half[1] * sin, p.half[0] * sin + p.half[1] * cos) + 0.5
        painter = Painter(p.x * unit, p.y * unit, p.angle, unit * p.factor, reach / p.factor, sun)
        if p.category.name == "bridge":
            p.category.draw(painter, p.rgb, stream, False, 2 * p.half[0], 2 * p.half[1])
        else:
            p.category.draw(painter, p.rgb, stream, bool(p.large))
        colour, cover = painter.result()
        height = p.category.height * p.factor * unit
        patches.append(Patch(colour, cover, painter.left, painter.top, height, p.category.solid))
    return patches


def lay_patches(image: np.ndarray, patches: Sequence[Patch], sun: int) -> None:
    """Lay the objects and their shadows on a ground, float32 (size, size, 3), in place."""
    size = len(image)
    shadow = np.zeros((size, size), np.float32)
    for patch in patches:
        if patch.shadow:
            steps = range(1, int(patch.shadow) + 1) if patch.solid else (int(patch.shadow),)
            for step in steps:
                left = patch.left + round(UNIT[sun][0] * step)
                top = patch.top + round(UNIT[sun][1] * step)
                rows, columns, part = _window(size, left, top, patch.cover)
                np.maximum(shadow[rows, columns], part * np.float32(1 / FULL), out=shadow[rows, columns])
    image *= (1 - shadow * np.float32(0.52))[..., None]
    for patch in patches:
        rows, columns, part = _window(size, patch.left, patch.top, patch.cover)
        _, _, paint = _window(size, patch.left, patch.top, patch.colour)
        window = image[rows, columns]
        window *= (1 - part * np.float32(1 / FULL))[..., None]
        window += paint * np.float32(1 / FULL)


def _render(ground: Ground, placements: list[Placement], stream: RandomStream) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the finished image, uint8 (size, size, 3), and one bool mask per placement."""
    size = len(ground.labels)
    patches = draw_patches(placements, size / NOMINAL, ground.sun, stream)
    lay_patches(ground.image, patches, ground.sun)
    masks = []
    for patch in patches:
        mask = np.zeros((size, size), bool)
        rows, columns, part = _window(size, patch.left, patch.top, patch.mask)
        mask[rows, columns] = part
        masks.append(mask)
    return expose(ground.image, stream), masks


def _window(size: int, left: int, top: int, patch: np.ndarray) -> tuple[slice, slice, np.ndarray]:
    """Cut a patch to the image; return the image's rows and columns and the part of the patch that lies on them."""
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(size, top + patch.shape[0]), min(size, left + patch.shape[1])
    y1, x1 = max(y0, y1), max(x0, x1)
    return slice(y0, y1), slice(x0, x1), patch[y0 - top : y1 - top, x0 - left : x1 - left]


def expose(image: np.ndarray, stream: RandomStream) -> np.ndarray:
    """Add light, haze and sensor noise to float32 (size, size, 3), and round to uint8."""
    gain = stream.uniform(0.86, 1.08)
    haze = stream.uniform(0, 14)
    grain = stream.uniform(1.5, 5.0) / 148
    size = len(image)
    common = stream.bell(size, size).astype(np.float32) * np.float32(grain)
    out = np.empty(image.shape, np.uint8)
    for c, tint in enumerate((stream.uniform(0.96, 1.04), 1.0, stream.uniform(0.95, 1.05))):
        own = stream.bell(size, size).astype(np.float32) * np.float32(grain * 0.6)
        value = image[..., c] * np.float32(gain * tint) + np.float32(haze) + common + own
        out[..., c] = np.floor(np.clip(value, 0, 255) + np.float32(0.5)).astype(np.uint8)
    return out
