"""What was found in a scene: polygons with what is known about each, as a table, and as masks a part at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import geopandas
import numpy as np
import pandas
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize

from rrsis_zoo.outputs.found import Source as Model
from rrsis_zoo.scenes.geodesy import on_map, square_metres
from rrsis_zoo.scenes.raster import Raster
from rrsis_zoo.scenes.search import Answer
from rrsis_zoo.scenes.settings import Settings
from rrsis_zoo.scenes.sweep import Tally
from rrsis_zoo.version import __version__

COLUMNS = {
    "text": "object",
    "score": "float64",
    "presence": "float64",
    "area_m2": "float64",
    "area_px": "int64",
    "model": "object",
    "weights_sha256": "object",
    "gsd_m": "float64",
    "window_px": "int64",
    "input": "object",
    "version": "object",
}
"""Names and dtypes of a layer's columns, besides ``geometry``."""


@dataclass(frozen=True)
class Outcome:
    """What was found in one scene.

    Attributes:
        raster: the scene.
        texts: the N sentences.
        answers: for each of them.
        model: which model it was.
        settings: of the search.
        needed: presence that an answer needed; None for no such limit.
        tallies: of the levels' windows, the finest first.
        limits: the values of each band that were shown as 0 and 255; None if the values are the file's own.
    """

    raster: Raster
    texts: tuple[str, ...]
    answers: tuple[Answer, ...]
    model: Model
    settings: Settings
    needed: float | None
    tallies: tuple[Tally, ...]
    limits: tuple[tuple[float, float], ...] | None

    @property
    def without(self) -> dict[str, str]:
        """Sentences that have no polygon, with the reason."""
        return {text: one.why for text, one in zip(self.texts, self.answers, strict=True) if not one.regions}

    def table(self) -> geopandas.GeoDataFrame:
        """Return the layer: one row a polygon, see `rrsis_zoo.scenes.segment_scene`."""
        raster = self.raster
        tolerance = 0.0
        if self.settings.simplify and raster.gsd is not None:
            tolerance = self.settings.simplify / float(np.sqrt(raster.gsd[0] * raster.gsd[1]))
        rows: list[dict[str, Any]] = []
        shapes: list[Any] = []
        for text, answer in zip(self.texts, self.answers, strict=True):
            for region, level in answer.regions:
                gsd = level.view.gsd
                rows.append(
                    {
                        "text": text,
                        "score": region.score,
                        "presence": np.nan if region.presence is None else region.presence,
                        "area_px": region.pixels,
                        "model": self.model.method,
                        "weights_sha256": self.model.weights_sha256,
                        "gsd_m": np.nan if gsd is None else gsd,
                        "window_px": level.side,
                        "input": str(raster.path),
                        "version": __version__,
                    }
                )
                shapes.append(region.polygon)
        outlines = np.array(shapes, dtype=object)
        outlines = on_map(outlines if tolerance == 0 else shapely.simplify(outlines, tolerance), raster.transform)
        areas = square_metres(raster)(outlines)
        for row, area in zip(rows, areas.tolist(), strict=True):
            row["area_m2"] = area
        columns = pandas.DataFrame(
            {name: pandas.Series([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()}
        )
        table = geopandas.GeoDataFrame(columns, geometry=geopandas.GeoSeries(outlines, crs=raster.crs))
        table.attrs["rrsis_zoo"] = self.facts()
        return table

    def facts(self) -> dict[str, Any]:
        """Return what holds for all polygons, as plain values: the layer's metadata."""
        chosen = self.settings
        return {
            "version": __version__,
            "input": str(self.raster.path),
            "model": self.model.method,
            "source": self.model.given,
            "weights_sha256": self.model.weights_sha256,
            "texts": list(self.texts),
            "without": self.without,
            "find": chosen.find,
            "levels": chosen.looked_at,
            "threshold": chosen.threshold,
            "presence_needed": self.needed,
            "min_area_m2": chosen.min_area,
            "simplify_m": chosen.simplify,
            "overlap": chosen.overlap,
            "bands": list(self.raster.bands),
            "stretch": None if self.limits is None else [list(pair) for pair in self.limits],
        }

    def mask(
        self, n: int, top: int, left: int, shape: tuple[int, int], factors: tuple[float, float] = (1.0, 1.0)
    ) -> NDArray[np.bool_]:
        """Return a part of the n-th sentence's mask, bool of the shape.

        Args:
            n: which sentence.
            top, left: its first pixel.
            shape: rows and columns.
            factors: pixels of the raster in one of the mask; where they are above 1, what is there anywhere stays.
        """
        y, x = factors
        box = shapely.box(left * x, top * y, (left + shape[1]) * x, (top + shape[0]) * y)
        tree = self._trees[n]
        near = tree.geometries[np.sort(tree.query(box))].tolist()
        if not near:
            return np.zeros(shape, np.bool_)
        grid = Affine(x, 0, left * x, 0, y, top * y)
        burnt = rasterize(near, shape, transform=grid, all_touched=max(factors) > 1, dtype="uint8")
        return np.asarray(burnt, np.bool_)

    @cached_property
    def _trees(self) -> list[shapely.STRtree]:
        return [shapely.STRtree([region.polygon for region, _ in answer.regions]) for answer in self.answers]
