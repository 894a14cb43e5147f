"""What a user can choose about a scene, checked before anything is read. No heavy imports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.imagery.stretch import Stretch

Find = Literal["one", "all"]
"""``one``: the one referent of each sentence in the whole scene. ``all``: everything that fits."""

Levels = Literal["finest", "overview", "all"]
"""Which pixel sizes are looked at. ``finest``: windows at ``gsd`` alone. ``overview``: the whole scene in one window
alone. ``all``: both, and every power of two between them."""

Presence = Literal["calibrated", "off"] | float
"""The presence that an answer needs: the threshold of the model's calibration (none without one), none, or a number."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a scene is segmented.

    Attributes:
        find: see `Find`.
        levels: see `Levels`; None for ``all`` with find ``one``, and ``finest`` with find ``all``.
        gsd: metres on the ground of a pixel as the model sees it; None for the raster's own.
        window: side of a window in pixels of that size; None for the side of the model's input.
        overlap: share of a window that it has in common with the next one, from 0 to less than 1.
        aoi: file of polygons outside which nothing is looked for.
        bands: numbers of the bands that are red, green and blue, or of a single one that is grey, from 1; None for
            what the file says.
        stretch: how values become 8 bits; None for 2,98 of more than 8 bits, none of 8.
        threshold: probability above which a pixel is foreground.
        min_area: smallest polygon in square metres.
        simplify: tolerance of the outlines in metres; 0 keeps the edges of the pixels.
        presence: see `Presence`.
        batch: windows that go through the model together; None chooses.

    Raises:
        ConfigError: a value that cannot be used.
    """

    find: Find = "one"
    levels: Levels | None = None
    gsd: float | None = None
    window: int | None = None
    overlap: float = 0.25
    aoi: Path | None = None
    bands: tuple[int, ...] | None = None
    stretch: Stretch | None = None
    threshold: float = 0.5
    min_area: float = 0.0
    simplify: float = 0.0
    presence: Presence = "calibrated"
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.find not in get_args(Find):
            raise unknown_name("find", str(self.find), get_args(Find))
        if self.levels is not None and self.levels not in get_args(Levels):
            raise unknown_name("levels", str(self.levels), get_args(Levels))
        if self.gsd is not None and not (math.isfinite(self.gsd) and self.gsd > 0):
            raise ConfigError(f"gsd must be metres a pixel, above 0, got {self.gsd:g}")
        if self.window is not None and self.window < 8:
            raise ConfigError(f"window must be at least 8 pixels, got {self.window}")
        if not 0 <= self.overlap <= 0.9:
            raise ConfigError(f"overlap must be a share from 0 to 0.9, for instance 0.25, got {self.overlap:g}")
        if self.bands is not None and (len(self.bands) not in (1, 3) or min(self.bands) < 1):
            raise ConfigError(f"bands must be three numbers from 1, for instance 4,3,2, or one, got {self.bands}")
        if not 0 < self.threshold < 1:
            raise ConfigError(f"threshold must be between 0 and 1, got {self.threshold:g}")
        for name in ("min_area", "simplify"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} must be 0 or more, got {value:g}")
        if not isinstance(self.presence, str):
            if not 0 <= self.presence <= 1:
                raise ConfigError(f"presence must be a number from 0 to 1, or off, got {self.presence!r}")
        elif self.presence not in ("calibrated", "off"):
            raise ConfigError(f"presence must be a number from 0 to 1, or off, got {self.presence!r}")
        if self.batch is not None and self.batch < 1:
            raise ConfigError(f"batch must be at least 1, got {self.batch}")

    @property
    def looked_at(self) -> Levels:
        """The levels, decided."""
        return self.levels or ("all" if self.find == "one" else "finest")
