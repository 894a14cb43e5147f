"""The ground of a scene: textures, water, roads, and the places that objects may take.

Coordinates are in units (1/128 of the image side) from the upper left corner, x to the right and y down. A *line* is
``(x - 64) cos k + (y - 64) sin k = d``; its signed distance grows in direction k (an index into ``UNIT``).

A ground may extend beyond these 128 units, by as much on all four sides: the middle stays at (64, 64), and coordinates
to the left of the usual image are negative. Districts of a large scene are made so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rrsis_zoo.data.synthetic.chance import ANGLE_STEPS, UNIT, RandomStream
from rrsis_zoo.data.synthetic.draw import ASPHALT, NOMINAL, Colour

LAND, PAVED, ROAD, WATER = 0, 1, 2, 3
"""Values of ``Ground.labels``."""

QUARTER = ANGLE_STEPS // 4


@dataclass(frozen=True)
class Spot:
    """A place that the ground was made for: where one object of the category fits, and how it must lie.

    Attributes:
        category: what stands here.
        x, y: centre in units.
        angle: index into ``UNIT``.
        length, width: of the object in units, where the ground decides them (bridges).
    """

    category: str
    x: float
    y: float
    angle: int
    length: float = 0.0
    width: float = 0.0


@dataclass(frozen=True)
class Lane:
    """A road: its line's angle k and offset d, and half its width, in units."""

    k: int
    d: float
    half: float


@dataclass
class Ground:
    """What lies under the objects.

    Attributes:
        theme: name of the kind of scene.
        image: float32 (size, size, 3), 0 to 255.
        labels: uint8 (size, size), LAND, PAVED, ROAD or WATER.
        grid: index into ``UNIT``; buildings and courts mostly follow this direction.
        sun: index into ``UNIT``, the direction in which shadows fall.
        flow: index into ``UNIT``, along the shore or the river; None on dry land.
        spots: places for bridges, harbors and roundabouts.
        lanes: roads that are wide enough for vehicles.
        extent: side in units.
    """

    theme: str
    image: np.ndarray
    labels: np.ndarray
    grid: int
    sun: int
    flow: int | None = None
    spots: list[Spot] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    extent: float = NOMINAL

    @property
    def low(self) -> float:
        """The least coordinate on both axes, in units; the greatest is ``low + extent``."""
        return NOMINAL / 2 - self.extent / 2

    def label(self, x: float, y: float) -> int:
        """Return what lies at a point in units; beyond the border what lies next to it."""
        size = len(self.labels)
        scale = size / self.extent
        column = min(size - 1, max(0, int((x - self.low) * scale)))
        row = min(size - 1, max(0, int((y - self.low) * scale)))
        return int(self.labels[row, column])


def point_on(k: int, d: float, t: float) -> tuple[float, float]:
    """Return the point of the line (k, d) at distance t from the foot of the image's centre."""
    cos, sin = UNIT[k]
    return 64 + cos * d - sin * t, 64 + sin * d + cos * t


