"""`segment_scene`: the same answers as of a picture, without seams, however the raster is stored."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.features import rasterize
from scipy import ndimage
from stubs import UTM, Stub, blobs, burnt, written

import rrsis_zoo
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.scenes import segment_scene
from rrsis_zoo.scenes.outcome import COLUMNS
from rrsis_zoo.weights.checkpoints import weights_hash

EDGES = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


@pytest.fixture(scope="module")
def miniature():
    return rrsis_zoo.load_model("mini:rsrefseg")


def harbour(root):
    with rasterio.open(root / "examples" / "harbour.png") as file:
        return file.read().transpose(1, 2, 0)[..., :3]


# -- as `segment` ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.8])
def test_a_scene_of_one_window_is_what_segment_returns(miniature, root, tmp_path, threshold):
    path = root / "examples" / "harbour.png"
    texts = ["the ship", "the helipad", "the windmill"]
    expected = rrsis_zoo.segment(miniature, path, texts, threshold=threshold)
    side = max(expected.masks.shape[1:])
    table = segment_scene(miniature, path, texts, window=side, threshold=threshold, presence="off")
    assert table.crs is None
    for text, mask, score, presence in zip(texts, expected.masks, expected.scores, expected.presence, strict=True):
        rows = table[table.text == text]
        assert np.array_equal(burnt(rows, path), mask)
        assert rows.area_px.sum() == mask.sum()
        if len(rows):
            assert (rows.score * rows.area_px).sum() / mask.sum() == pytest.approx(score, abs=1e-6)
            assert np.allclose(rows.presence, presence, atol=1e-6)
    calibrated = segment_scene(miniature, path, texts, window=side)
    assert set(calibrated.text) == {"the ship", "the helipad"}
    assert calibrated.attrs["rrsis_zoo"]["without"]["the windmill"].startswith("no window fits: presence 0.")


def test_columns(miniature, root, tmp_path):
    path = written(tmp_path / "a.tif", harbour(root), transform=UTM, crs="EPSG:32633")
    table = segment_scene(miniature, path, ["the ship", "the windmill"], window=300)
    assert list(table.columns) == [*COLUMNS, "geometry"]
    assert table.crs == "EPSG:32633"
    row = table.iloc[0]
    assert (row.text, row.model, row.weights_sha256) == ("the ship", "rsrefseg", weights_hash(miniature))
    assert (row.window_px, row.input, row.version) == (300, str(path), rrsis_zoo.__version__)
    assert row.gsd_m == pytest.approx(0.5, rel=1e-3)
    assert row.area_m2 == pytest.approx(row.area_px / 4, rel=1e-3)
    assert 0.5 < row.score <= 1
    assert row.presence >= miniature.calibration.threshold
    empty = segment_scene(miniature, path, "the windmill", window=300, presence=1.0)
    assert (len(empty), empty.dtypes.astype(str).to_dict()) == (0, table.dtypes.astype(str).to_dict())


# -- no seams ----------------------------------------------------------------------------------------------------------


def test_no_edge_runs_along_a_window(miniature, root, tmp_path):
    """3 x 2 windows of a picture and its mirror images: what crosses a border looks the same on both sides of it."""
    one = harbour(root)[:128, :128]
    image = np.concatenate([one, one[:, ::-1], one], axis=1)
    image = np.concatenate([image, image[::-1]])
    path = written(tmp_path / "a.tif", image)
    table = segment_scene(miniature, path, "the ship", find="all", window=128, overlap=0.25, presence="off")
    assert len(table)
    lines = {top + edge for top in (0, 96, 128) for edge in (0, 128)} - {0, 256}
    across = {left + edge for left in (0, 96, 192, 256) for edge in (0, 128)} - {0, 384}
    for polygon in table.geometry:
        points = np.concatenate([np.asarray(ring.coords) for ring in (polygon.exterior, *polygon.interiors)])
        steps = np.abs(np.diff(points, axis=0))
        for axis, borders in ((0, across), (1, lines)):
            long = (steps[:, axis] == 0) & (steps[:, 1 - axis] > 12)
            assert not set(points[:-1][long, axis]) & borders


def test_an_object_over_four_windows_is_one_polygon(tmp_path):
    image = np.zeros((500, 520, 3), np.uint8)
    image[100:400, 110:410, 0] = 255
    path = written(tmp_path / "a.tif", image, transform=UTM, crs="EPSG:32633")
    model = Stub(256)
    table = segment_scene(model, path, "red", find="all")
    assert len(model.windows) == 3 * 3
    assert table.area_px.tolist() == [300 * 300]
    assert len(table.geometry[0].exterior.coords) == 5
    assert table.geometry[0].bounds == (500055, 4999800, 500205, 4999950)


@pytest.mark.parametrize(("window", "overlap", "batch"), [(64, 0.25, None), (50, 0.0, 3), (90, 0.6, 7)])
def test_every_pixel_is_as_the_model_says(tmp_path, window, overlap, batch):
    """A model that looks at single pixels gives the same mask by any windows; the layer is that mask, bit by bit."""
    image = blobs(333, 250)
    path = written(tmp_path / "a.tif", image, transform=UTM, crs="EPSG:32633")
    options = {"window": window, "overlap": overlap, "batch": batch}
    table = segment_scene(Stub(), path, ["red", "the blue"], find="all", **options)
    for text, channel in (("red", 0), ("the blue", 2)):
        mask = image[..., channel] > 127
        assert np.array_equal(burnt(table, path, text), mask)
        assert (table.text == text).sum() == ndimage.label(mask, EDGES)[1]
    assert shapely.is_valid(table.geometry.to_numpy()).all()


# -- the same raster, stored otherwise ---------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    """The same scene of 20 m in many files; what each is called, and its pixels' order."""
    image = blobs(210, 190, cell=30)
    metre = 1 / 111412.24  # of longitude on the equator, and nearly of latitude too
    utm = Affine.translation(500000, 10000) @ Affine.scale(20, -20)
    south = Affine.translation(500000, 10000 - 210 * 20) @ Affine.scale(20, 20)
    degrees = Affine.translation(15, 0.09) @ Affine.scale(20 / 111319.49, -20 / 110574.28)
    files = {
        "north up": (image, {"transform": utm, "crs": "EPSG:32633"}),
        "south up": (image[::-1], {"transform": south, "crs": "EPSG:32633"}),
        "west up": (image[:, ::-1], {"transform": utm @ Affine(-1, 0, 190, 0, 1, 0), "crs": "EPSG:32633"}),
        "rotated": (image, {"transform": utm @ Affine.rotation(30), "crs": "EPSG:32633"}),
        "degrees": (image, {"transform": degrees, "crs": "EPSG:4326"}),
    }
    assert metre > 0
    return {name: written(tmp_path / f"{name}.tif", pixels, **how) for name, (pixels, how) in files.items()}


