"""`rrsis segment` for maps: which inputs are maps, what is written, collections, kills, errors."""

import json
import os
import random
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from PIL import Image

import rrsis_zoo
import warm
from rrsis_zoo.commands.segment import run_segment
from rrsis_zoo.commands.segment_scenes import is_scene
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.scenes import segment_scene
from rrsis_zoo.scenes.raster import describe

TEXTS = ["the red square", "the large storage tank"]
SENTENCES = ["--text", TEXTS[0], "--text", TEXTS[1]]
UTM = rasterio.transform.from_origin(500000, 5000000, 0.5, 0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(3)
    model = rrsis_zoo.load_model("control", preset="tiny", weights="none")
    model.fit_tokenizer(TEXTS * 10)
    place = tmp_path_factory.mktemp("model") / "control"
    model.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def threshold(folder, scene_pixels):
    """A probability that some pixels of random weights exceed, and others do not."""
    model = rrsis_zoo.load_model(folder)
    return float(np.quantile(rrsis_zoo.segment(model, scene_pixels[:128, :128], TEXTS).probabilities, 0.7))


@pytest.fixture(scope="module")
def scene_pixels():
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    return np.asarray(small.resize((290, 230), Image.Resampling.BICUBIC))


def raster(path, pixels, **options):
    options = {"driver": "GTiff", "transform": UTM, "crs": "EPSG:32633", "dtype": "uint8", "count": 3} | options
    with rasterio.open(path, "w", height=pixels.shape[0], width=pixels.shape[1], **options) as file:
        file.write(pixels.transpose(2, 0, 1))


@pytest.fixture
def here(tmp_path, monkeypatch, scene_pixels):
    monkeypatch.chdir(tmp_path)
    raster("a.tif", scene_pixels)
    raster("b.tif", scene_pixels[::-1].copy(), driver="GTiff")
    Image.fromarray(scene_pixels).save("p.png")
    return tmp_path


def segment(folder, threshold, *arguments):
    return run_segment([*map(str, arguments), *SENTENCES, "--model", str(folder), "--threshold", str(threshold)])


def files():
    return sorted(str(path) for path in Path.cwd().rglob("*") if path.is_file())


# -- which inputs are maps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "scene"),
    [
        (["p.png", "--out", "o.png"], False),
        (["a.tif", "--out", "o.png"], False),
        (["a.tif", "--out", "o.json"], False),
        (["a.tif", "--json"], False),
        (["a.tif", "--out", "o/"], False),
        (["a.tif", "--out", "o.gpkg"], True),
        (["p.png", "--out", "o.geojson"], True),
        (["a.tif", "--out", "o.TIF"], True),
        (["a.tif", "--out", "o/", "--kind", "png,parquet"], True),
        (["a.tif", "--out", "o.png", "--find", "all"], True),
        (["a.tif", "--out", "o.png", "--gsd", "1"], True),
        (["a.tif", "--out", "o.png", "--window", "100"], True),
        (["a.vrt", "--out", "o.png"], True),
        (["gone.vrt", "--out", "o.png"], False),
    ],
)
def test_what_is_a_map(here, options, scene):
    from rrsis_zoo.commands.segment import _parser

    Path("a.vrt").write_text("<VRTDataset/>")
    assert is_scene(_parser().parse_args([*options, "--text", "x", "--model", "m"])) == scene


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_a_layer_is_what_segment_scene_returns(here, folder, threshold, capsys):
    expected = segment_scene(rrsis_zoo.load_model(folder), "a.tif", TEXTS, find="all", threshold=threshold)
    assert segment(folder, threshold, "a.tif", "--find", "all", "--out", "o.gpkg") == 0
    said = capsys.readouterr()
    assert f"a.tif: {TEXTS[0]}: no pixel has a probability above {threshold:g}" in said.out
    assert f"a.tif: {TEXTS[1]}: {len(expected)} polygons, the best has score 0." in said.out
    assert said.out.endswith("wrote o.gpkg\n")
    assert said.err == "rrsis segment: a.tif: 9 windows, 4 at a time\n"
    layer = geopandas.read_file("o.gpkg")
    assert layer.text.tolist() == expected.text.tolist()
    assert shapely.equals(layer.geometry.to_numpy(), expected.geometry.to_numpy()).all()


