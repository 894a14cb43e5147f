"""Areas on the ellipsoid, and polygons from pixels to coordinates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray

from rrsis_zoo.scenes.raster import Raster


def on_map(polygons: Any, transform: Affine) -> Any:
    """Return polygons (one, or an array) in the raster's coordinates, given in its pixels."""
    a, b, c, d, e, f = transform[:6]

    def moved(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points[:, 0], points[:, 1]
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

    return shapely.transform(polygons, moved)


def square_metres(raster: Raster) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """Return a function from polygons in a raster's coordinates to their areas on the ellipsoid; NaN without a CRS."""
    crs = raster.crs
    if crs is None or raster.gsd is None or crs.geodetic_crs is None:
        return lambda polygons: np.full(len(polygons), np.nan)
    geod = crs.get_geod()
    assert geod is not None  # there would be no gsd
    to_degrees = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)

    def areas(polygons: NDArray[Any]) -> NDArray[np.float64]:
        degrees = shapely.transform(polygons, lambda points: np.stack(to_degrees.transform(*points.T), axis=1))
        # the sign says which way round the border goes, and holes count by theirs
        turned = shapely.orient_polygons(degrees)
        return np.array([abs(geod.geometry_area_perimeter(one)[0]) for one in turned], np.float64)

    return areas
