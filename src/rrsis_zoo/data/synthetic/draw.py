"""Objects seen from above, painted in the object's own axes.

A drawing is a list of strokes ``(region, colour)`` on a patch that is ``OVERSAMPLING`` times finer than the image.
The object's own coordinates are ``u`` (along its length) and ``v`` (across), in units of 1/128 of the image side, so
that an object covers the same part of an image of any size. The mask is every pixel that the object covers by half or
more; shadows are not part of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rrsis_zoo.data.synthetic.chance import UNIT, RandomStream

OVERSAMPLING = 4
NOMINAL = 128
"""Lengths in this package are in units of 1/128 of the image side: pixels, at the default size."""

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "white": (238, 238, 234),
    "grey": (128, 130, 136),
    "black": (30, 31, 36),
    "red": (196, 42, 38),
    "yellow": (234, 200, 50),
    "green": (44, 140, 74),
    "blue": (38, 88, 190),
    "brown": (126, 82, 50),
}
"""The colours that an expression can name."""


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker (factor < 1) or lighter (factor > 1)."""
    r, g, b = (max(0, min(255, int(channel * factor))) for channel in colour)
    return r, g, b


def mix(first: Colour, second: Colour, part: float) -> Colour:
    """Return the colour that is ``part`` of the second and the rest of the first."""
    r, g, b = (int(a + (z - a) * part) for a, z in zip(first, second, strict=True))
    return r, g, b