def test_every_kind_in_a_folder(here, folder, threshold, capsys):
    kinds = "gpkg,geojson,parquet,tif,png,json"
    options = ["--kind", kinds, "--out", "o/", "--probability", "o/", "--find", "all"]
    assert segment(folder, threshold, "a.tif", "p.png", *options) == 0
    expected = {
        f"{name}{end}" for name in "ap" for end in (".gpkg", ".geojson", ".parquet", ".mask.tif", ".png", ".json")
    }
    expected |= {"a.probability.tif", "p.probability.tif", ".done.jsonl"}
    assert {path.name for path in Path("o").iterdir()} == expected
    with rasterio.open("o/a.mask.tif") as masks, rasterio.open("o/a.probability.tif") as chances:
        seen = chances.read() > 100 * threshold + 0.5
        assert (masks.read()[seen] == 1).all()
        record = json.loads(Path("o/a.json").read_text())
        assert [answer["area_px"] for answer in record["answers"]] == masks.read().sum(axis=(1, 2)).tolist()


def test_one_scene_for_every_option(here, folder, threshold, capsys):
    geopandas.GeoSeries([shapely.box(500010, 4999920, 500100, 4999980)], crs="EPSG:32633").to_file("aoi.gpkg")
    options = ["--gsd", "0.7", "--window", "100", "--overlap", "0.4", "--bands", "3,2,1", "--min-area", "2"]
    options += ["--simplify", "0.4", "--aoi", "aoi.gpkg", "--batch", "2", "--stretch", "5,95", "--presence", "off"]
    assert segment(folder, threshold, "a.tif", *options, "--find", "all", "--out", "o.parquet") == 0
    layer = geopandas.read_parquet("o.parquet")
    assert len(layer)
    assert (layer.area_m2 > 1.5).all()
    assert layer.within(shapely.box(500009, 4999919, 500101, 4999981)).all()
    facts = segment_scene(
        rrsis_zoo.load_model(folder), "a.tif", TEXTS, find="all", gsd=0.7, window=100, overlap=0.4, bands=(3, 2, 1),
        min_area=2, simplify=0.4, aoi="aoi.gpkg", batch=2, stretch="5,95", presence="off", threshold=threshold,
    )  # fmt: skip
    assert shapely.equals(layer.geometry.to_numpy(), facts.geometry.to_numpy()).all()
    assert "2 at a time" in capsys.readouterr().err


def test_json_lines(here, folder, threshold, capsys):
    assert segment(folder, threshold, "a.tif", "b.tif", "--json", "--window", "128") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["input"] for line in lines] == ["a.tif", "b.tif"]
    assert all(len(line["answers"]) == 2 for line in lines)


def test_half_precision(here, folder, threshold):
    assert segment(folder, threshold, "a.tif", "--out", "o.tif", "--precision", "bf16", "--find", "all") == 0
    assert segment(folder, threshold, "a.tif", "--out", "p.tif", "--find", "all") == 0
    with rasterio.open("o.tif") as half, rasterio.open("p.tif") as full:
        assert 0.8 < (half.read() == full.read()).mean() < 1


# -- collections -------------------------------------------------------------------------------------------------------


def test_a_collection_goes_on_where_it_was(here, folder, threshold, capsys, monkeypatch):
    options = ["--out", "o/", "--window", "128"]
    assert segment(folder, threshold, "a.tif", *options) == 0
    before = Path("o/a.gpkg").stat().st_mtime_ns
    capsys.readouterr()
    assert segment(folder, threshold, "a.tif", "b.tif", *options) == 0
    assert "1 of 2 inputs were done before and are left as they are" in capsys.readouterr().err
    assert Path("o/a.gpkg").stat().st_mtime_ns == before
    assert segment(folder, threshold, "a.tif", "b.tif", *options) == 0
    assert capsys.readouterr().out == ""
    for other in (["--overlap", "0.5"], ["--find", "all"], ["--text", "the pier"]):
        with pytest.raises(ConfigError, match=r"o/a\.gpkg and 1 more exists: --overwrite"):
            segment(folder, threshold, "a.tif", "b.tif", *options, *other)
    os.utime("a.tif")
    with pytest.raises(ConfigError, match=r"o/a\.gpkg exists: --overwrite"):
        segment(folder, threshold, "a.tif", "b.tif", *options)
    assert segment(folder, threshold, "a.tif", "b.tif", *options, "--overwrite") == 0
    assert Path("o/a.gpkg").stat().st_mtime_ns != before


