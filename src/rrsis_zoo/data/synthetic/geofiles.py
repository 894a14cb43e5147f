"""Large scenes on disk: a GeoTIFF and, beside it, a GeoPackage with the truth.

::

    <root>/scene_000.tif     RGB, 8 bits, tiled, in a UTM zone, 0.5 m a pixel, north up
    <root>/scene_000.gpkg    three layers, polygons along the edges of pixels, in the same CRS
    <root>/synthetic.json    seed, version, and what every sentence means

``referents`` has a row for every sentence that fits one object of the whole scene: ``text``, ``kind``, ``category``,
``object``. ``fitting`` has the sentences for ``--find all`` ("the ship", "the red ship"), with the same columns and a
row for each object that they fit. ``objects`` has everything on the scene, mentioned or not: ``object``, ``category``,
``colour``, ``size``, ``angle``. A polygon burnt into the raster's grid gives the object's mask, pixel by pixel.

Needs the extra ``scenes``; its libraries are imported when something is written.
"""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrsis_zoo.data.synthetic.chance import RandomStream
from rrsis_zoo.data.synthetic.wide import WIDE_KINDS, WideObject, WideScene, check_wide, make_wide_scene
from rrsis_zoo.data.synthetic.write import GENERATOR_VERSION, SIDECAR, check_root, drafted, in_order
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import cannot_write, expanded, write_text

if TYPE_CHECKING:
    import geopandas
    from affine import Affine
    from rasterio.crs import CRS

GSD = 0.5
"""Metres a pixel."""

MAX_SCENES = 999  # three digits in a file name

LAYERS = ("referents", "fitting", "objects")
"""Layers of a scene's GeoPackage."""

_PLACE_STREAM = 4  # apart from the streams of the scenes themselves
_SIZES = {True: "large", False: "small", None: None}


@dataclass(frozen=True)
class WideSummary:
    """What was written.

    Attributes:
        root: folder of the scenes.
        size: side of each in pixels.
        seed: seed of the set.
        scenes: the rasters, in order.
        objects: number of objects in all scenes.
        kinds: number of sentences by kind.
        fitting: number of sentences for ``--find all``.
    """

    root: Path
    size: int
    seed: int
    scenes: tuple[Path, ...]
    objects: int
    kinds: Counter[str]
    fitting: int

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items())
        return "\n".join(
            (
                f"{len(self.scenes)} georeferenced scenes in {self.root}: {self.size} px, {GSD} m a pixel, seed "
                f"{self.seed}, version {GENERATOR_VERSION}",
                f"{self.objects} objects; sentences with one referent in the whole scene: {kinds}",
                f"sentences with all that they fit: {self.fitting}",
            )
        )


def make_scenes(
    root: str | Path,
    *,
    scenes: int = 4,
    size: int = 1024,
    seed: int = 0,
    per_kind: int = 4,
    processes: int | None = None,
    overwrite: bool = False,
) -> WideSummary:
    """Generate georeferenced scenes with sentences that fit one object of the whole scene, and the truth as polygons.

    Args:
        root: folder to create.
        scenes: number of scenes, 1 to 999.
        size: side of each in pixels, 512 to 4096.
        seed: non-negative seed.
        per_kind: sentences of each of the five kinds and scene, 1 to 4.
        processes: worker processes; None for one per processor. The result does not depend on it.
        overwrite: replace earlier synthetic data in ``root``.

    Raises:
        ConfigError: a value out of range, a ``root`` with other content, or the extra ``scenes`` is not installed.
        OutputError: it cannot be written; existing files are unchanged.
    """
    if importlib.util.find_spec("rasterio") is None or importlib.util.find_spec("geopandas") is None:
        raise ConfigError("the layout scene needs rasterio and geopandas: pip install 'rrsis-zoo[scenes]'")
    root = expanded(root)
    check_wide(size, seed, per_kind)
    if not 1 <= scenes <= MAX_SCENES:
        raise ConfigError(f"scenes must be 1 to {MAX_SCENES} for the layout scene, got {scenes}")
    if processes is not None and processes < 1:
        raise ConfigError(f"processes must be at least 1, or None for one per processor; got {processes}")
    place = check_root(root, overwrite)
    with drafted(root, place) as draft:
        work = partial(_write, folder=draft, size=size, seed=seed, per_kind=per_kind)
        written = list(in_order(work, list(range(scenes)), processes, chunk=1))
        sidecar = {
            "generator": "rrsis_zoo.data.synthetic",
            "version": GENERATOR_VERSION,
            "layout": "scene",
            "seed": seed,
            "size": size,
            "expressions_per_kind": per_kind,
            "gsd_m": GSD,
            "scenes": written,
        }
        write_text(draft / SIDECAR, json.dumps(sidecar))
    return WideSummary(
        root,
        size,
        seed,
        tuple(root / scene["raster"] for scene in written),
        sum(scene["objects"] for scene in written),
        Counter({kind: sum(s["kind"] == kind for w in written for s in w["sentences"]) for kind in WIDE_KINDS}),
        sum(len(scene["fitting"]) for scene in written),
    )


