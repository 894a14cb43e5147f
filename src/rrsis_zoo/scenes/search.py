"""From windows to answers: everything that fits, or the one referent, looked for from coarse to fine.

A sentence such as "the ship left of the pier" needs the pier in view, and a window may not have it. So for the one
referent the whole scene is looked at first, shrunk into a single window, then by windows at every power of two between
that and the finest pixels. Each level proposes its best regions. What a level thinks of them is not enough: of many
windows one is sure by chance, and a model that was never shown such large pixels may be as sure of a wrong region. So
each is looked at once more, by the finest window with it in the middle, and how well the sentence fits there counts as
much. The best by both is the answer. If a coarse level found it, the finest window also draws its outline, only inside
its region.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import shapely
from affine import Affine
from rasterio.features import geometry_mask

from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.scenes.area import Area
from rrsis_zoo.scenes.asking import Answers, Asker, decided, probabilities
from rrsis_zoo.scenes.blend import Rows
from rrsis_zoo.scenes.native import clipped, to_native
from rrsis_zoo.scenes.settings import Settings
from rrsis_zoo.scenes.sweep import Tally, sweep
from rrsis_zoo.scenes.tracing import Region, Tracer
from rrsis_zoo.scenes.view import View
from rrsis_zoo.scenes.windows import Plan, Window

_APART = 1.25
"""A level between the finest and the overview is left out if the overview's pixels are not so many times larger."""

_PROPOSED = 3
"""Regions of each level that are looked at a second time."""

_TIE = 3
"""Decimals to which ranks are compared: of two equal ones the coarser level's counts, which saw more around it."""

_ROOM = 0.75
"""Largest share of a window's side that a region may take to be drawn again in it."""

_KEPT = 1 / 3
"""A region drawn again that is smaller than this share of what the coarse level saw is only a part of it."""


@dataclass(frozen=True)
class Level:
    """A size of pixels with its windows.

    Attributes:
        view: the pixels.
        plan: the windows.
        side: of a window in pixels.
        whole: whether the scene at its finest is one window, so that there is nothing to choose from.
    """

    view: View
    plan: Plan
    side: int
    whole: bool = False


@dataclass
class Answer:
    """What was found for one sentence.

    Attributes:
        regions: in pixels of the raster, each with the level that found it, in the order of their first rows.
        why: the reason, if there are none.
    """

    regions: list[tuple[Region, Level]] = field(default_factory=list)
    why: str = ""