def test_a_damaged_input_is_named_and_the_others_go_on(here, folder, threshold, capsys):
    Path("cut.tif").write_bytes(Path("a.tif").read_bytes()[:100000])
    geopandas.GeoSeries([shapely.box(500000, 4999800, 500300, 5000000)], crs="EPSG:32633").to_file("aoi.gpkg")
    raster("far.tif", np.zeros((50, 50, 3), np.uint8), crs="EPSG:32601")
    options = ["--out", "o/", "--aoi", "aoi.gpkg"]
    assert segment(folder, threshold, "cut.tif", "far.tif", "a.tif", *options) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("rrsis segment: cut.tif: cannot be read: it is cut short or damaged")
    assert said[1].startswith("rrsis segment: aoi.gpkg: the area of interest ")
    assert said[-1] == "rrsis segment: 2 of 3 inputs could not be segmented"
    assert sorted(path.name for path in Path("o").iterdir()) == [".done.jsonl", "a.gpkg"]


# -- kills -------------------------------------------------------------------------------------------------------------


def killed_after(arguments, folder, count):
    """Run the command, killed at the n-th of the moments that matter; return whether it was."""
    return warm.call(_armed, [*map(str, arguments)], count, folder=folder) == -signal.SIGKILL


def _armed(words, count):
    """Moments: rows are finished, a file is about to take its place, or has, the ledger is about to get a line."""
    from rrsis_zoo import files
    from rrsis_zoo.scenes.blend import Blend
    from rrsis_zoo.scenes.ledger import Ledger

    left = [count]

    def here(function, after=False):
        def wrapped(*arguments, **options):
            result = function(*arguments, **options) if after else None
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result if after else function(*arguments, **options)

        return wrapped

    Blend.finish = here(Blend.finish)
    Ledger._add = here(Ledger._add)
    files.os.replace = here(here(files.os.replace), after=True)
    warm.plain(words, ["/dev/null"] * 2)


@pytest.mark.slow
def test_killed_at_random_moments(here, folder, threshold, scene_pixels):
    """Ten times, then to its end: the same bytes as of a run that nobody stopped, and nothing else."""
    names = [f"s{n}.tif" for n in range(5)]
    for n, name in enumerate(names):
        raster(name, np.roll(scene_pixels, 17 * n, axis=1))
        os.utime(name, (10**9, 10**9))
    common = ["segment", *names, *SENTENCES, "--model", folder, "--threshold", threshold, "--find", "all"]
    common += ["--kind", "gpkg,tif,json"]
    assert warm.command([*common, "--out", "whole/", "--probability", "whole/"], here).returncode == 0
    again = [*common, "--out", "stopped/", "--probability", "stopped/"]
    rng = random.Random(int(os.environ.get("RRSIS_ZOO_SEED", "0")))
    assert sum(killed_after(again, here, rng.randint(1, 14)) for _ in range(10)) > 5
    done = warm.command(again, here)
    assert done.returncode == 0, done.stderr
    contents = [
        {path.name: path.read_bytes() for path in Path(place).iterdir() if path.name != ".done.jsonl"}
        for place in ("whole", "stopped")
    ]
    assert contents[0].keys() == contents[1].keys()
    assert len(contents[0]) == 4 * 5
    assert contents[0] == contents[1]