def _write(index: int, *, folder: Path, size: int, seed: int, per_kind: int) -> dict[str, Any]:
    """Write one scene; return what the sidecar says of it."""
    import rasterio

    scene = make_wide_scene(index, size=size, seed=seed, per_kind=per_kind)
    crs, transform = _georeference(index, seed)
    name = f"scene_{index:03}"
    raster = folder / f"{name}.tif"
    profile = {"driver": "GTiff", "width": size, "height": size, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 2}
    with (
        cannot_write(raster),
        rasterio.open(raster, "w", crs=crs, transform=transform, **profile, **tiles) as out,
    ):
        out.write(scene.image.transpose(2, 0, 1))
    _write_layers(folder / f"{name}.gpkg", truth(scene, crs, transform))
    return {
        "raster": raster.name,
        "truth": f"{name}.gpkg",
        "crs": crs.to_string(),
        "objects": len(scene.objects),
        "sentences": [
            {
                "text": sentence.text,
                "kind": sentence.kind,
                "referent": sentence.referent,
                "anchors": list(sentence.anchors),
                "meaning": asdict(sentence.meaning),
            }
            for sentence in scene.sentences
        ],
        "fitting": [asdict(one) for one in scene.fitting],
    }


def _georeference(index: int, seed: int) -> tuple[CRS, Affine]:
    """Return a place on land or sea, as it falls: a UTM zone, and a corner well inside of it on whole metres."""
    from rasterio.crs import CRS
    from rasterio.transform import from_origin

    stream = RandomStream(seed, _PLACE_STREAM, index)
    code = stream.choice((32600, 32700)) + stream.integer(1, 60)
    north = stream.integer(1_000, 7_000) if code < 32700 else stream.integer(3_000, 9_000)
    return CRS.from_epsg(code), from_origin(stream.integer(300, 690) * 1000.0, north * 1000.0, GSD, GSD)


def truth(scene: WideScene, crs: CRS, transform: Affine) -> dict[str, geopandas.GeoDataFrame]:
    """Return the layers of a scene by their names.

    Args:
        scene: from `make_wide_scene`.
        crs: of the polygons.
        transform: from pixels of the scene (column, row) to the CRS.
    """
    import geopandas

    shapes = [_outline(thing, transform) for thing in scene.objects]

    def layer(rows: list[dict[str, Any]]) -> geopandas.GeoDataFrame:
        return geopandas.GeoDataFrame(rows, geometry=[shapes[row["object"]] for row in rows], crs=crs)

    referents = [
        {"text": s.text, "kind": s.kind, "category": scene.objects[s.referent].category, "object": s.referent}
        for s in scene.sentences
    ]
    fitting = [
        {"text": one.text, "kind": one.kind, "category": one.category, "object": index}
        for one in scene.fitting
        for index in one.objects
    ]
    objects = [
        {"object": i, "category": o.category, "colour": o.colour, "size": _SIZES[o.large], "angle": o.angle}
        for i, o in enumerate(scene.objects)
    ]
    return dict(zip(LAYERS, (layer(referents), layer(fitting), layer(objects)), strict=True))


def _outline(thing: WideObject, transform: Affine) -> Any:
    """Return the edges of an object's pixels, a shapely ``MultiPolygon``."""
    from affine import Affine
    from rasterio.features import shapes
    from shapely.geometry import MultiPolygon, shape

    mask = thing.mask.astype("uint8")
    a, b, c, d, e, f = transform[:6]
    x, y = c + a * thing.left + b * thing.top, f + d * thing.left + e * thing.top
    placed = Affine(a, b, x, d, e, y)
    parts: list[Any] = [shape(geometry) for geometry, _ in shapes(mask, mask=thing.mask, transform=placed)]
    return MultiPolygon(parts)


def _write_layers(path: Path, layers: dict[str, geopandas.GeoDataFrame]) -> None:
    import pyogrio

    with cannot_write(path), _undated():
        for name, layer in layers.items():
            pyogrio.write_dataframe(layer, path, layer=name, driver="GPKG", geometry_type="MultiPolygon")


@contextmanager
def _undated() -> Iterator[None]:
    """Let GDAL write a fixed date into GeoPackages, so that equal seeds give equal files."""
    import pyogrio

    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z"})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
