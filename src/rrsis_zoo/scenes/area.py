"""The area of interest: polygons from a file in any CRS, in pixels of a raster."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import geometry_mask

from rrsis_zoo.errors import ConfigError, DataFormatError
from rrsis_zoo.files import reason, regular_file
from rrsis_zoo.scenes.raster import Raster
from rrsis_zoo.scenes.windows import Window

_PIECES = 256  # in how many pieces the longest side is reprojected: a straight line in one CRS is none in another


class Area:
    """Polygons within a raster.

    Args:
        polygons: in pixels of the raster, x right, y down; not empty.
    """

    def __init__(self, polygons: shapely.Geometry) -> None:
        self.polygons = polygons
        shapely.prepare(polygons)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Top, left, bottom and right."""
        left, top, right, bottom = shapely.bounds(self.polygons).tolist()
        return top, left, bottom, right

    def touches(self, window: Window, factors: tuple[float, float] = (1.0, 1.0)) -> bool:
        """Return whether a window has some of it; factors: pixels of the raster in one of the window's."""
        y, x = factors
        box = shapely.box(window.left * x, window.top * y, window.right * x, window.bottom * y)
        return bool(shapely.intersects(self.polygons, box))

    def inside(
        self, top: int, left: int, shape: tuple[int, int], factors: tuple[float, float] = (1.0, 1.0)
    ) -> NDArray[np.bool_]:
        """Return which pixels of a rectangle have their centre in it, bool of the shape."""
        y, x = factors
        box = shapely.box(left * x, top * y, (left + shape[1]) * x, (top + shape[0]) * y)
        if shapely.contains(self.polygons, box):
            return np.ones(shape, np.bool_)
        if not shapely.intersects(self.polygons, box):
            return np.zeros(shape, np.bool_)
        return geometry_mask([self.polygons], shape, Affine(x, 0, left * x, 0, y, top * y), invert=True)


def read_area(path: Path, raster: Raster) -> Area:
    """Read polygons and bring them into a raster's pixels.

    Raises:
        MissingDataError: there is no such file.
        DataFormatError: it cannot be read, has no polygons, or no CRS where the raster has one.
        ConfigError: it misses the raster.
    """
    regular_file(path)
    try:
        read = geopandas.read_parquet if path.suffix.lower() == ".parquet" else geopandas.read_file
        shapes = geopandas.GeoSeries(read(path).geometry)
    except Exception as cause:  # GDAL, PROJ, pyarrow and geopandas raise their own
        raise DataFormatError(f"{path}: cannot be read as a layer of polygons ({reason(cause)[:200]})") from cause
    shapes = geopandas.GeoSeries(shapes[~(shapes.is_empty | shapes.isna())])
    if not len(shapes) or not shapes.geom_type.isin(["Polygon", "MultiPolygon"]).all():
        kinds = ", ".join(sorted(set(shapes.geom_type))) or "nothing"
        raise DataFormatError(f"{path}: an area of interest must be polygons, and this layer has {kinds}")
    if raster.crs is not None:
        shapes = _reprojected(path, shapes, raster.crs)
    to_pixels = ~raster.transform
    a, b, c, d, e, f = to_pixels[:6]
    union = shapely.union_all(shapely.make_valid(shapes.to_numpy()))
    pixels = shapely.transform(union, lambda xy: np.stack([xy @ [a, b] + c, xy @ [d, e] + f], axis=1))
    pixels = shapely.intersection(pixels, shapely.box(0, 0, raster.width, raster.height))
    parts = [part for part in shapely.get_parts(pixels) if part.area > 0]
    if not parts:
        raise ConfigError(f"{path}: the area of interest does not touch {raster.path}")
    return Area(shapely.union_all(parts))


def _reprojected(path: Path, shapes: geopandas.GeoSeries, crs: pyproj.CRS) -> geopandas.GeoSeries:
    if shapes.crs is None:
        raise DataFormatError(
            f"{path}: has no CRS, so nobody knows where it lies: ogr2ogr -a_srs EPSG:CODE OUT.gpkg {path.name} says it"
        )
    if shapes.crs == crs:
        return shapes
    left, top, right, bottom = shapes.total_bounds
    shapes = shapes.segmentize(max(right - left, bottom - top, 1e-12) / _PIECES)
    moved = shapes.to_crs(crs)
    if not np.isfinite(moved.total_bounds).all():
        raise ConfigError(f"{path}: the area of interest cannot be brought into the CRS of the raster ({crs.name})")
    return moved