def test_what_a_killed_run_leaves_is_cleared(here, folder, threshold):
    options = ["--out", "o/", "--window", "128"]
    assert segment(folder, threshold, "a.tif", *options) == 0
    expected = Path("o/a.gpkg").read_bytes()
    begun = json.loads(Path("o/.done.jsonl").read_text().splitlines()[0])
    assert begun["state"] == "begun"
    Path("o/.done.jsonl").write_text(json.dumps(begun) + '\n{"inp')  # killed while it wrote the second line
    Path("o/a.gpkg").write_bytes(b"old")
    Path("o/.a.0123456789abcdef.part.gpkg").write_bytes(b"half")
    Path("o/.a.0123456789abcdef.part.gpkg-journal").write_bytes(b"half")
    assert segment(folder, threshold, "a.tif", *options) == 0
    assert Path("o/a.gpkg").read_bytes() == expected
    assert sorted(path.name for path in Path("o").iterdir()) == [".done.jsonl", "a.gpkg"]
    states = [json.loads(line)["state"] for line in Path("o/.done.jsonl").read_text().splitlines() if "state" in line]
    assert states == ["begun", "begun", "done"]


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (["a.tif", "--out", "a.tif"], ConfigError, r"a\.tif would replace the input"),
        (["a.tif", "--out", "b.tif"], ConfigError, r"b\.tif exists: --overwrite"),
        (["a.tif", "b.tif", "--out", "o.gpkg"], ConfigError, "2 inputs need a folder"),
        (["a.tif", "--out", "o.shp", "--find", "all"], ConfigError, r"must end in one of \.gpkg, \.geojson, \.parquet"),
        (["a.tif", "--out", "o.shp"], ConfigError, r"must end in one of .*\.gpkg"),
        (["a.tif", "--find", "all"], ConfigError, "--out is missing"),
        (["a.tif", "--out", "o/", "--kind", "gpkg,mask"], ConfigError, "--kind mask is for pictures.*--kind tif"),
        (["a.tif", "--out", "o/", "--kind", "gpgk", "--find", "all"], ConfigError, "did you mean 'gpkg'"),
        (["a.tif", "--out", "o.gpkg", "--gsd", "-1"], ConfigError, "^--gsd must be metres a pixel"),
        (["a.tif", "--out", "o.gpkg", "--min-area", "-1"], ConfigError, "^--min-area must be 0 or more"),
        (["a.tif", "--out", "o.gpkg", "--bands", "r,g,b"], ConfigError, "--bands must be numbers from 1"),
        (["a.tif", "--out", "o.gpkg", "--bands", "1,2,7"], ConfigError, "has 3 bands, and --bands 1,2,7"),
        (["a.tif", "--out", "o.gpkg", "--find", "some"], ConfigError, "invalid choice: 'some'"),
        (
            ["a.tif", "--out", "o.gpkg", "--probability", "p.png"],
            ConfigError,
            r"--probability p\.png must end in \.tif",
        ),
        (["a.tif", "--out", "o/", "--probability", "p.tif"], ConfigError, "must be a folder, as --out is"),
        (["a.tif", "--out", "o.tif", "--probability", "o.tif"], ConfigError, "would replace"),
        (["a.tif", "--out", "o.gpkg", "--aoi", "gone.gpkg"], MissingDataError, r"there is no file gone\.gpkg"),
        (["gone.tif", "--out", "o.gpkg"], MissingDataError, r"there is no file gone\.tif"),
        (["p.png", "--out", "o.gpkg", "--gsd", "1"], ConfigError, "has no CRS, so nobody knows"),
    ],
)
def test_errors(here, folder, threshold, options, error, said):
    before = files()
    with pytest.raises(error, match=said):
        segment(folder, threshold, *options)
    assert files() == before


def vrt(srs="EPSG:32633", source="a.tif", extra=""):
    return (
        f'<VRTDataset rasterXSize="290" rasterYSize="230"><SRS>{srs}</SRS>{extra}'
        '<VRTRasterBand dataType="Byte" band="1">'
        f'<SimpleSource><SourceFilename relativeToVRT="1">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


RPC = "".join(
    f'<MDI key="{key}">{value}</MDI>'
    for key, value in {
        **{f"{axis}_{what}": 1 for axis in ("LINE", "SAMP", "LAT", "LONG", "HEIGHT") for what in ("OFF", "SCALE")},
        **{f"{axis}_{part}_COEFF": " ".join(["1"] * 20) for axis in ("LINE", "SAMP") for part in ("NUM", "DEN")},
    }.items()
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (vrt(srs="nonsense"), r"x\.vrt: its CRS cannot be understood.*gdal_edit\.py"),
        (vrt(source="gone.tif"), r"x\.vrt: cannot be read: it is cut short or damaged"),
        ("<VRTDataset", r"x\.vrt: is not a raster that GDAL reads, or it is damaged"),
        ("no raster at all", r"x\.vrt: is not a raster that GDAL reads, or it is damaged"),
        (
            vrt(srs="", extra=f'<Metadata domain="RPC">{RPC}</Metadata>'),
            r"only has rational polynomials.*gdalwarp -rpc",
        ),
    ],
    ids=["crs", "source", "xml", "text", "rpc"],
)
def test_damaged_files(here, folder, threshold, content, said):
    Path("x.vrt").write_text(content)
    before = files()
    with pytest.raises(DataFormatError, match=said):
        segment(folder, threshold, "x.vrt", "--out", "o.gpkg")
    assert files() == before


