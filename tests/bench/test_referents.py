"""The script behind `make referents`: what counts as found, and the tables made of it."""

import importlib.util
import sys

import geopandas
import numpy as np
import pytest
from shapely.geometry import MultiPolygon, box

from rrsis_zoo.data.synthetic import WIDE_KINDS, make_scenes


@pytest.fixture(scope="module")
def script(root):
    spec = importlib.util.spec_from_file_location("referents", root / "benchmarks" / "scenes" / "referents.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["referents"] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("referents") / "s", scenes=1, size=512, processes=1).scenes[0]


def test_polygons_are_paired_at_an_iou_of_one_half(script):
    square = box(0, 0, 10, 10)
    assert script.iou(square, box(0, 0, 10, 5)) == 0.5
    assert script.iou(MultiPolygon([square]), box(20, 0, 30, 10)) == 0
    true = [square, box(20, 0, 30, 10), box(40, 0, 50, 10)]
    found = [box(0, 0, 10, 5), box(20, 0, 30, 4), box(40, 0, 50, 10), box(60, 0, 70, 10)]
    assert script.matched(true, found) == (2, 4)
    assert script.matched([], found) == (0, 4)
    assert script.matched(true, []) == (0, 0)


def layer(texts, shapes, score=0.9, gsd=0.5, crs=32631):
    columns = {"text": texts, "score": score, "presence": 0.8, "gsd_m": gsd, "area_m2": [s.area for s in shapes]}
    return geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=crs)


def test_a_model_that_knows_the_truth_finds_all(script, raster, monkeypatch):
    referents = geopandas.read_file(raster.with_suffix(".gpkg"), layer="referents")
    fitting = geopandas.read_file(raster.with_suffix(".gpkg"), layer="fitting")
    asked = {}

    def knows(model, path, texts, *, find, levels=None, presence=None):
        asked[find] = (texts, levels, presence)
        truth = referents if find == "one" else fitting
        return layer(truth["text"], truth.geometry, crs=truth.crs)

    monkeypatch.setattr(script, "segment_scene", knows)
    one = script.ask(None, script.Job("m", 0, 512, 0, "one", "finest"), raster)
    assert [row["iou"] for row in one["rows"]] == pytest.approx([1.0] * len(referents))
    assert asked["one"][1:] == ("finest", "off")
    every = script.ask(None, script.Job("m", 0, 512, 0, "all", "calibrated"), raster)
    own = [row for row in every["rows"] if row["kind"] != "absent"]
    assert all(row["hits"] == row["true"] == row["found"] for row in own)
    assert sum(row["true"] for row in own) == len(fitting)
    nothing = [row for row in every["rows"] if row["kind"] == "absent"]
    assert all(row["true"] == row["found"] == 0 for row in nothing)
    assert asked["all"][2] is None  # as calibrated
    script.ask(None, script.Job("m", 0, 512, 0, "all", "off"), raster)
    assert asked["all"][2] == "off"


def test_the_best_of_several_polygons_is_the_answer(script):
    several = layer(["a", "a"], [box(0, 0, 1, 1), box(2, 0, 3, 1)], score=[0.5, 0.7])
    assert script.best_polygon(several).geometry.bounds[0] == 2
    several["presence"] = [np.nan, 0.1]  # a model without a calibration has none
    assert script.best_polygon(several).geometry.bounds[0] == 0
    assert script.best_polygon(several.iloc[:0]) is None


def test_nothing_is_asked_for_that_could_be_there(script):
    sentences = script.absent({"stadium", "ship", "harbor"})
    assert len(sentences) == 4
    for name in ("stadium", "soccer field", "ground track field", "ship", "harbor"):
        assert f"the {name}" not in sentences


def one_answers(script, hits):
    """Answers to two sentences of every kind in three scenes; ``hits`` gives by levels which scenes succeed."""
    for levels in script.LEVELS:
        for scene in range(3):
            iou, gsd = (0.9 if scene in hits[levels] else 0.2), (1.0 if levels == "all" and scene == 2 else 0.5)
            rows = [{"text": "x", "kind": kind, "iou": iou, "gsd_m": gsd} for kind in WIDE_KINDS for _ in range(2)]
            yield script.Job("m", 0, 512, scene, "one", levels), {"seconds": 1.0, "rows": rows}


def test_table_of_referents(script):
    (table,) = script.tables("m", one_answers(script, {"finest": {0}, "overview": set(), "all": {0, 2}}))
    assert [row[1].text for row in table.rows] == [*WIDE_KINDS, "all kinds"]
    for row in table.rows:
        assert [cell.value for cell in row[3:6]] == pytest.approx([100 / 3, 0, 200 / 3])
        assert row[6].value == pytest.approx(100 / 3)
        assert row[6].low <= 0 < row[6].high
        assert row[7].value == pytest.approx(100 / 3)
    assert table.rows[-1][2].value == 30
    assert "33.3" in table.markdown()
    assert "3 of 512 px" in table.markdown()


def test_table_of_everything(script):
    def row(kind, true, hits, found, large):
        return {"text": "x", "kind": kind, "true": true, "hits": hits, "found": found} | {
            "large_hits": hits,
            "large_found": large,
        }

    answers = [
        (
            script.Job("m", 0, 512, scene, "all", presence),
            {"seconds": 1.0, "rows": [row("category", 3, 2, 5 + extra, 4), row("absent", 0, 0, 2 + extra, scene)]},
        )
        for presence, extra in (("off", 10), ("calibrated", 0))
        for scene in range(2)
    ]
    (table,) = script.tables("m", answers)
    category, absent = table.rows
    assert [c.value for c in category[3:7]] == pytest.approx([100 * 4 / 18, 100 * 2 / 15, 200 / 3, 100 * 4 / 7])
    assert [c.value for c in category[7:]] == pytest.approx([100 * 4 / 8, 40, 200 / 3, 100 * 4 / 7])
    assert absent[3].text == "12.0 polygons"
    assert absent[7].value == 2
    assert absent[10].value == 0.5


def test_plan_asks_the_small_scenes_first(script):
    jobs = script.planned("m", 0, [512, 1024], [2, 1])
    assert [job.size for job in jobs] == [512] * 10 + [1024] * 5
    assert len({job.path for job in jobs}) == 15
    assert {job.find for job in script.planned("m", 0, [512], [1], "all")} == {"all"}


def test_the_page_has_the_tables_of_the_results(root):
    """Every row of the results, and nothing else, between the marks."""
    page = (root / "docs" / "scenes.md").read_text(encoding="utf-8")
    for name in ("referents", "everything"):
        shown = page.split(f"<!-- {name} table -->")[1].split(f"<!-- end of {name} table -->")[0]
        result = (root / "benchmarks" / "results" / "scenes" / f"{name}--rsrefseg.md").read_text(encoding="utf-8")
        rows = [line for line in result.splitlines() if line.startswith("|")]
        assert len(rows) > 6
        assert [line for line in shown.splitlines() if line.startswith("|")] == rows
