"""One scene from the file to what was found in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.outputs.found import Source as Model
from rrsis_zoo.scenes.area import read_area
from rrsis_zoo.scenes.asking import Asker
from rrsis_zoo.scenes.blend import Rows
from rrsis_zoo.scenes.geodesy import on_map, square_metres
from rrsis_zoo.scenes.outcome import Outcome
from rrsis_zoo.scenes.raster import Raster, Source, describe
from rrsis_zoo.scenes.search import Search, levels_for
from rrsis_zoo.scenes.settings import Settings
from rrsis_zoo.scenes.sweep import Tally
from rrsis_zoo.scenes.tracing import Region
from rrsis_zoo.scenes.view import View, factors_for, limits_of, limits_text

RowsSink = Callable[[Raster], AbstractContextManager[Callable[[Rows], None]]]
"""Opens something that gets the finished rows of the finest level, on the raster's grid."""


def find_in_scene(
    model: ReferringSegmenter,
    source: Model,
    path: Path,
    texts: Sequence[str],
    settings: Settings,
    *,
    rows_sink: RowsSink | None = None,
    note: Callable[[str], None] = lambda _: None,
    told: Callable[[int, int, Tally], None] = lambda *_: None,
) -> Outcome:
    """Return what was found.

    Args:
        model: it is left in evaluation mode.
        source: which model it is.
        path: of the raster.
        texts: the sentences, each once.
        settings: of the search.
        rows_sink: see `RowsSink`.
        note: gets remarks for the user.
        told: as in `Search`.

    Raises:
        ConfigError, MissingDataError, DataFormatError, WeightsMismatchError: see `rrsis_zoo.scenes.segment_scene`.
    """
    raster = describe(path, settings.bands)
    for remark in raster.notes:
        note(f"{path}: {remark}")
    needs_ground = (("--min-area", settings.min_area), ("--simplify", settings.simplify))
    if raster.gsd is None and (option := next((name for name, value in needs_ground if value), None)):
        raise ConfigError(f"{path}: has no CRS, so nobody knows how large its pixels are: leave {option} out")
    area = None if settings.aoi is None else read_area(settings.aoi, raster)
    factors = factors_for(raster, settings.gsd)
    side = settings.window or model.sides[0]
    needed = _needed(model, settings)
    asker = Asker(model, texts, needed, settings.threshold)
    with Source(raster, rows=round(side * max(1.0, factors[0]))) as opened:
        limits = limits_of(opened, settings.stretch)
        if limits is not None:
            note(f"{path}: values {limits_text(limits)} are shown as 0-255; --stretch changes that")
        levels = levels_for(View.at(opened, factors, limits), settings, side, area)
        search = Search(asker, levels, area, settings, told)
        with nullcontext() if rows_sink is None else rows_sink(raster) as sink:
            answers = search.run(_large_enough(raster, settings), sink)
    shown = None if limits is None else tuple((float(low), float(high)) for low, high in limits)
    return Outcome(raster, tuple(texts), tuple(answers), source, settings, needed, tuple(search.tallies), shown)


def _needed(model: ReferringSegmenter, settings: Settings) -> float | None:
    """Return the presence that an answer needs; None for any, also where the model has no calibration."""
    if model.calibration is None or settings.presence == "off":
        return None
    return model.calibration.threshold if settings.presence == "calibrated" else float(settings.presence)


def _large_enough(raster: Raster, settings: Settings) -> Callable[[Region], bool]:
    if not settings.min_area:
        return lambda _: True
    area = square_metres(raster)
    return lambda region: area(np.array([on_map(region.polygon, raster.transform)]))[0] >= settings.min_area