def test_nothing_is_fetched(here, folder, threshold):
    """A virtual raster may name an address, and a file may describe a service."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/x.tif"
        service = (
            f"<GDAL_WMS><Service name='TMS'><ServerUrl>{address}</ServerUrl></Service><DataWindow><SizeX>512</SizeX>"
        )
        service += "<SizeY>512</SizeY><TileLevel>1</TileLevel></DataWindow><BandsCount>3</BandsCount></GDAL_WMS>"
        for content in (vrt(source=f"/vsicurl/{address}").replace(' relativeToVRT="1"', ""), service):
            Path("x.vrt").write_text(content)
            with pytest.raises(DataFormatError, match=r"x\.vrt: "):
                segment(folder, threshold, "x.vrt", "--out", "o.gpkg")
        server.shutdown()
    assert asked == []


def test_damaged_tiffs(here, folder, threshold, monkeypatch):
    content = Path("a.tif").read_bytes()
    for length, said in (
        (3, "is not a raster"),
        (100, "is not a raster|cannot be read"),
        (90000, "cut short or damaged"),
    ):
        Path("x.tif").write_bytes(content[:length])
        with pytest.raises(DataFormatError, match=rf"x\.tif: .*({said})"):
            segment(folder, threshold, "x.tif", "--out", "o.gpkg", "--find", "all")
    raster("x.tif", np.zeros((50, 50, 3), np.uint8), nodata=0)
    with pytest.raises(DataFormatError, match="none of its pixels has a value, so there is no window"):
        segment(folder, threshold, "x.tif", "--out", "o.gpkg")

    def no_right(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", no_right)
    with pytest.raises(DataFormatError, match=r"a\.tif: cannot be read \(Permission denied\)"):
        describe(Path("a.tif"))


@pytest.mark.parametrize(
    ("shape", "crs", "error", "said"),
    [
        (shapely.box(400000, 4999900, 400100, 5000000), "EPSG:32633", ConfigError, r"does not touch a\.tif"),
        (shapely.box(20, 45, 21, 46), "EPSG:4326", ConfigError, r"does not touch a\.tif"),
        (shapely.box(500000, 4999900, 500100, 5000000), None, DataFormatError, r"aoi\.gpkg: has no CRS.*ogr2ogr"),
        (shapely.Point(500000, 4999900), "EPSG:32633", DataFormatError, "must be polygons, and this layer has Point"),
        (shapely.Polygon(), "EPSG:32633", DataFormatError, "must be polygons, and this layer has nothing"),
    ],
    ids=["misses", "misses in degrees", "no crs", "points", "empty"],
)
def test_areas_that_cannot_be_used(here, folder, threshold, shape, crs, error, said):
    geopandas.GeoSeries([shape], crs=crs).to_file("aoi.gpkg")
    with pytest.raises(error, match=said):
        segment(folder, threshold, "a.tif", "--aoi", "aoi.gpkg", "--out", "o.gpkg")
    assert not Path("o.gpkg").exists()


def test_an_area_that_is_no_layer(here, folder, threshold):
    Path("aoi.geojson").write_text("no layer")
    with pytest.raises(DataFormatError, match=r"aoi\.geojson: cannot be read as a layer of polygons"):
        segment(folder, threshold, "a.tif", "--aoi", "aoi.geojson", "--out", "o.gpkg")


def test_without_the_libraries(here, folder, threshold, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "pyogrio" else find(name, *a))
    with pytest.raises(
        ConfigError, match=r"maps need pyogrio, which is not installed: pip install 'rrsis-zoo\[scenes\]'"
    ):
        segment(folder, threshold, "a.tif", "--out", "o.gpkg")
    assert segment(folder, threshold, "p.png", "--out", "o.png") == 0  # a picture needs none of them
