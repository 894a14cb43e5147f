"""A large ground: districts of different kinds side by side, with winding borders.

One unit is one pixel, so that textures, roads and objects are as large as in scenes of 128 px. Coordinates are in
pixels from the upper left corner.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from rrsis_zoo.data.synthetic.chance import RandomStream
from rrsis_zoo.data.synthetic.ground import THEMES, Ground, make_district, smooth_noise
from rrsis_zoo.data.synthetic.scenes import Placement

_WOBBLE = 14
"""How far a border between two districts winds to either side, in pixels."""

_SOFT = 3.0
"""Width of the transition between two districts, in pixels."""


@dataclass(frozen=True)
class District:
    """A square part of a landscape.

    Attributes:
        ground: as the district was made, in its own coordinates, whose middle is (64, 64); its labels are those of the
            finished landscape, and it ends where the next district begins.
        dx, dy: add these to the ground's coordinates to get pixels of the landscape.
    """

    ground: Ground
    dx: float
    dy: float

    def within(self, placement: Placement) -> Placement:
        """Return an object of the landscape in the district's coordinates."""
        return replace(placement, x=placement.x - self.dx, y=placement.y - self.dy)

    def without(self, placement: Placement) -> Placement:
        """Return an object of the district in pixels of the landscape."""
        return replace(placement, x=placement.x + self.dx, y=placement.y + self.dy)


@dataclass(frozen=True)
class Landscape:
    """What lies under the objects of a large scene.

    Attributes:
        image: float32 (size, size, 3), 0 to 255.
        districts: its parts.
        sun: index into ``UNIT``, the direction in which shadows fall.
    """

    image: np.ndarray
    districts: tuple[District, ...]
    sun: int


def make_landscape(size: int, stream: RandomStream) -> Landscape:
    """Return a random landscape.

    Args:
        size: side in pixels, 512 or more.
        stream: source of chance.
    """
    count = round(size / (224 + size / 16))  # districts a side: of 256 px in a small scene, of about 450 in a large one
    borders = [round(i * size / count) for i in range(count + 1)]
    sun = stream.angle()
    image, labels = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.uint8)
    themes = iter(_themes(count * count, stream))
    laid: list[tuple[Ground, int, int]] = []
    for top, bottom in pairwise(borders):
        for left, right in pairwise(borders):
            # A district reaches under the next ones, whose borders wind; half of what it has more on each side.
            side = min(right - left, bottom - top)
            reach = side + 2 * (2 * _WOBBLE + abs(right - left - bottom + top))
            x0, y0 = (left + right - reach) // 2, (top + bottom - reach) // 2
            ground = make_district(next(themes), reach, float(reach), sun, stream)
            _lay(image, labels, ground, x0, y0, (left, top), stream)
            inset = (reach - side) // 2
            part = labels[y0 + inset : y0 + inset + side, x0 + inset : x0 + inset + side]
            # `labels` changes until the last district is laid, and the part with it: it is a view.
            laid.append((replace(ground, image=image[:0], labels=part, extent=float(side)), x0 + inset, y0 + inset))
    districts = tuple(District(ground, x - ground.low, y - ground.low) for ground, x, y in laid)
    return Landscape(image, districts, sun)


def _themes(count: int, stream: RandomStream) -> list[str]:
    """Return the kinds of the districts: all kinds in turn, the likely ones first."""
    chosen: list[str] = []
    while len(chosen) < count:
        left = list(THEMES)
        while left:
            name = stream.weighted(left, [THEMES[theme].weight for theme in left])
            left.remove(name)
            chosen.append(name)
    return stream.shuffled(chosen[:count])


def _lay(
    image: np.ndarray,
    labels: np.ndarray,
    ground: Ground,
    x0: int,
    y0: int,
    start: tuple[int, int],
    stream: RandomStream,
) -> None:
    """Lay a district on what is to the left of it and above, from ``start`` (x, y) on; ``x0, y0`` is its corner."""
    reach, size = len(ground.labels), len(labels)
    cover = np.ones((reach, reach), np.float32)
    for axis, corner in enumerate((x0, y0)):
        winding = smooth_noise(reach, 5, stream) * np.float32(_WOBBLE)
        if start[axis]:  # otherwise it begins at the image's border
            position = np.arange(reach, dtype=np.float32) + np.float32(0.5 + corner - start[axis])
            inside = (position[None, :] if axis == 0 else position[:, None]) + winding
            cover *= np.clip(inside * np.float32(1 / _SOFT) + np.float32(0.5), 0, 1)
    rows, columns = slice(max(0, y0), min(size, y0 + reach)), slice(max(0, x0), min(size, x0 + reach))
    own = slice(rows.start - y0, rows.stop - y0), slice(columns.start - x0, columns.stop - x0)
    image[rows, columns] += (ground.image[own] - image[rows, columns]) * cover[own][..., None]
    np.copyto(labels[rows, columns], ground.labels[own], where=cover[own] >= 0.5)