class Search:
    """A search for N sentences in a raster.

    Args:
        asker: the model with the sentences.
        levels: the finest first.
        area: of interest; None for all of the raster.
        settings: of the search.
        told: is called with the level's number from 1, the number of levels, and the tally, now and then.
    """

    def __init__(
        self,
        asker: Asker,
        levels: list[Level],
        area: Area | None,
        settings: Settings,
        told: Callable[[int, int, Tally], None] = lambda *_: None,
    ) -> None:
        self.asker, self.levels, self.area, self.settings = asker, levels, area, settings
        self.tallies = [Tally() for _ in levels]
        self._told = told
        raster = levels[0].view.source.raster
        self._all = Window(0, 0, raster.height, raster.width)
        self._too_small = [False] * len(asker.texts)

    def run(self, keep: Callable[[Region], bool], rows_seen: Callable[[Rows], None] | None = None) -> list[Answer]:
        """Return the answers.

        Args:
            keep: whether a region is large enough.
            rows_seen: gets the finished rows of the finest level, on the raster's grid.

        Raises:
            DataFormatError: the raster is damaged, or no window has a pixel with a value.
            WeightsMismatchError: outputs that are not finite.
        """
        count = len(self.asker.texts)
        if self.settings.find == "all" or self.levels[0].whole:
            found = [[(region, self.levels[0]) for region in regions] for regions in self._all_of(keep, rows_seen)]
        else:
            found = self._one_of(keep, rows_seen)
        return [Answer(found[n], "" if found[n] else self._why(n)) for n in range(count)]

    def _all_of(self, keep: Callable[[Region], bool], rows_seen: Callable[[Rows], None] | None) -> list[list[Region]]:
        found: list[list[Region]] = [[] for _ in self.asker.texts]
        for n, region in self._regions(0, rows_seen, native=True):
            if keep(region):
                found[n].append(region)
            else:
                self._too_small[n] = True
        return found

    def _one_of(
        self, keep: Callable[[Region], bool], rows_seen: Callable[[Rows], None] | None
    ) -> list[list[tuple[Region, Level]]]:
        """Return the best region of each sentence over all levels."""
        proposed: list[list[tuple[Region, int]]] = [[] for _ in self.asker.texts]
        for number, level in enumerate(self.levels):
            native = number == 0
            of_level: list[list[Region]] = [[] for _ in self.asker.texts]
            for n, region in self._regions(number, rows_seen if native else None, native):
                if not keep(region if native else _scaled(region, level.view.factors)):
                    self._too_small[n] = True
                else:
                    of_level[n] = sorted([*of_level[n], region], key=lambda one: -one.rank)[:_PROPOSED]
            for n, regions in enumerate(of_level):
                proposed[n] += [(one if native else _scaled(one, level.view.factors), number) for one in regions]
        found: list[list[tuple[Region, Level]]] = []
        for n, candidates in enumerate(proposed):
            if not candidates:
                found.append([])
                continue
            region, number = self._chosen(n, candidates)
            drawn = region if number == 0 else self._drawn(n, region, number)
            found.append([(drawn, self.levels[number])] if drawn is not None else [])
        return found

    def _chosen(self, n: int, candidates: list[tuple[Region, int]]) -> tuple[Region, int]:
        """Return the best of a sentence's candidates (region, level), which come from fine to coarse."""
        if len(self.levels) == len(self.levels[0].plan) == 1:  # there is no other window to look from
            return max(candidates, key=lambda one: one[0].rank)
        if len(candidates) == 1:
            return candidates[0]
        second = self._second_looks(self.asker.only(n), candidates)
        # If no second look finds anything, the first one decides; of two equal ones the coarser level's counts.
        worth = [
            (round(region.rank * look, _TIE), round(region.rank, _TIE), number)
            for (region, number), look in zip(candidates, second, strict=True)
        ]
        return candidates[max(range(len(candidates)), key=worth.__getitem__)]

    def _second_looks(self, asker: Asker, candidates: list[tuple[Region, int]]) -> list[float]:
        """Return how well a sentence fits each region where the finest window with room for it sees it, 0 to 1.

        A region that is larger than any finer window keeps its rank: nobody has a closer look.
        """
        looks = [region.rank for region, _ in candidates]
        windows: dict[int, list[tuple[int, Window]]] = {}
        for i, (region, number) in enumerate(candidates):
            for finer in range(max(1, number)):
                window = _around(region.polygon, self.levels[finer])
                if window is not None:
                    windows.setdefault(finer, []).append((i, window))
                    break
        together = max(1, self.tallies[0].batch)
        for finer, places in windows.items():
            view = self.levels[finer].view
            for first in range(0, len(places), together):
                some = places[first : first + together]
                answers = asker.ask([view.read(window)[0] for _, window in some])
                for (i, window), answer in zip(some, answers, strict=True):
                    region, number = candidates[i]
                    margin = max(self.levels[number].view.factors) if number else 0.0
                    looks[i] = self._fit(answer, region.polygon.buffer(margin, join_style="mitre"), window, view)
        return looks

    def _fit(self, answer: Answers, allowed: shapely.Geometry, window: Window, view: View) -> float:
        """Return mean probability × presence of a window's mask within polygons in pixels of the raster."""
        y, x = view.factors
        place = Affine(x, 0, window.left * x, 0, y, window.top * y)
        logits = answer.logits[0]
        inside = geometry_mask([allowed], logits.shape, place, invert=True)
        mask = decided(logits, self.settings.threshold) & inside
        if not mask.any():
            return 0.0
        fits = float(probabilities(logits[mask]).mean())
        return fits if answer.presence is None else fits * float(answer.presence[0])

    def _regions(
        self, number: int, rows_seen: Callable[[Rows], None] | None, native: bool
    ) -> Iterator[tuple[int, Region]]:
        """Yield (sentence, region) of a level, in pixels of the raster, or else of the level."""
        level, tally = self.levels[number], self.tallies[number]
        view = level.view
        rows = sweep(
            self.asker,
            view,
            level.plan,
            lambda window: self.area is None or self.area.touches(window, view.factors),
            self.settings.batch,
            tally,
            lambda tally: self._told(number + 1, len(self.levels), tally),
        )
        if native:
            known = clipped(to_native(rows, view, self._all), view.source, self._all, self.area, not view.native)
        else:
            known = self._clipped_at(rows, view)
        tracers = [Tracer() for _ in self.asker.texts]
        for one in known:
            if rows_seen is not None:
                rows_seen(one)
            for n, tracer in enumerate(tracers):
                for region in _trace(tracer, one, n, self.settings.threshold):
                    yield n, region
        for n, tracer in enumerate(tracers):
            for region in tracer.finish():
                yield n, region
        if not tally.asked:
            raster = view.source.raster
            where = " in the area of interest" if self.area is not None else ""
            raise DataFormatError(
                f"{raster.path}: none of its pixels{where} has a value, so there is no window to read"
            )

    def _clipped_at(self, rows: Iterator[Rows], view: View) -> Iterator[Rows]:
        for one in rows:
            known = one.known
            if self.area is not None:
                known = known & self.area.inside(one.top, 0, known.shape, view.factors)
            yield Rows(one.top, one.logits, one.presence, known)

    def _drawn(self, n: int, region: Region, number: int) -> Region | None:
        """Return a coarse level's region with the outline that the finest window around it draws."""
        asker = self.asker.only(n)
        y, x = self.levels[number].view.factors
        allowed = region.polygon.buffer(max(y, x), join_style="mitre")
        raster = self._all
        left, top, right, bottom = (round(value) for value in allowed.bounds)
        top, left = max(0, top), max(0, left)
        within = Window(top, left, min(bottom, raster.height) - top, min(right, raster.width) - left)
        for level in self.levels[:number]:
            window = _around(region.polygon, level)
            if window is None:
                continue
            plan = Plan.single(level.view.height, level.view.width, window)
            drawn = self._redrawn(asker, level, plan, within, allowed, region)
            if drawn is not None and drawn.pixels >= _KEPT * region.pixels:
                return drawn
            break
        level = self.levels[number]
        y, x = level.view.factors
        seen = Window(
            math.floor(within.top / y), math.floor(within.left / x), math.ceil(within.height / y) + 1,
            math.ceil(within.width / x) + 1,
        )  # fmt: skip
        return self._redrawn(asker, level, level.plan.over(seen), within, allowed, region)

    def _redrawn(
        self, asker: Asker, level: Level, plan: Plan, within: Window, allowed: shapely.Geometry, region: Region
    ) -> Region | None:
        """Return the largest region within what is allowed, as some windows of a level see it.

        Score and presence stay those of the level that found it: this one does not see what the sentence needs.
        """
        view = level.view
        rows = sweep(asker, view, plan, lambda _: True, self.settings.batch, Tally())
        rows = clipped(to_native(rows, view, within), view.source, within, self.area, True)
        tracer, found = Tracer(within.left), []
        for one in rows:
            inside = geometry_mask(
                [allowed], one.known.shape, Affine.translation(within.left, one.top), invert=True
            )  # by centres of pixels
            found += _trace(tracer, Rows(one.top, one.logits, None, one.known & inside), 0, self.settings.threshold)
        found += tracer.finish()
        if not found:
            return None
        most = max(found, key=lambda one: one.pixels * one.score)
        return Region(most.polygon, most.pixels, region.score, region.presence)

    def _why(self, n: int) -> str:
        """Return why a sentence has no polygon."""
        needed = self.asker.needed
        seen = [tally.presence[n] for tally in self.tallies if tally.presence is not None]
        if needed is not None and seen and max(seen) < needed:
            return f"no window fits: presence {max(seen):.2f} < {needed:.2f}"
        if self._too_small[n]:
            return f"everything is smaller than {self.settings.min_area:g} m²"
        return f"no pixel has a probability above {self.settings.threshold:g}"


