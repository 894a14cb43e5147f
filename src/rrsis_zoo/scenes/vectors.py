"""Layers of polygons as files: GeoPackage, GeoJSON, GeoParquet. The same outcome always gives the same bytes."""

from __future__ import annotations

import contextlib
import datetime
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

from rrsis_zoo.errors import ConfigError, OutputError
from rrsis_zoo.files import reason, write_text, writing
from rrsis_zoo.scenes.outcome import Outcome

LAYER = "rrsis"
"""Name of the layer in a GeoPackage."""

METADATA = "rrsis_zoo"
"""Name of the metadata: of the layer in a GeoPackage, a member of a GeoJSON's collection, a key of a GeoParquet."""


def write_geopackage(outcome: Outcome, path: Path) -> None:
    """Write a GeoPackage in the CRS of the raster.

    Raises:
        OutputError: it cannot be written.
    """
    table = outcome.table()
    changed = datetime.datetime.fromtimestamp(outcome.raster.path.stat().st_mtime, datetime.UTC)
    with (
        _failing(path),
        writing(path) as temporary,
        _dated(f"{changed:%Y-%m-%dT%H:%M:%S.000Z}"),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "'crs' was not provided")  # a picture has none
        pyogrio.write_dataframe(
            table,
            temporary,
            layer=LAYER,
            driver="GPKG",
            geometry_type="Polygon",
            layer_metadata={METADATA: json.dumps(outcome.facts(), ensure_ascii=False)},
        )


def write_geojson(outcome: Outcome, path: Path) -> None:
    """Write GeoJSON: in degrees on WGS 84, outer borders counter-clockwise, as RFC 7946 says; pixels without a CRS.

    Raises:
        ConfigError: the raster's CRS cannot be brought into degrees.
        OutputError: it cannot be written.
    """
    table = outcome.table()
    if table.crs is not None:
        try:
            table = table.to_crs("EPSG:4326")
        except Exception as cause:  # PROJ's own
            raise ConfigError(
                f"{path}: GeoJSON is in degrees, and {outcome.raster.path} is in {table.crs.name}, which has none "
                f"({reason(cause)[:100]}): write a .gpkg"
            ) from cause
    table = table.set_geometry(shapely.orient_polygons(table.geometry.to_numpy()), crs=table.crs)
    collection = json.loads(table.to_json(drop_id=True, show_bbox=False))
    collection.pop("crs", None)
    head = {"type": "FeatureCollection", METADATA: outcome.facts()}
    write_text(path, json.dumps(head | {"features": collection["features"]}, ensure_ascii=False) + "\n")


def write_geoparquet(outcome: Outcome, path: Path) -> None:
    """Write GeoParquet in the CRS of the raster.

    Raises:
        ConfigError: pyarrow is not installed.
        OutputError: it cannot be written.
    """
    try:
        from pyarrow import parquet
    except ImportError as cause:
        raise ConfigError("GeoParquet needs pyarrow: pip install 'rrsis-zoo[scenes]'") from cause
    table = outcome.table()
    table.attrs.clear()  # would be written a second time, among pandas' own
    with _failing(path), writing(path) as temporary:
        table.to_parquet(temporary, index=False)
        arrow = parquet.read_table(temporary)
        facts = json.dumps(outcome.facts(), ensure_ascii=False)
        parquet.write_table(
            arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), METADATA: facts}), temporary
        )


def read_layer(path: Path) -> geopandas.GeoDataFrame:
    """Read a layer of this package again."""
    return geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)


@contextlib.contextmanager
def _failing(path: Path) -> Iterator[None]:
    """Turn what GDAL and pyarrow raise into one sentence about the output."""
    try:
        yield
    except (DataSourceError, DataLayerError, FeatureError) as cause:
        raise OutputError(f"{path} cannot be written ({reason(cause)[:200]})") from cause


@contextlib.contextmanager
def _dated(moment: str) -> Iterator[None]:
    """Let GDAL write this as the time of the last change, so that the same input gives the same bytes."""
    name = "OGR_CURRENT_DATE"
    earlier: Any = pyogrio.get_gdal_config_option(name)
    pyogrio.set_gdal_config_options({name: moment})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({name: earlier})
