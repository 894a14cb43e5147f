"""Large synthetic scenes: sentences against an independent reading of all pixels, polygons against masks, files."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections import Counter

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
from pycocotools import mask as rle
from rasterio.features import rasterize
from slow_reader import Slow

from rrsis_zoo.cli import run
from rrsis_zoo.data.synthetic import (
    CATEGORIES,
    LAYERS,
    SIDECAR,
    WIDE_KINDS,
    make_scenes,
    make_wide_scene,
)
from rrsis_zoo.data.synthetic.language import CONFUSABLE_CATEGORIES, Reader
from rrsis_zoo.data.synthetic.read import find_synthetic
from rrsis_zoo.data.synthetic.scenes import MIN_AREA, SceneObject
from rrsis_zoo.errors import ConfigError, DataFormatError


def whole(thing, size):
    """An object's mask on the whole scene."""
    mask = np.zeros((size, size), bool)
    height, width = thing.mask.shape
    mask[thing.top : thing.top + height, thing.left : thing.left + width] = thing.mask
    return mask


@pytest.fixture(scope="module")
def scenes():
    return [make_wide_scene(index, size=512, seed=5, per_kind=3) for index in range(8)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("wide") / "set"
    return root, make_scenes(root, scenes=2, size=600, seed=3, per_kind=2, processes=1)


# -- what is on them ---------------------------------------------------------------------------------------------------


def test_pixels_and_sentences_are_the_same_on_every_machine():
    # A change of this digest is a change of the scenes: raise GENERATOR_VERSION with it.
    sha = hashlib.sha256()
    for scene in (make_wide_scene(0, size=512), make_wide_scene(1, size=700, seed=7, per_kind=1)):
        sha.update(scene.image.tobytes())
        for thing in scene.objects:
            sha.update(np.packbits(thing.mask).tobytes())
            sha.update(f"{thing.category} {thing.colour} {thing.large} {thing.angle} {thing.left} {thing.top}".encode())
        for sentence in scene.sentences:
            sha.update(f"{sentence.text} {sentence.referent}".encode())
    assert sha.hexdigest()[:16] == "7da2f1bac9891669"


def test_seed_index_and_size_all_matter():
    images = [
        make_wide_scene(index, size=size, seed=seed, per_kind=1).image[:512, :512]
        for index, size, seed in ((0, 512, 0), (1, 512, 0), (0, 512, 1), (0, 520, 0))
    ]
    assert len({image.tobytes() for image in images}) == 4


def test_objects_are_as_large_as_in_small_scenes_and_apart(scenes):
    """Pixel for pixel: 1.24 is the largest length factor, and a lorry the longest of the boxes without a fixed size."""
    for scene in scenes:
        assert scene.image.shape == (512, 512, 3)
        cover = np.zeros((512, 512), int)
        for thing in scene.objects:
            assert thing.mask.sum() >= MIN_AREA
            assert thing.mask[0].any()
            assert thing.mask[:, 0].any()
            assert thing.mask[-1].any()
            assert thing.mask[:, -1].any()
            cover += whole(thing, 512)
            category = CATEGORIES[thing.category]
            if thing.category not in ("bridge", "vehicle"):
                longest = 2 * np.hypot(*category.box) * category.scale * 1.25 + 2
                assert max(thing.mask.shape) <= longest
        assert cover.max() == 1


def test_a_colour_is_seen_where_an_object_has_it(scenes):
    """Red objects are red in the image at their mask: masks and pixels lie on each other."""
    reds = 0
    for scene in scenes:
        for thing in scene.objects:
            if thing.colour == "red" and thing.category in ("building", "ship", "ground track field"):
                pixels = scene.image[whole(thing, 512)].astype(int)
                assert (pixels[:, 0] > pixels[:, 2] + 40).mean() > 0.3
                reds += 1
    assert reds > 2


# -- what is said ------------------------------------------------------------------------------------------------------


def test_every_sentence_fits_its_referent_alone_in_the_whole_scene(scenes):
    for scene in scenes:
        objects = [
            {
                "category": thing.category,
                "colour": thing.colour,
                "segmentation": rle.encode(np.asfortranarray(whole(thing, 512), np.uint8)),
            }
            for thing in scene.objects
        ]
        reader = Slow(objects, close=0.05 / 4)
        assert Counter(s.kind for s in scene.sentences) == dict.fromkeys(WIDE_KINDS, 3)
        for sentence in scene.sentences:
            assert reader.read(sentence.text) == sentence.referent, sentence.text


def test_the_generators_oracle_agrees_on_full_masks(scenes):
    for scene in scenes[:2]:
        things = [SceneObject(o.category, o.colour, o.large, o.angle, whole(o, 512)) for o in scene.objects]
        reader = Reader(things, 1 / 4)
        for sentence in scene.sentences:
            assert reader.referent(sentence.meaning) == sentence.referent
            assert tuple(i for link in reader.anchors(sentence.meaning) for i in link) == sentence.anchors


def test_sentences_of_a_kind_say_that_kind(scenes):
    words = {
        "size": ("largest", "smallest", "larger", "smaller"),
        "relation": (" of the ", "above", "below", "nearest", "closest", "farthest"),
    }
    for scene in scenes:
        for sentence in scene.sentences:
            counts = Counter(thing.category for thing in scene.objects)
            assert (counts[scene.objects[sentence.referent].category] == 1) or sentence.kind != "category"
            assert (counts[scene.objects[sentence.referent].category] > 1) or sentence.kind == "category"
            assert bool(sentence.anchors) == (sentence.kind == "relation")
            if sentence.kind in words:
                assert any(word in sentence.text for word in words[sentence.kind])
        assert len({sentence.text for sentence in scene.sentences}) == len(scene.sentences)


def test_sentences_with_all_that_they_fit(scenes):
    """Every object of the category, or of the category and the colour; no sentence where that is open to doubt."""
    for scene in scenes:
        seen = {thing.category for thing in scene.objects}
        doubtful = {c for c in seen if any(frozenset((c, d)) in CONFUSABLE_CATEGORIES for d in seen)}
        said = {one.text: one for one in scene.fitting}
        for category in seen:
            assert (f"the {category}" in said) == (category not in doubtful)
        for one in scene.fitting:
            colour = one.text.removeprefix("the ").removesuffix(one.category).strip() or None
            assert one.kind == ("attribute" if colour else "category")
            assert one.objects == tuple(
                i
                for i, thing in enumerate(scene.objects)
                if thing.category == one.category and colour in (None, thing.colour)
            )
            assert one.objects
    assert any(len(one.objects) > 2 for scene in scenes for one in scene.fitting)


def test_far_things_are_spoken_of():
    """In a large scene most relations are to something that no window of 128 px holds together with the referent."""
    scene = make_wide_scene(0, size=2048, per_kind=4)
    far = 0
    for sentence in scene.sentences:
        for anchor in sentence.anchors:
            a, b = scene.objects[sentence.referent], scene.objects[anchor]
            far += np.hypot(a.left - b.left, a.top - b.top) > 256
    assert far >= 3


# -- files -------------------------------------------------------------------------------------------------------------


def test_polygons_are_the_masks(made):
    root, _ = made
    for index in range(2):
        scene = make_wide_scene(index, size=600, seed=3, per_kind=2)
        with rasterio.open(root / f"scene_{index:03}.tif") as raster:
            assert raster.read().transpose(1, 2, 0).tobytes() == scene.image.tobytes()
            transform, crs = raster.transform, raster.crs
            assert raster.profile["tiled"]
            assert [c.name for c in raster.colorinterp] == ["red", "green", "blue"]
        layers = {name: geopandas.read_file(root / f"scene_{index:03}.gpkg", layer=name) for name in LAYERS}
        assert list(layers["referents"].columns) == ["text", "kind", "category", "object", "geometry"]
        assert list(layers["fitting"].columns) == ["text", "kind", "category", "object", "geometry"]
        for layer in layers.values():
            assert layer.crs == crs
            assert layer.is_valid.all()
            for number, shape in zip(layer["object"], layer.geometry, strict=True):
                burnt = rasterize([shape], (600, 600), transform=transform)
                assert (burnt.astype(bool) == whole(scene.objects[number], 600)).all()
        assert list(layers["objects"]["category"]) == [thing.category for thing in scene.objects]
        assert list(layers["referents"]["text"]) == [s.text for s in scene.sentences]
        assert list(layers["referents"]["object"]) == [s.referent for s in scene.sentences]
        assert len(layers["fitting"]) == sum(len(one.objects) for one in scene.fitting)


def test_georeference(made):
    """A UTM zone, north up, half a metre a pixel; areas on the ellipsoid are those of the pixels to UTM's 0.1 %."""
    root, _ = made
    zones = set()
    for path in sorted(root.glob("*.tif")):
        with rasterio.open(path) as raster:
            code = raster.crs.to_epsg()
            assert 32601 <= code <= 32660 or 32701 <= code <= 32760
            a, b, _, d, e, _ = raster.transform[:6]
            assert (a, b, d, e) == (0.5, 0, 0, -0.5)
            west, south, east, north = raster.bounds
            assert 166_000 < west < east < 834_000
            assert 0 < south < north < 10_000_000
            zones.add(code)
        objects = geopandas.read_file(path.with_suffix(".gpkg"), layer="objects")
        metres = objects.geometry.area.sum()
        on_globe = objects.to_crs(4326).geometry
        geod = objects.crs.get_geod()
        assert abs(sum(abs(geod.geometry_area_perimeter(shape)[0]) for shape in on_globe) / metres - 1) < 1.5e-3
    assert len(zones) == 2


def test_equal_seeds_give_equal_files(made, tmp_path):
    root, _ = made
    make_scenes(tmp_path / "again", scenes=2, size=600, seed=3, per_kind=2, processes=2)
    for path in sorted(root.iterdir()):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_summary_and_sidecar(made):
    root, summary = made
    sidecar = json.loads((root / SIDECAR).read_text(encoding="utf-8"))
    assert sidecar["layout"] == "scene"
    assert summary.kinds == dict.fromkeys(WIDE_KINDS, 4)
    assert [path.name for path in summary.scenes] == [scene["raster"] for scene in sidecar["scenes"]]
    assert "2 georeferenced scenes" in str(summary)
    for scene in sidecar["scenes"]:
        for sentence in scene["sentences"]:
            assert sentence["meaning"]["phrase"]["category"] in sentence["text"]
    with pytest.raises(DataFormatError, match="scenes to segment, not a dataset to train on"):
        find_synthetic(root)


def test_command(tmp_path, capsys):
    root = tmp_path / "scenes"
    options = ["--layout", "scene", "--size", "512", "--scenes", "1", "--expressions", "1", "--root", str(root)]
    assert run(["data", "make", *options]) == 0
    said = capsys.readouterr().out
    assert "1 georeferenced scenes" in said
    assert f"rrsis segment {root}/scene_000.tif" in said
    assert sorted(path.name for path in root.iterdir()) == ["scene_000.gpkg", "scene_000.tif", SIDECAR]
    with pytest.raises(ConfigError, match="already contains a synthetic dataset"):
        run(["data", "make", *options])
    assert run(["data", "make", *options, "--overwrite", "--seed", "1"]) == 0
    with pytest.raises(ConfigError, match=r"unknown layout 'scenes' \(did you mean 'scene'"):
        run(["data", "make", "--layout", "scenes", "--root", str(tmp_path / "x")])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 508}, "size must be 512 to 4096 pixels for the layout scene, got 508"),
        ({"size": 4100}, "got 4100"),
        ({"seed": -1}, "seed must not be negative"),
        ({"per_kind": 5}, "expressions must be 1 to 4 of each kind for the layout scene, got 5"),
        ({"scenes": 0}, "scenes must be 1 to 999 for the layout scene, got 0"),
        ({"processes": 0}, "processes must be at least 1"),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_scenes(tmp_path / "x", **settings)
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'rrsis-zoo\[scenes\]'"):
        make_scenes(tmp_path / "x")


def test_the_libraries_of_maps_are_imported_when_they_are_needed():
    heavy = "('torch', 'rasterio', 'geopandas', 'pyogrio', 'shapely', 'pandas')"
    code = f"import sys, rrsis_zoo.data.synthetic; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"no synthetic\.json"):
        make_scenes(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_largest_size():
    """4,096 px: no repetition in the ground's plan, sentences of every kind."""
    scene = make_wide_scene(0, size=4096, per_kind=1)
    assert scene.image.shape == (4096, 4096, 3)
    assert len(scene.objects) > 100
    assert Counter(s.kind for s in scene.sentences) == dict.fromkeys(WIDE_KINDS, 1)