def levels_for(finest: View, settings: Settings, side: int, area: Area | None) -> list[Level]:
    """Return the levels that are looked at, the finest first.

    Args:
        finest: the pixels at `Settings.gsd`.
        settings: of the search.
        side: of a window in pixels.
        area: of interest; the overview is of its bounding box.
    """
    source, (y, x) = finest.source, finest.factors
    windows = Plan.tiled(finest.height, finest.width, side, settings.overlap)
    first = Level(finest, windows, side, whole=len(windows) == 1)
    box = (0.0, 0.0, float(source.raster.height), float(source.raster.width)) if area is None else area.box
    scale = max((box[2] - box[0]) / y, (box[3] - box[1]) / x) / side
    looked_at = settings.looked_at
    if scale <= 1 or looked_at == "finest":
        return [first]
    levels = [first] if looked_at == "all" else []
    by = 2.0
    while looked_at == "all" and by * _APART < scale:
        view = View.at(source, (y * by, x * by), finest.limits)
        levels.append(Level(view, Plan.tiled(view.height, view.width, side, settings.overlap), side))
        by *= 2
    view = View.at(source, (y * scale, x * scale), finest.limits)
    levels.append(Level(view, Plan.single(view.height, view.width, _covering(box, view, side)), side))
    return levels


def _covering(box: tuple[float, float, float, float], view: View, side: int) -> Window:
    """Return the window of at most a side that covers a box given in pixels of the raster."""
    y, x = view.factors
    top, left = max(0, math.floor(box[0] / y)), max(0, math.floor(box[1] / x))
    bottom, right = min(view.height, math.ceil(box[2] / y)), min(view.width, math.ceil(box[3] / x))
    return Window(top, left, min(side, bottom - top), min(side, right - left))