def test_the_same_pixels_in_any_grid(stored, root):
    """By a model that sees pixels alone: the masks; by one that knows left and right: as if all were north up."""
    tables = {name: segment_scene(Stub(), path, ["red", "green"], find="all") for name, path in stored.items()}
    first = tables["north up"]
    assert len(first) > 10
    for name, table in tables.items():
        assert table.score.tolist() == first.score.tolist()
        assert table.area_px.tolist() == first.area_px.tolist()
        assert table.area_m2.sum() == pytest.approx(first.area_m2.sum(), rel=1e-3), name
        mask = burnt(table, stored[name])
        turned = {"south up": mask[::-1], "west up": mask[:, ::-1]}.get(name, mask)
        assert np.array_equal(turned, burnt(first, stored["north up"]))
    assert [tables["south up"].geometry[n].equals(first.geometry[n]) for n in range(len(first))] == [True] * len(first)


def test_a_mirrored_file_is_shown_as_on_a_map(miniature, root, tmp_path):
    image = harbour(root)
    north = written(tmp_path / "n.tif", image, transform=UTM, crs="EPSG:32633")
    other = UTM @ Affine(1, 0, 0, 0, -1, image.shape[0])
    south = written(tmp_path / "s.tif", image[::-1], transform=other, crs="EPSG:32633")
    one, same = (segment_scene(miniature, path, ["the ship", "the helipad"]) for path in (north, south))
    assert len(one)
    assert one.drop(columns="input").equals(same.drop(columns="input"))