class _Canvas:
    """Texture painting at image resolution; ``extent`` units a side, shadows in direction ``sun``, or a random one."""

    def __init__(self, size: int, stream: RandomStream, extent: float = NOMINAL, sun: int | None = None) -> None:
        self.size, self.stream, self.extent = size, stream, extent
        self.low, self.scale, self.wide = NOMINAL / 2 - extent / 2, size / extent, extent / NOMINAL
        self.sun = stream.angle() if sun is None else sun
        axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(extent / size) + np.float32(self.low)
        self.x, self.y = np.broadcast_to(axis[None, :], (size, size)), np.broadcast_to(axis[:, None], (size, size))
        self.image = np.zeros((size, size, 3), np.float32)
        self.labels = np.zeros((size, size), np.uint8)

    # -- fields of numbers -------------------------------------------------------------------------------------------

    def noise(self, cells: int, along: int | None = None, stretch: float = 1.0) -> np.ndarray:
        """Smooth noise in [-1, 1] with ``cells`` cells per 128 units, drawn out along a direction by ``stretch``."""
        n = int(cells * self.wide) + 4
        lattice = self.stream.grid(n, n)
        if along is None:  # on the image's own axes one interpolation per axis will do
            low, high, part = self._cell(self.x[0], cells, n)
            rows = lattice[low] * (1 - part)[:, None] + lattice[high] * part[:, None]
            return rows[:, low] * (1 - part) + rows[:, high] * part
        cos, sin = (np.float32(value) for value in UNIT[along])
        x0, x1, fx = self._cell(((self.x - 64) * cos + (self.y - 64) * sin) / np.float32(stretch) + 64, cells, n)
        y0, y1, fy = self._cell((self.y - 64) * cos - (self.x - 64) * sin + 64, cells, n)
        upper = lattice[y0, x0] * (1 - fx) + lattice[y0, x1] * fx
        lower = lattice[y1, x0] * (1 - fx) + lattice[y1, x1] * fx
        return upper * (1 - fy) + lower * fy

    @staticmethod
    def _cell(position: np.ndarray, cells: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the two lattice indices around positions in units, and a smooth part of the way between them."""
        # Rotated coordinates reach beyond the image, by up to 27 units of 128: the lattice repeats.
        grid = position * np.float32(cells / NOMINAL) + n
        low = np.floor(grid).astype(np.int32)
        part = grid - low
        return low % n, (low + 1) % n, part * part * (3 - 2 * part)

    def distance(self, k: int, d: float) -> np.ndarray:
        """Signed distance to a line, in units."""
        cos, sin = (np.float32(value) for value in UNIT[k])
        return (self.x - 64) * cos + (self.y - 64) * sin - np.float32(d)

    def along(self, k: int) -> np.ndarray:
        """Position along lines of angle k, in units."""
        cos, sin = (np.float32(value) for value in UNIT[k])
        return (self.y - 64) * cos - (self.x - 64) * sin

    # -- textures ----------------------------------------------------------------------------------------------------

    def texture(self, name: str) -> np.ndarray:
        """Return a texture, float32 (size, size, 3)."""
        base, amplitude = _TEXTURES[name]
        jitter = self.stream.uniform(0.93, 1.07)
        tone = self.noise(4) * np.float32(0.6) + self.noise(14) * np.float32(0.4)
        if name == "water":
            tone = self.noise(5) * np.float32(0.6) + self.noise(26, self.stream.angle(), 2.5) * np.float32(0.6)
        elif name == "field":
            k = self.stream.angle(3)
            period = self.stream.choice((5.0, 6.0, 8.0))
            phase = self.distance(k, 300.0) * np.float32(-1 / period)
            phase = phase - np.floor(phase)
            tone = tone * np.float32(0.5) + (np.abs(phase * 2 - 1) * 2 - 1) * np.float32(0.8)
        elif name == "forest":
            tone = self._crowns() + tone * np.float32(0.3)
        elif name == "concrete":
            tone = tone + self._joints()
        out = np.empty((self.size, self.size, 3), np.float32)
        for c in range(3):
            out[..., c] = np.float32(base[c] * jitter) + tone * np.float32(amplitude[c])
        return out

    def _crowns(self) -> np.ndarray:
        """Tree crowns seen from above: bright tops, dark gaps; about [-1, 1]."""
        cells = int(16 * self.wide) + 3
        step = np.float32(NOMINAL / 16)
        px, py = (
            self.stream.grid(cells, cells) * np.float32(0.42),
            self.stream.grid(cells, cells) * np.float32(0.42),
        )
        gx, gy = self.x / step, self.y / step
        ix, iy = np.floor(gx).astype(np.int32), np.floor(gy).astype(np.int32)
        nearest = np.full(self.x.shape, 4, np.float32)
        for oy in (0, 1, 2):
            for ox in (0, 1, 2):
                jx, jy = ix + ox, iy + oy
                dx = gx - (jx - np.float32(0.5)) - px[jy % cells, jx % cells]
                dy = gy - (jy - np.float32(0.5)) - py[jy % cells, jx % cells]
                np.minimum(nearest, dx * dx + dy * dy, out=nearest)
        return np.float32(0.9) - nearest * np.float32(3.6)

    def _joints(self) -> np.ndarray:
        """Joints of concrete slabs: 0 on the slab, negative in the joint."""
        k = self.stream.angle(3)
        out = np.zeros(self.x.shape, np.float32)
        for angle in (k, k + QUARTER):
            s = self.distance(angle % ANGLE_STEPS, 0.0) + 400
            out = out - ((s - np.floor(s / 20) * 20) < 1).astype(np.float32) * np.float32(1.1)
        return out

    def lay(self, cover: np.ndarray, texture: np.ndarray, label: int | None) -> None:
        """Blend a texture in with cover in [0, 1]; where it covers half or more the label becomes ``label``."""
        self.image += (texture - self.image) * cover[..., None]
        if label is not None:
            np.copyto(self.labels, np.uint8(label), where=cover >= 0.5)

    def plain(self, colour: Colour, amount: float = 4.0) -> np.ndarray:
        """Return a colour with a little smooth noise."""
        return np.asarray(colour, np.float32) + (self.noise(10) * np.float32(amount))[..., None]

    def edge(self, inside: np.ndarray, softness: float = 1.0) -> np.ndarray:
        """Turn a distance (positive inside, units) into cover in [0, 1]."""
        return np.clip(inside * np.float32(self.scale / softness) + np.float32(0.5), 0, 1)

    # -- things ------------------------------------------------------------------------------------------------------

    def road(self, lane: Lane) -> None:
        """Lay a straight road with kerbs and a dashed middle line."""
        s = np.abs(self.distance(lane.k, lane.d))
        self.lay(self.edge(lane.half + 1.6 - s), self.plain((172, 168, 158)), ROAD)
        self.lay(self.edge(lane.half - s), self.plain(ASPHALT, 5), ROAD)
        t = self.along(lane.k) + 400
        dashes = (t - np.floor(t / 12) * 12) < 6
        self.lay(self.edge(0.6 - s) * dashes, self.plain((232, 228, 210), 0), None)

    def trees(self, count: int) -> None:
        """Scatter single trees with their shadows over the land, ``count`` on 128 × 128 units."""
        low, high, scale = self.low + 3, self.low + self.extent - 3, self.scale
        for _ in range(int(count * self.wide * self.wide)):
            x, y, r = self.stream.uniform(low, high), self.stream.uniform(low, high), self.stream.uniform(1.8, 3.4)
            if self.labels[int((y - self.low) * scale), int((x - self.low) * scale)] != LAND:
                continue
            tone = self.stream.uniform(0.8, 1.2)
            # Only the window around the tree is touched.
            x0, x1 = int(max(0, (x - 6 - self.low) * scale)), int(min(self.size, (x + 7 - self.low) * scale))
            y0, y1 = int(max(0, (y - 6 - self.low) * scale)), int(min(self.size, (y + 7 - self.low) * scale))
            wx, wy = self.x[y0:y1, x0:x1], self.y[y0:y1, x0:x1]
            land = (self.labels[y0:y1, x0:x1] == LAND).astype(np.float32)
            window = self.image[y0:y1, x0:x1]
            cos, sin = UNIT[self.sun]
            for away, colour, part in ((1.8, (24, 34, 24), 0.55), (0.0, (44, 84, 40), 1.0), (-1.0, (84, 126, 62), 0.8)):
                radius = r if away >= 0 else r * 0.5
                squared = (wx - np.float32(x + away * cos)) ** 2 + (wy - np.float32(y + away * sin)) ** 2
                cover = self.edge((np.float32(radius * radius) - squared) / np.float32(2 * radius)) * land
                paint = np.asarray(colour, np.float32) * np.float32(tone)
                window += (paint - window) * (cover * np.float32(part))[..., None]


_TEXTURES: dict[str, tuple[Colour, tuple[float, float, float]]] = {
    "grass": ((104, 124, 74), (12, 12, 9)),
    "dry": ((158, 148, 104), (13, 12, 10)),
    "field": ((136, 138, 84), (16, 13, 10)),
    "soil": ((164, 136, 106), (13, 12, 10)),
    "forest": ((58, 84, 52), (22, 26, 18)),
    "concrete": ((176, 174, 168), (10, 10, 10)),
    "water": ((44, 82, 106), (8, 11, 12)),
}
"""Mean colour and amplitude per channel."""


def _base(canvas: _Canvas, *names: str) -> None:
    canvas.image = canvas.texture(canvas.stream.choice(names))


def _patches(canvas: _Canvas, names: tuple[str, ...], count: int) -> None:
    """Divide the land by straight lines into parcels of different textures."""
    for _ in range(count):
        k, d = canvas.stream.angle(6), canvas.stream.uniform(-40, 40)
        canvas.lay(canvas.edge(canvas.distance(k, d)), canvas.texture(canvas.stream.choice(names)), None)


def _lay_water(canvas: _Canvas, inside: np.ndarray) -> None:
    """Lay water with a sandy rim where the distance is positive; wobble the shore a little."""
    wobbly = inside + canvas.noise(7) * np.float32(2.2)
    canvas.lay(canvas.edge(wobbly + 4, 2), canvas.plain((190, 176, 142), 6), LAND)
    canvas.lay(canvas.edge(wobbly, 1.5), canvas.texture("water"), WATER)
    foam = canvas.edge(wobbly) * canvas.edge(np.float32(1.6) - wobbly, 1.5) * np.float32(0.45)
    canvas.lay(foam, canvas.plain((206, 216, 214)), None)


def _sea(canvas: _Canvas) -> Ground:
    canvas.image = canvas.texture("water")
    canvas.labels[:] = WATER
    flow = canvas.stream.angle(2)
    return Ground("sea", canvas.image, canvas.labels, flow, canvas.sun)


def _coast(canvas: _Canvas) -> Ground:
    stream = canvas.stream
    _base(canvas, "grass", "dry", "soil")
    k, d = stream.angle(3), stream.uniform(-14, 8)
    _lay_water(canvas, canvas.distance(k, d))
    canvas.trees(stream.integer(6, 18))
    spots = []
    for t in stream.shuffled((-32.0, -16.0, 0.0, 16.0, 32.0)):
        x, y = point_on(k, d + 5.0, t * canvas.wide + stream.uniform(-6, 6))
        spots.append(Spot("harbor", x, y, (k - QUARTER) % ANGLE_STEPS))
    return Ground("coast", canvas.image, canvas.labels, k, canvas.sun, (k + QUARTER) % ANGLE_STEPS, spots)


def _river(canvas: _Canvas) -> Ground:
    stream = canvas.stream
    _base(canvas, "grass", "dry", "forest", "field")
    k, d, half = stream.angle(3), stream.uniform(-16, 16), stream.uniform(16, 20)
    width = stream.uniform(15, 19)
    first, apart = stream.uniform(-34, 2), stream.uniform(34, 44)
    places = [first, first + apart] if stream.chance(0.6) else [stream.uniform(-30, 30)]
    across = (k + QUARTER) % ANGLE_STEPS
    spots = []
    for t in places:
        # The road crosses the river at a right angle: the line with normal k + 90 degrees at offset t.
        canvas.road(Lane(across, t, width / 2 - 1.6))
        x, y = point_on(k, d, t)
        spots.append(Spot("bridge", x, y, k, 2 * half + 9, width))
    _lay_water(canvas, np.float32(half) - np.abs(canvas.distance(k, d)))
    canvas.trees(stream.integer(6, 16))
    return Ground("river", canvas.image, canvas.labels, k, canvas.sun, across, spots)


def _apron(canvas: _Canvas) -> Ground:
    stream = canvas.stream
    canvas.image = canvas.texture("concrete")
    canvas.labels[:] = PAVED
    k = stream.angle(3)
    d = stream.uniform(30, 46)
    canvas.lay(canvas.edge(canvas.distance(k, d)), canvas.texture(stream.choice(("grass", "dry"))), LAND)
    s = np.abs(canvas.distance(k, stream.uniform(-30, 20)))
    canvas.lay(canvas.edge(1.0 - s), canvas.plain((214, 182, 66), 0), None)
    return Ground("apron", canvas.image, canvas.labels, k, canvas.sun)


def _industry(canvas: _Canvas) -> Ground:
    stream = canvas.stream
    _base(canvas, "soil", "dry")
    k = stream.angle(3)
    canvas.lay(canvas.edge(canvas.distance(k, stream.uniform(-50, 10))), canvas.texture("concrete"), PAVED)
    lanes = []
    if stream.chance(0.6):
        lanes = [Lane((k + QUARTER) % ANGLE_STEPS, stream.uniform(-36, 36), 13)]
        canvas.road(lanes[0])
    canvas.trees(stream.integer(0, 8))
    return Ground("industry", canvas.image, canvas.labels, k, canvas.sun, lanes=lanes)


def _suburb(canvas: _Canvas) -> Ground:
    stream = canvas.stream
    _base(canvas, "grass", "dry")
    k = stream.angle(3)
    lanes = [Lane(k, stream.uniform(-30, 30), 13)]
    if stream.chance(0.35):
        lanes.append(Lane((k + QUARTER) % ANGLE_STEPS, stream.uniform(-34, 34), 13))
    for lane in lanes:
        canvas.road(lane)
    if len(lanes) == 2:  # the crossing itself has no markings
        a, b = (np.abs(canvas.distance(lane.k, lane.d)) for lane in lanes)
        canvas.lay(canvas.edge(12.9 - np.maximum(a, b)), canvas.plain(ASPHALT, 4), ROAD)
    canvas.trees(stream.integer(10, 26))
    return Ground("suburb", canvas.image, canvas.labels, k, canvas.sun, lanes=lanes)


def _sports(canvas: _Canvas) -> Ground:
    _base(canvas, "grass", "dry", "soil")
    k = canvas.stream.angle(3)
    canvas.trees(canvas.stream.integer(8, 22))
    return Ground("sports", canvas.image, canvas.labels, k, canvas.sun)


def _farmland(canvas: _Canvas) -> Ground:
    stream = canvas.stream
    _base(canvas, "field", "grass", "dry")
    _patches(canvas, ("field", "soil", "dry", "grass", "forest"), stream.integer(1, 3))
    lanes = []
    k = stream.angle(3)
    if stream.chance(0.5):
        lanes = [Lane(k, stream.uniform(-36, 36), 12)]
        canvas.road(lanes[0])
    canvas.trees(stream.integer(0, 10))
    return Ground("farmland", canvas.image, canvas.labels, k, canvas.sun, lanes=lanes)


def _junction(canvas: _Canvas) -> Ground:
    stream = canvas.stream
    _base(canvas, "grass", "dry")
    k, d = stream.angle(3), stream.uniform(-24, 24)
    across = (k + QUARTER) % ANGLE_STEPS
    first, apart = stream.uniform(-38, -20), stream.uniform(50, 62)
    places = [first, first + apart] if stream.chance(0.6) else [stream.uniform(-30, 30)]
    spots = []
    for t in places:
        canvas.road(Lane(across, t, 6.5))
    main = Lane(k, d, 12)
    canvas.road(main)
    for t in places:
        x, y = point_on(k, d, t)
        spots.append(Spot("roundabout", x, y, k))
    canvas.trees(stream.integer(6, 20))
    return Ground("junction", canvas.image, canvas.labels, k, canvas.sun, spots=spots, lanes=[main])


Builder = Callable[[_Canvas], Ground]


@dataclass(frozen=True)
class Theme:
    """A kind of scene: how often it is drawn, how its ground is made, and what stands on it how often."""

    weight: int
    build: Builder
    objects: dict[str, int]


THEMES: dict[str, Theme] = {
    "sea": Theme(8, _sea, {"ship": 5, "windmill": 4}),
    "coast": Theme(
        16, _coast, {"harbor": 10, "ship": 8, "building": 3, "storage tank": 3, "swimming pool": 3, "helipad": 2}
    ),
    "river": Theme(12, _river, {"bridge": 9, "ship": 5, "building": 4, "storage tank": 2, "windmill": 2}),
    "apron": Theme(13, _apron, {"airplane": 14, "helipad": 5, "vehicle": 4, "building": 3}),
    "industry": Theme(9, _industry, {"storage tank": 8, "building": 5, "vehicle": 5, "helipad": 2}),
    "suburb": Theme(
        12, _suburb, {"vehicle": 7, "building": 6, "swimming pool": 7, "tennis court": 4, "basketball court": 4}
    ),
    "sports": Theme(
        24,
        _sports,
        {
            "tennis court": 4,
            "basketball court": 4,
            "baseball field": 9,
            "ground track field": 11,
            "soccer field": 8,
            "stadium": 10,
            "swimming pool": 3,
        },
    ),
    "farmland": Theme(9, _farmland, {"windmill": 8, "building": 4, "vehicle": 4, "storage tank": 3}),
    "junction": Theme(
        11, _junction, {"roundabout": 10, "vehicle": 4, "building": 4, "soccer field": 1, "tennis court": 3}
    ),
}
"""Kinds of scenes by name."""


def make_ground(size: int, stream: RandomStream) -> Ground:
    """Return a random ground.

    Args:
        size: side of the image in pixels.
        stream: source of chance.
    """
    theme = stream.weighted(list(THEMES.values()), [theme.weight for theme in THEMES.values()])
    return theme.build(_Canvas(size, stream))


def make_district(theme: str, size: int, extent: float, sun: int, stream: RandomStream) -> Ground:
    """Return a ground of a given kind and extent, for a part of a large scene.

    Args:
        theme: a key of ``THEMES``.
        size: side in pixels.
        extent: side in units.
        sun: index into ``UNIT``, the direction in which shadows fall.
        stream: source of chance.
    """
    ground = THEMES[theme].build(_Canvas(size, stream, extent, sun))
    ground.extent = extent
    return ground


def smooth_noise(size: int, cells: int, stream: RandomStream) -> np.ndarray:
    """Return smooth noise in [-1, 1], float32 (size, size), with ``cells`` cells per 128 pixels."""
    return _Canvas(size, stream, float(size), 0).noise(cells)