def _around(polygon: shapely.Polygon, level: Level) -> Window | None:
    """Return the window with a region, given in pixels of the raster, in its middle; None if it has no room for it."""
    view = level.view
    y, x = view.factors
    left, top, right, bottom = polygon.bounds
    if max((bottom - top) / y, (right - left) / x) > _ROOM * level.side:
        return None
    height, width = min(level.side, view.height), min(level.side, view.width)
    first = round((top + bottom) / 2 / y - height / 2)
    column = round((left + right) / 2 / x - width / 2)
    return Window(min(max(0, first), view.height - height), min(max(0, column), view.width - width), height, width)


def _trace(tracer: Tracer, rows: Rows, n: int, threshold: float) -> Iterator[Region]:
    """Add the n-th sentence's foreground to its regions; yield those that end."""
    logits = rows.logits[n]
    mask = decided(logits, threshold) & rows.known
    presence = None if rows.presence is None else rows.presence[n][mask]
    yield from tracer.add(rows.top, mask, probabilities(logits[mask]), presence)


def _scaled(region: Region, factors: tuple[float, float]) -> Region:
    """Return a level's region in pixels of the raster."""
    y, x = factors
    polygon = shapely.transform(region.polygon, lambda points: points * np.array([x, y]))
    return Region(polygon, max(1, round(region.pixels * y * x)), region.score, region.presence)