def test_rotated_corners_are_exact(tmp_path):
    image = np.zeros((40, 50, 3), np.uint8)
    image[10:20, 5:25, 0] = 255
    turned = Affine.translation(500000, 5000000) @ Affine.rotation(30) @ Affine.shear(5) @ Affine.scale(2, -2)
    path = written(tmp_path / "a.tif", image, transform=turned, crs="EPSG:32633")
    (polygon,) = segment_scene(Stub(), path, "red").geometry
    corners = {turned @ corner for corner in ((5, 10), (25, 10), (25, 20), (5, 20))}
    assert {tuple(np.round(point, 6)) for point in polygon.exterior.coords} == {
        tuple(np.round(corner, 6)) for corner in corners
    }


def test_ground_control_points(tmp_path):
    """A picture with four points, as of a scanned map, turned by a right angle."""
    image = np.zeros((100, 80, 3), np.uint8)
    image[10:30, 20:60, 0] = 255
    ground = Affine.translation(500000, 5000000) @ Affine(0, 2, 0, 2, 0, 0)
    places = [(0, 0), (80, 0), (80, 100), (0, 100)]
    points = [GroundControlPoint(row=y, col=x, x=(ground @ (x, y))[0], y=(ground @ (x, y))[1]) for x, y in places]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = written(tmp_path / "a.tif", image, gcps=(points, "EPSG:32633"))
    (polygon,) = segment_scene(Stub(128), path, "red").geometry
    expected = shapely.box(*(ground @ (20, 10)), *(ground @ (60, 30)))
    assert polygon.intersection(expected).area / polygon.union(expected).area > 0.93


# -- options -----------------------------------------------------------------------------------------------------------


def test_gsd_and_simplify_and_min_area(tmp_path):
    """Results come out on the raster's grid, whatever the model looked at."""
    image = np.zeros((240, 320, 3), np.uint8)
    image[40:120, 60:160, 0] = image[200:204, 300:304, 0] = 255
    path = written(tmp_path / "a.tif", image, transform=UTM, crs="EPSG:32633")
    for gsd, window in ((2.0, 64), (0.25, 256), (0.7, 64)):
        model = Stub(window)
        table = segment_scene(model, path, "red", find="all", gsd=gsd, min_area=20)
        assert table.gsd_m[0] == pytest.approx(gsd, rel=0.01)
        mask = burnt(table, path)
        truth = image[..., 0] > 127
        truth[200:] = False
        assert (mask & truth).sum() / (mask | truth).sum() > 0.94
        assert table.area_px.tolist() == [mask.sum()]
        assert model.windows[0] == (min(window, round(120 / gsd)), min(window, round(160 / gsd)))
    rough = segment_scene(Stub(), path, "red", find="all", gsd=0.7, simplify=1.0)
    fine = segment_scene(Stub(), path, "red", find="all", gsd=0.7)
    assert rough.geometry.count_coordinates().sum() < fine.geometry.count_coordinates().sum()
    with pytest.raises(ConfigError, match="smaller than one pixel of --gsd 500"):
        segment_scene(Stub(), path, "red", gsd=500)


def test_area_of_interest(tmp_path):
    """Given in another CRS; only windows that touch it are read, and nothing is found outside."""
    import geopandas

    image = np.zeros((600, 600, 3), np.uint8)
    image[::20, :, 0] = image[10:500, 10:300, 0] = 255
    path = written(tmp_path / "a.tif", image, transform=UTM, crs="EPSG:32633")
    corners = np.array([(100, 80), (310, 120), (250, 260), (90, 200)])
    wanted = shapely.Polygon([UTM @ tuple(corner) for corner in corners.tolist()])
    geopandas.GeoSeries([wanted], crs="EPSG:32633").to_crs("EPSG:4326").to_file(tmp_path / "aoi.geojson")
    model = Stub(64)
    table = segment_scene(model, path, "red", find="all", aoi=tmp_path / "aoi.geojson")
    inside = rasterize([shapely.Polygon(corners)], (600, 600)).astype(bool)
    differs = burnt(table, path) != (inside & (image[..., 0] > 127))
    assert differs.sum() <= 3  # a corner of a pixel, by the way through degrees
    assert len(model.windows) < 40 < 13 * 13
    assert (table.intersection(wanted).area / table.area).min() > 0.5