class Painter:
    """A patch of the image in an object's own axes.

    Args:
        x, y: the object's centre in pixels, from the image's upper left corner.
        angle: index into ``UNIT``.
        scale: pixels per unit.
        reach: half the side of the patch, in units.
        sun: index into ``UNIT``, the direction in which shadows fall.

    Attributes:
        u, v: float32 (H, W) own coordinates of the fine grid, in units.
        left, top: the patch's corner in image pixels.
    """

    def __init__(self, x: float, y: float, angle: int, scale: float, reach: float, sun: int) -> None:
        # Centres are multiples of 1/16 px, so that the differences below are exact.
        x, y = round(x * 16) / 16, round(y * 16) / 16
        half = reach * scale + 1
        self.left, self.top = int(x - half), int(y - half)
        width, height = int(x + half) + 2 - self.left, int(y + half) + 2 - self.top
        px = (np.arange(width * OVERSAMPLING, dtype=np.float32) + 0.5) / OVERSAMPLING + np.float32(self.left - x)
        py = (np.arange(height * OVERSAMPLING, dtype=np.float32) + 0.5) / OVERSAMPLING + np.float32(self.top - y)
        cos, sin = (np.float32(value) for value in UNIT[angle])
        unit = np.float32(1 / scale)
        self.u = (px * cos)[None, :] * unit + (py * sin)[:, None] * unit
        self.v = (py * cos)[:, None] * unit - (px * sin)[None, :] * unit
        self._index = np.zeros(self.u.shape, np.uint8)
        self._palette: list[Colour] = [(0, 0, 0)]
        sx, sy = UNIT[sun]
        cos, sin = UNIT[angle]
        self.sun = (sx * cos + sy * sin, sy * cos - sx * sin)
        """The direction of shadows in the object's own axes."""

    def paint(self, region: np.ndarray, colour: Colour) -> None:
        """Paint the region over what is there; the object's body grows by it."""
        np.copyto(self._index, np.uint8(len(self._palette)), where=region)
        self._palette.append(colour)

    def paint_on(self, region: np.ndarray, colour: Colour) -> None:
        """Paint the part of the region that lies on the body; the body stays as it is."""
        self.paint(region & (self._index > 0), colour)

    # -- regions -----------------------------------------------------------------------------------------------------

    def box(self, u0: float, u1: float, v0: float, v1: float) -> np.ndarray:
        """Rectangle."""
        return (self.u >= u0) & (self.u <= u1) & (self.v >= v0) & (self.v <= v1)

    def frame(self, u0: float, u1: float, v0: float, v1: float, width: float) -> np.ndarray:
        """Outline of a rectangle; the line lies inside."""
        return self.box(u0, u1, v0, v1) & ~self.box(u0 + width, u1 - width, v0 + width, v1 - width)

    def ellipse(self, a: float, b: float, u: float = 0.0, v: float = 0.0) -> np.ndarray:
        """Ellipse with half axes a (along u) and b, around (u, v)."""
        du, dv = (self.u - np.float32(u)) / np.float32(a), (self.v - np.float32(v)) / np.float32(b)
        return du * du + dv * dv <= 1

    def disc(self, r: float, u: float = 0.0, v: float = 0.0) -> np.ndarray:
        """Disc around (u, v)."""
        return self.ellipse(r, r, u, v)

    def ring(self, r: float, width: float, u: float = 0.0, v: float = 0.0) -> np.ndarray:
        """Ring with outer radius r."""
        return self.disc(r, u, v) & ~self.disc(r - width, u, v)

    def capsule(self, a: float, b: float) -> np.ndarray:
        """Rectangle with half-round ends: half length a, half width b."""
        du = np.maximum(np.abs(self.u) - np.float32(a - b), np.float32(0))
        return du * du + self.v * self.v <= np.float32(b * b)

    def rounded(self, a: float, b: float, r: float) -> np.ndarray:
        """Rectangle with rounded corners: half length a, half width b, corner radius r."""
        du = np.maximum(np.abs(self.u) - np.float32(a - r), np.float32(0))
        dv = np.maximum(np.abs(self.v) - np.float32(b - r), np.float32(0))
        return du * du + dv * dv <= np.float32(r * r)

    def blade(self, direction: tuple[float, float], length: float, root: float, tip: float) -> np.ndarray:
        """Tapered strip from the centre in a direction (cosine, sine): width ``root`` at the centre, ``tip`` far."""
        cos, sin = (np.float32(value) for value in direction)
        along = self.u * cos + self.v * sin
        across = np.abs(self.v * cos - self.u * sin)
        half = np.float32(root / 2) - along * np.float32((root - tip) / 2 / length)
        return (along >= 0) & (along <= np.float32(length)) & (across <= half)

    # -- result ------------------------------------------------------------------------------------------------------

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the patch at image resolution.

        Returns:
            Colours, int32 (h, w, 3): sum over a pixel's covered fine cells, so 0 to 255 * 16.
            Coverage, int32 (h, w): the number of covered fine cells, 0 to 16.
        """
        h, w = (n // OVERSAMPLING for n in self._index.shape)
        cells = self._index.reshape(h, OVERSAMPLING, w, OVERSAMPLING)
        palette = np.array(self._palette, np.int32)
        colour, cover = np.zeros((h, w, 3), np.int32), np.zeros((h, w), np.int32)
        for i in range(OVERSAMPLING):
            for j in range(OVERSAMPLING):
                cell = cells[:, i, :, j]
                colour += palette[cell]
                cover += cell > 0
        return colour, cover


# -- the objects -------------------------------------------------------------------------------------------------------

LINE: Colour = (236, 238, 232)
ASPHALT: Colour = (96, 97, 102)
PITCH: Colour = (74, 142, 62)
PITCH_LIGHT: Colour = (92, 160, 74)


def _vehicle(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    glass = (44, 52, 62) if sum(body) > 200 else (104, 120, 138)
    if not large:
        p.paint(p.rounded(10, 5.2, 2.6), body)
        p.paint_on(p.frame(-9.9, 9.9, -5.1, 5.1, 0.9), shade(body, 0.72))
        p.paint(p.box(2.4, 5.6, -4, 4), glass)
        p.paint(p.box(-7.6, -5.4, -3.8, 3.8), glass)
        p.paint(p.box(-5.0, 2.0, -3.7, 3.7), mix(body, (255, 255, 255), 0.14))
        p.paint(p.box(8.6, 9.8, -4.4, -2.4) | p.box(8.6, 9.8, 2.4, 4.4), (250, 244, 206))
        return
    p.paint(p.box(-16, 7.6, -6.2, 6.2), body)
    p.paint(p.box(7.2, 9.4, -2.6, 2.6), (58, 58, 60))
    p.paint(p.box(8.8, 16, -5.4, 5.4), shade(body, 0.8) if stream.chance(0.6) else (222, 222, 220))
    p.paint(p.box(12.8, 15.2, -4.4, 4.4), glass)
    p.paint_on(p.frame(-16, 7.6, -6.2, 6.2, 1.0), shade(body, 0.7))
    for u in (-10.2, -4.4, 1.4):
        p.paint_on(p.box(u, u + 0.8, -5.2, 5.2), shade(body, 0.82))


def _ship(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    bow = np.maximum(p.u - np.float32(5), np.float32(0)) / np.float32(15)
    stern = np.maximum(np.float32(-16) - p.u, np.float32(0)) / np.float32(8)
    half = np.float32(6.8) * (1 - bow * bow - stern * stern)
    inside = (p.u >= -20) & (p.u <= 20)
    p.paint(inside & (np.abs(p.v) <= half), shade(body, 0.66))
    p.paint(inside & (np.abs(p.v) <= half - np.float32(1.3)) & (p.u >= -18.6) & (p.u <= 18), body)
    p.paint(p.box(-16.4, -9.6, -4.6, 4.6), (246, 246, 242))
    p.paint(p.box(-11.4, -10.2, -3.8, 3.8), (52, 58, 66))
    p.paint(p.disc(1.5, -14.2), (60, 60, 62))
    hatch = shade(body, 0.72) if sum(body) > 200 else (120, 122, 126)
    for u in (-7.2, -1.4, 4.4):
        p.paint_on(p.box(u, u + 4.4, -3.6, 3.6), hatch)
    p.paint_on(p.box(12, 16, -0.5, 0.5), (230, 230, 226))


def _airplane(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    side = np.abs(p.v)
    # Swept wings: the leading and the trailing edge both run back with the distance from the fuselage.
    wing = (p.u <= 6.5 - 0.62 * side) & (p.u >= -3.5 - 0.28 * side) & (side <= 20)
    tail = (p.u <= -11.6 - 0.5 * side) & (p.u >= -16.6 - 0.3 * side) & (side <= 8.4)
    nose = np.maximum(p.u - np.float32(12), np.float32(0)) / np.float32(8)
    cone = np.maximum(np.float32(-11) - p.u, np.float32(0)) / np.float32(10)
    fuselage = (side <= np.float32(3.6) * (1 - nose * nose - np.float32(0.7) * cone)) & (p.u >= -20) & (p.u <= 20)
    p.paint(wing | tail, shade(body, 0.86))
    p.paint_on(wing & (p.u >= 4.6 - 0.62 * side), shade(body, 0.68))
    for v in (-9.4, 9.4):
        p.paint(p.box(-1.2, 4.4, v - 1.7, v + 1.7), (122, 126, 134))
        p.paint(p.box(3.2, 4.4, v - 1.7, v + 1.7), (44, 46, 50))
    p.paint(fuselage, body)
    p.paint_on(p.box(-19.6, -13.4, -0.7, 0.7), shade(body, 0.62))
    p.paint(p.box(15.4, 17.2, -1.9, 1.9), (40, 46, 56))


def _storage_tank(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    su, sv = p.sun
    p.paint(p.disc(11.5), shade(body, 0.7))
    p.paint(p.disc(10.2), body)
    # A floating roof lies below the rim: the rim on the sun's side throws a crescent on it.
    p.paint(p.disc(10.2) & ~p.disc(10.2, 2.6 * su, 2.6 * sv), shade(body, 0.52))
    p.paint(p.ring(6, 0.8), shade(body, 0.84))
    p.paint(p.disc(1.3), shade(body, 0.6))
    p.paint(p.box(1, 11, -0.6, 0.6), shade(body, 0.64))


def _tennis_court(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    p.paint(p.box(-18, 18, -10.5, 10.5), shade(body, 0.72))
    p.paint(p.box(-13, 13, -6.8, 6.8), mix(body, (255, 255, 255), 0.1))
    p.paint(p.frame(-13, 13, -6.8, 6.8, 0.9), LINE)
    for v in (-5.2, 4.4):
        p.paint(p.box(-13, 13, v, v + 0.8), LINE)
    for u in (-7.2, 6.4):
        p.paint(p.box(u, u + 0.8, -5.2, 5.2), LINE)
    p.paint(p.box(-7.2, 7.2, -0.4, 0.4), LINE)
    p.paint(p.box(-0.6, 0.6, -8.2, 8.2), (40, 44, 46))


def _basketball_court(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    wood = (206, 160, 104)
    p.paint(p.box(-17, 17, -10, 10), shade(body, 0.8))
    p.paint(p.box(-14.6, 14.6, -8, 8), wood)
    p.paint(p.frame(-14.6, 14.6, -8, 8, 0.9), LINE)
    p.paint(p.box(-0.4, 0.4, -8, 8), LINE)
    p.paint(p.disc(3.2), body)
    p.paint(p.ring(3.4, 0.8), LINE)
    for end in (-1, 1):
        u0, u1 = sorted((end * 14.2, end * 8.4))
        arc = p.ring(6.9, 0.8, end * 13, 0) & (p.u * end <= 14)
        p.paint_on(arc, LINE)
        p.paint(p.box(u0, u1, -2.7, 2.7), body)
        p.paint(p.frame(u0, u1, -2.7, 2.7, 0.7), LINE)
        p.paint(p.disc(1.1, end * 12.8), (214, 70, 30))


def _soccer_field(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    p.paint(p.box(-24, 24, -15.5, 15.5), PITCH)
    stripe = np.floor((p.u + np.float32(24)) / np.float32(4)).astype(np.int8) % 2 == 0
    p.paint_on(stripe, PITCH_LIGHT)
    p.paint(p.frame(-22, 22, -13.6, 13.6, 0.9), LINE)
    p.paint(p.box(-0.45, 0.45, -13.6, 13.6), LINE)
    p.paint(p.ring(5, 0.9), LINE)
    for end in (-1, 1):
        u0, u1 = sorted((end * 22, end * 15))
        p.paint(p.frame(u0, u1, -7.6, 7.6, 0.9), LINE)
        u0, u1 = sorted((end * 22, end * 19))
        p.paint(p.frame(u0, u1, -3.6, 3.6, 0.8), LINE)


def _ground_track_field(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    p.paint(p.capsule(28, 17.5), body)
    for lane in (1.6, 3.6):
        p.paint(p.capsule(28 - lane, 17.5 - lane) & ~p.capsule(27.4 - lane, 16.9 - lane), (232, 214, 206))
    p.paint(p.capsule(22, 11.5), LINE)
    p.paint(p.capsule(21.3, 10.8), (98, 150, 74))
    p.paint(p.box(-13, 13, -8, 8), PITCH)
    p.paint(p.frame(-13, 13, -8, 8, 0.8), LINE)
    p.paint(p.box(-0.4, 0.4, -8, 8), LINE)
    p.paint(p.ring(3, 0.7), LINE)


def _baseball_field(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    # A quarter disc whose corner, the home plate, lies at u = -17; the foul lines run at 45 degrees to both sides.
    du = p.u + np.float32(17)
    wedge = np.abs(p.v) <= du + np.float32(2.5)
    far = np.float32(36) * np.float32(36)
    reach = du * du + p.v * p.v
    p.paint(wedge & (reach <= far) & (du >= -2), (160, 112, 70))
    p.paint_on((reach <= np.float32(32.5 * 32.5)), PITCH)
    p.paint_on(
        (reach <= np.float32(32.5 * 32.5)) & (np.floor(reach / np.float32(90)).astype(np.int16) % 2 == 0), PITCH_LIGHT
    )
    infield = (du - 11) * (du - 11) + p.v * p.v <= 13.5 * 13.5
    p.paint_on(infield & (np.abs(p.v) <= du + 2.5), (186, 134, 88))
    diamond = np.abs(du - np.float32(9.5)) + np.abs(p.v) <= 7.6
    p.paint_on(diamond, PITCH_LIGHT)
    p.paint_on((np.abs(np.abs(p.v) - du) <= 0.6) & (du > 0) & (reach <= np.float32(32.5 * 32.5)), LINE)
    p.paint_on(p.disc(1.7, -7.5), (186, 134, 88))
    for u, v in ((-16.4, 0), (-7.5, -9.2), (-7.5, 9.2), (2, 0)):
        p.paint_on(p.disc(1.2, u, v), (250, 250, 246))


def _bridge(p: Painter, body: Colour, stream: RandomStream, large: bool, length: float, width: float) -> None:
    a, b = length / 2, width / 2
    p.paint(p.box(-a, a, -b, b), (206, 202, 192))
    p.paint(p.box(-a, a, -b + 1.6, b - 1.6), (132, 132, 134))
    dash = np.floor(np.abs(p.u) / np.float32(3)).astype(np.int16) % 2 == 0
    p.paint_on(p.box(-a, a, -0.5, 0.5) & dash, (240, 226, 150))
    post = np.floor(np.abs(p.u) / np.float32(2)).astype(np.int16) % 2 == 0
    p.paint_on((np.abs(p.v) >= np.float32(b - 0.8)) & post, (150, 146, 140))
    for end in (-1, 1):
        u0, u1 = sorted((end * a, end * (a - 1.6)))
        p.paint_on(p.box(u0, u1, -b, b), (172, 168, 160))


def _building(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    su, sv = p.sun
    if stream.chance(0.55):  # gable roof: the side away from the sun is darker
        dark_up = sv < 0
        p.paint(p.box(-14, 14, -9.5, 0), shade(body, 0.78 if dark_up else 1.06))
        p.paint(p.box(-14, 14, 0, 9.5), shade(body, 1.06 if dark_up else 0.78))
        p.paint(p.box(-14, 14, -0.6, 0.6), shade(body, 1.25))
        for u in (-9.3, -4.6, 0, 4.6, 9.3):
            p.paint_on(p.box(u - 0.3, u + 0.3, -9.5, 9.5), shade(body, 0.8))
        p.paint(p.box(6, 9, -6.6, -3.8), (112, 74, 60))
        return
    notch = (p.u > 2) & (p.v > 1)  # flat roof on an L-shaped block, with a parapet and machines
    block = p.box(-14, 14, -10, 10) & ~notch
    p.paint(block, shade(body, 0.66))
    p.paint(p.box(-12.6, 12.6, -8.6, 8.6) & ~((p.u > 0.6) & (p.v > -0.4)), body)
    for u, v in ((-9, -5), (-9, 3), (3, -5)):
        p.paint(p.box(u + su, u + 4.4 + su, v + sv, v + 3.4 + sv), shade(body, 0.5))
        p.paint(p.box(u, u + 4.4, v, v + 3.4), (206, 208, 210))


def _swimming_pool(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    deck, water, deep = (226, 218, 200), (58, 178, 214), (34, 144, 196)
    if stream.chance(0.5):
        p.paint(p.rounded(13, 8, 2.5), deck)
        p.paint(p.rounded(11, 6, 1.6), water)
        p.paint_on(p.box(0, 10.6, -5.6, 5.6), deep)
        for v in (-2.2, 1.6):
            p.paint_on(p.box(-10.6, 10.6, v, v + 0.6), (150, 222, 238))
    else:
        p.paint(p.ellipse(8.6, 8, -4.6) | p.ellipse(8.2, 6.8, 5), deck)
        p.paint(p.ellipse(6.6, 6, -4.6) | p.ellipse(6.2, 4.8, 5), water)
        p.paint_on(p.ellipse(4, 3.6, -5), deep)
    p.paint(p.box(-10.6, -8.6, -2.2, 2.2), (240, 246, 246))


def _harbor(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    stone = (190, 184, 172)
    p.paint(p.box(-23, 23, -14, -4.5), stone)
    for u in (-23, -4.2, 14.6):
        p.paint(p.box(u, u + 8.4, -5, 14), shade(stone, 0.94))
        p.paint_on(p.frame(u, u + 8.4, -5, 14, 1.0), shade(stone, 0.74))
        p.paint_on(p.box(u + 3.7, u + 4.7, -3, 12), shade(stone, 1.14))
    p.paint_on(p.box(-23, 23, -14, -13), shade(stone, 0.74))
    boxes = ((178, 64, 50), (54, 96, 152), (206, 156, 60), (84, 132, 84))
    for u in (-19, -12.4, -1.6, 5, 12.6):
        p.paint(p.box(u, u + 5, -11.6, -9.2), stream.choice(boxes))
        p.paint(p.box(u, u + 5, -8.8, -6.4), stream.choice(boxes))


def _windmill(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    white, grey = (246, 246, 246), (206, 208, 212)
    first = stream.integer(0, 23)
    for k in range(3):
        cos, sin = UNIT[(first + 24 * k) % 72]
        p.paint(p.blade((cos, sin), 20, 7.4, 4.2), white)
        p.paint_on(p.blade((cos, sin), 19.4, 1.6, 0.8), grey)
        p.paint_on(p.blade((cos, sin), 20, 7.4, 4.2) & ~p.disc(17), (214, 60, 48))
    p.paint(p.disc(5.4), (226, 228, 230))
    p.paint(p.ring(5.4, 1.0), (150, 154, 160))
    p.paint(p.disc(1.6), (120, 124, 130))


def _roundabout(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    p.paint(p.disc(20), ASPHALT)
    p.paint(p.ring(20, 1.0), (206, 206, 200))
    p.paint_on(p.box(-20, 20, -5, 5) & ~p.disc(18), ASPHALT)
    spokes = (np.floor(np.abs(p.u) / 3).astype(np.int16) + np.floor(np.abs(p.v) / 3).astype(np.int16)) % 2 == 0
    p.paint(p.ring(14.8, 0.9) & spokes, LINE)
    p.paint(p.disc(10), (214, 212, 202))
    p.paint(p.disc(8.8), (88, 138, 66))
    p.paint(p.disc(4), (44, 92, 46))
    p.paint(p.disc(2, -0.8, -0.8), (70, 122, 62))


def _stadium(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    p.paint(p.ellipse(27, 22), (222, 222, 222))
    p.paint(p.ellipse(24.4, 19.4), shade(body, 0.9))
    # Aisles: thin strips in sixteen directions from the centre.
    for k in range(0, 36, 5):
        cos, sin = (np.float32(value) for value in UNIT[k])
        p.paint(p.ellipse(24.4, 19.4) & (np.abs(p.v * cos - p.u * sin) <= 0.5), shade(body, 0.55))
    p.paint(p.ellipse(20, 15.4) & ~p.ellipse(19.2, 14.7), shade(body, 0.55))
    p.paint(p.rounded(15, 10.6, 6), (150, 150, 148))
    p.paint(p.box(-12.4, 12.4, -8, 8), PITCH)
    p.paint_on(p.box(-12.4, 12.4, -8, 8) & (np.floor((p.u + 12) / 3).astype(np.int16) % 2 == 0), PITCH_LIGHT)
    p.paint(p.frame(-11.4, 11.4, -7, 7, 0.8), LINE)
    p.paint(p.box(-0.4, 0.4, -7, 7), LINE)
    p.paint(p.ring(2.6, 0.7), LINE)


def _helipad(p: Painter, body: Colour, stream: RandomStream, large: bool) -> None:
    p.paint(p.disc(13), shade(body, 0.82))
    p.paint(p.disc(11.8), LINE)
    p.paint(p.disc(10.2), body)
    bar = (250, 250, 246)
    p.paint(p.box(-5.6, 5.6, -4.9, -2.5) | p.box(-5.6, 5.6, 2.5, 4.9) | p.box(-1.2, 1.2, -4, 4), bar)


Draw = Callable[..., None]


@dataclass(frozen=True)
class Category:
    """One kind of object.

    Attributes:
        name: as expressions write it.
        id: category id in the files; 0 to 19 are RRSIS-D's own, larger ones are ours.
        file_name: the name in ``instances.json``; RRSIS-D's spelling where it has the category.
        box: half length and half width in units, of the medium size.
        height: length of the shadow in units.
        solid: whether the shadow reaches from the foot on (a wall) or stands apart (a rotor).
        colours: the colours it is painted in; empty where its colour is its nature.
        draw: paints it.
        sized: whether it comes in a small and a large form.
        scale: length factor of the drawing; below 1 for what would leave no room for others.
    """

    name: str
    id: int
    file_name: str
    box: tuple[float, float]
    height: float
    colours: tuple[str, ...]
    draw: Draw
    sized: bool = True
    solid: bool = True
    scale: float = 1.0


CATEGORIES: dict[str, Category] = {
    c.name: c
    for c in (
        Category(
            "airplane",
            2,
            "airplane",
            (20, 20),
            4,
            ("white", "blue", "red", "yellow"),
            _airplane,
            solid=False,
            scale=0.92,
        ),
        Category("baseball field", 4, "baseballfield", (19, 26), 0, (), _baseball_field, scale=0.88),
        Category("basketball court", 5, "basketballcourt", (17, 10), 0, ("red", "blue", "green"), _basketball_court),
        Category("bridge", 6, "bridge", (20, 8), 4, (), _bridge, sized=False, solid=False),
        Category(
            "ground track field",
            10,
            "groundtrackfield",
            (28, 17.5),
            0,
            ("red", "blue"),
            _ground_track_field,
            scale=0.84,
        ),
        Category("harbor", 11, "harbor", (23, 14), 2, (), _harbor, scale=0.92),
        Category("ship", 13, "ship", (20, 6.8), 2.5, ("white", "red", "green", "black", "yellow"), _ship),
        Category("stadium", 14, "stadium", (27, 22), 6, ("red", "blue", "yellow"), _stadium, scale=0.84),
        Category(
            "storage tank", 15, "storagetank", (11.5, 11.5), 6, ("white", "brown", "green", "blue"), _storage_tank
        ),
        Category("tennis court", 16, "tenniscourt", (18, 10.5), 0, ("green", "blue", "red"), _tennis_court),
        Category("vehicle", 18, "vehicle", (10, 5.2), 2, ("white", "red", "blue", "yellow", "black"), _vehicle),
        Category("windmill", 19, "windmill", (20, 20), 10, (), _windmill, solid=False),
        Category("building", 20, "building", (14, 10), 7, ("red", "grey", "white", "blue"), _building),
        Category("swimming pool", 21, "swimming pool", (13, 8), 0, (), _swimming_pool),
        Category("roundabout", 22, "roundabout", (20, 20), 0, (), _roundabout, sized=False),
        Category("helipad", 23, "helipad", (13, 13), 0, ("green", "red", "blue"), _helipad),
        Category("soccer field", 24, "soccer field", (24, 15.5), 0, (), _soccer_field, scale=0.9),
    )
}
"""All categories by name."""
