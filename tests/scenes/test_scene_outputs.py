"""What is written is what was found, other programs read it, and the same input gives the same bytes."""

import json
import shutil
import subprocess

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from PIL import Image
from pyarrow import parquet
from pycocotools import mask as coco
from stubs import UTM, Stub, blobs, burnt, written

from rrsis_zoo.errors import OutputError
from rrsis_zoo.outputs.found import Source as Model
from rrsis_zoo.scenes.finding import find_in_scene
from rrsis_zoo.scenes.kinds import SCENE_KINDS, write
from rrsis_zoo.scenes.rasters import probability_file
from rrsis_zoo.scenes.settings import Settings

TEXTS = ["red", "the green", "no blue"]
IMAGE = blobs(333, 250)
IMAGE[..., 2] //= 3


def outcome(path, texts=TEXTS, **options):
    sink = options.pop("sink", None)
    model = Model("stub", "mini:stub", "0" * 64)
    return find_in_scene(Stub(), model, path, texts, Settings(**{"find": "all", **options}), rows_sink=sink)


@pytest.fixture(scope="module", params=["north", "south", "plain"])
def path(request, tmp_path_factory):
    """A raster that is north up, one that is south up, and a picture."""
    place = tmp_path_factory.mktemp("scene")
    if request.param == "plain":
        return written(place / "a.tif", IMAGE)
    if request.param == "north":
        return written(place / "a.tif", IMAGE, transform=UTM, crs="EPSG:32633")
    south = UTM @ rasterio.Affine(1, 0, 0, 0, -1, 333)
    return written(place / "a.tif", IMAGE[::-1], transform=south, crs="EPSG:32633")


@pytest.fixture(scope="module")
def found(path):
    return outcome(path)


def stored(path, channel):
    """The mask of a channel, as the file has its rows."""
    with rasterio.open(path) as file:
        return file.read(channel + 1) > 127


@pytest.mark.parametrize("kind", ["gpkg", "geojson", "parquet"])
def test_layers(found, path, tmp_path, kind):
    expected = found.table()
    file = tmp_path / f"out.{kind}"
    write(SCENE_KINDS[kind], found, file)
    read = geopandas.read_parquet(file) if kind == "parquet" else geopandas.read_file(file)
    assert list(read.columns) == list(expected.columns)
    for name in ("text", "score", "area_px", "model", "weights_sha256", "window_px", "input", "version"):
        assert read[name].tolist() == expected[name].tolist(), name
    assert np.allclose(read.area_m2.astype(float), expected.area_m2, equal_nan=True)
    assert read.presence.isna().all()
    if kind == "geojson" and expected.crs is not None:
        assert read.crs == "EPSG:4326"
        assert abs(read.total_bounds[0] - 15) < 0.01  # the meridian of the zone
        assert all(shapely.is_ccw(polygon.exterior) for polygon in read.geometry)
        read = read.to_crs(expected.crs)
        assert shapely.hausdorff_distance(read.geometry.to_numpy(), expected.geometry.to_numpy()).max() < 1e-6
    else:
        if expected.crs is not None:
            assert read.crs == expected.crs
        assert shapely.equals(read.geometry.to_numpy(), expected.geometry.to_numpy()).all()
        for n, text in enumerate(TEXTS):
            assert np.array_equal(burnt(read, path, text), stored(path, n))


def test_facts_are_in_every_layer(found, tmp_path):
    for kind in ("gpkg", "geojson", "parquet"):
        write(SCENE_KINDS[kind], found, tmp_path / f"a.{kind}")
    layer = pyogrio.read_info(tmp_path / "a.gpkg", layer="rrsis")["layer_metadata"]["rrsis_zoo"]
    collection = json.loads((tmp_path / "a.geojson").read_text())
    table = parquet.read_schema(tmp_path / "a.parquet").metadata[b"rrsis_zoo"]
    facts = json.loads(layer)
    assert facts == collection["rrsis_zoo"] == json.loads(table) == json.loads(json.dumps(found.facts()))
    assert facts["without"] == {"no blue": "no pixel has a probability above 0.5"}
    assert facts["texts"] == TEXTS
    assert (collection["type"], "crs" in collection) == ("FeatureCollection", False)


@pytest.mark.parametrize("kind", ["gpkg", "geojson", "parquet"])
def test_an_empty_layer_keeps_its_columns(path, tmp_path, kind):
    file = tmp_path / f"a.{kind}"
    nothing = outcome(path, ["no blue"])
    write(SCENE_KINDS[kind], nothing, file)
    if kind == "geojson":
        assert json.loads(file.read_text())["features"] == []
        return
    read = geopandas.read_parquet(file) if kind == "parquet" else geopandas.read_file(file)
    assert (len(read), list(read.columns)) == (0, list(nothing.table().columns))
    if kind == "gpkg":
        assert pyogrio.read_info(file)["geometry_type"] == "Polygon"