def test_windows_that_do_not_fit_go_by_halves(tmp_path, monkeypatch):
    image = blobs(200, 200)
    path = written(tmp_path / "a.tif", image)
    sizes = []
    encode = Stub.encode

    def small_gpu(self, views, sizes_of):
        sizes.append(len(sizes_of))
        if len(sizes_of) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, views, sizes_of)

    monkeypatch.setattr(Stub, "encode", small_gpu)
    most = 2
    table = segment_scene(Stub(), path, "red", find="all", batch=8)
    assert np.array_equal(burnt(table, path), image[..., 0] > 127)
    assert sizes[:7] == [8, 4, 2, 2, 4, 2, 2]
    most = 0
    with pytest.raises(ConfigError, match="a window of 64 x 64 pixels with 1 sentences is too much"):
        segment_scene(Stub(), path, "red")


def test_an_error_in_the_middle_ends_the_reading(tmp_path, monkeypatch):
    """GDAL does not forgive a file that is closed while another thread reads it."""
    path = written(tmp_path / "a.tif", blobs(600, 600), compress="DEFLATE")
    answers = iter(range(3))
    monkeypatch.setattr(Stub, "encode", lambda self, views, sizes: next(answers) / 0)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            segment_scene(Stub(), path, "red", find="all", batch=1)
        answers = iter(range(3))


def test_windows_without_data_are_not_run(tmp_path):
    image = blobs(400, 400)
    image[:, :250] = 0
    image[300:] = 0
    image[image.any(axis=2)] |= 1  # 0 is for no data alone
    path = written(tmp_path / "a.tif", image, transform=UTM, crs="EPSG:32633", nodata=0)
    model = Stub(64)
    table = segment_scene(model, path, "red", find="all")
    assert np.array_equal(burnt(table, path), image[..., 0] > 127)
    assert len(model.windows) == 7 * 4  # of 9 x 9


def test_arguments(tmp_path):
    path = written(tmp_path / "a.tif", blobs(50, 50))
    for options, said in (
        ({"find": "some"}, "unknown find 'some'"),
        ({"levels": "some"}, "unknown levels 'some'"),
        ({"gsd": 0}, "gsd must be metres a pixel"),
        ({"gsd": 1.0}, "has no CRS, so nobody knows how large its pixels are: leave --gsd out"),
        ({"min_area": 1.0}, "has no CRS.*leave --min-area out"),
        ({"simplify": 1.0}, "has no CRS.*leave --simplify out"),
        ({"window": 4}, "window must be at least 8"),
        ({"overlap": 1.0}, "overlap must be a share from 0 to 0.9"),
        ({"threshold": 0.0}, "threshold must be between 0 and 1"),
        ({"bands": (1, 2)}, "bands must be three numbers from 1"),
        ({"bands": (1, 2, 4)}, "has 3 bands, and --bands 1,2,4 asks for more"),
        ({"presence": 2.0}, "presence must be a number from 0 to 1, or off"),
        ({"presence": "on"}, "presence must be a number from 0 to 1, or off"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"stretch": "9"}, "--stretch '9' is none of"),
    ):
        with pytest.raises(ConfigError, match=said):
            segment_scene(Stub(), path, "red", **options)
    for texts, said in (([], "texts is empty"), ([3], "got a list with int")):
        with pytest.raises(ConfigError, match=said):
            segment_scene(Stub(), path, texts)
    assert len(segment_scene(Stub(), path, ["red", "red"], find="all")) == len(
        segment_scene(Stub(), path, "red", find="all")
    )


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "crs", "box"),
    [
        ("naip_rgbn.tif", 26914, (485900, 5205630, 490570, 5209245)),
        ("utm18n_rgb.tif", 32618, (101985, 2611485, 339315, 2826915)),
    ],
)
def test_real_rasters(miniature, real_rasters, name, crs, box):
    table = segment_scene(miniature, real_rasters / name, "the river", find="all", presence="off")
    assert table.crs.to_epsg() == crs
    assert len(table) > 10
    left, bottom, right, top = table.total_bounds
    assert box[0] <= left < right <= box[2]
    assert box[1] <= bottom < top <= box[3]
    with rasterio.open(real_rasters / name) as file:
        seen = file.read([1, 2, 3]).any(axis=0)
    mask = burnt(table, real_rasters / name)
    assert mask.sum() == table.area_px.sum()
    assert not mask[~seen].any()
    assert isinstance(Path(table.input[0]), Path)