def test_another_program_opens_it(found, tmp_path):
    """GDAL's own ogrinfo where it is installed, else another build of GDAL than the one that wrote it."""
    write(SCENE_KINDS["gpkg"], found, tmp_path / "a.gpkg")
    if shutil.which("ogrinfo"):
        said = subprocess.run(
            ["ogrinfo", "-so", tmp_path / "a.gpkg", "rrsis"], capture_output=True, text=True, check=True
        )
        assert f"Feature Count: {len(found.table())}" in said.stdout
        return
    import sqlite3

    with sqlite3.connect(tmp_path / "a.gpkg") as file:
        assert file.execute("select count(*) from rrsis").fetchone() == (len(found.table()),)
        assert file.execute("select column_name, geometry_type_name from gpkg_geometry_columns").fetchall() == [
            ("geom", "POLYGON")
        ]
        assert file.execute("pragma integrity_check").fetchone() == ("ok",)


def test_masks(found, path, tmp_path):
    write(SCENE_KINDS["tif"], found, tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as file, rasterio.open(path) as scene:
        assert (file.shape, file.transform, file.crs) == (scene.shape, scene.transform, scene.crs)
        assert file.descriptions == tuple(TEXTS)
        for n in range(3):
            assert np.array_equal(file.read(n + 1), stored(path, n).astype(np.uint8))


def test_probabilities(path, tmp_path):
    sink = tmp_path / "p.tif"
    found = outcome(path, sink=lambda raster: probability_file(sink, TEXTS, raster))
    with rasterio.open(sink) as file, rasterio.open(path) as scene:
        assert (file.shape, file.transform, file.crs) == (scene.shape, scene.transform, scene.crs)
        assert file.descriptions == tuple(TEXTS)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (file.nodata, file.dtypes) == (255, ("uint8",) * 3)
        for n in range(3):
            expected = np.rint(100 / (1 + np.exp(-(scene.read(n + 1) - 127.5) / 64)))
            assert np.abs(file.read(n + 1) - expected).max() <= 1
    assert len(found.table())
    assert [one.name for one in tmp_path.iterdir()] == ["p.tif"]


def test_record_and_drawing(found, path, tmp_path):
    write(SCENE_KINDS["json"], found, tmp_path / "a.json")
    record = json.loads((tmp_path / "a.json").read_text())
    assert (record["height"], record["width"], record["input"]) == (333, 250, str(path))
    for n, answer in enumerate(record["answers"]):
        mask = IMAGE[..., n] > 127
        assert answer["text"] == TEXTS[n]
        assert np.array_equal(coco.decode(answer["segmentation"]), mask)
        assert answer["area_px"] == mask.sum()
        if n < 2:
            rows, columns = np.nonzero(mask)
            left, top = columns.min(), rows.min()
            assert answer["bbox"] == [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
    write(SCENE_KINDS["png"], found, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.width == 500
        assert drawn.height > 666


def test_large_runs_come_in_parts(monkeypatch, found, tmp_path):
    monkeypatch.setattr("rrsis_zoo.scenes.pictures._BLOCK", 5000)
    write(SCENE_KINDS["json"], found, tmp_path / "a.json")
    answer = json.loads((tmp_path / "a.json").read_text())["answers"][0]
    assert np.array_equal(coco.decode(answer["segmentation"]), IMAGE[..., 0] > 127)


@pytest.mark.parametrize("kind", SCENE_KINDS)
def test_the_same_bytes_again(found, path, tmp_path, kind):
    write(SCENE_KINDS[kind], found, tmp_path / "a")
    write(SCENE_KINDS[kind], outcome(path), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("kind", SCENE_KINDS)
def test_a_full_disk(found, tmp_path, limited_files, kind):
    with limited_files(300), pytest.raises(OutputError, match=rf"a\.{kind} cannot be written"):
        write(SCENE_KINDS[kind], found, tmp_path / f"a.{kind}")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_for_probabilities(path, tmp_path, limited_files):
    with limited_files(3000), pytest.raises(OutputError, match=r"p\.tif cannot be written"):
        outcome(path, sink=lambda raster: probability_file(tmp_path / "p.tif", TEXTS, raster))
    assert not list(tmp_path.iterdir())
