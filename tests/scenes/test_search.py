"""Coarse to fine: who sees the anchor decides, the finest window draws the outline."""

import numpy as np
import pytest
import torch
from stubs import UTM, Stub, blobs, burnt, written

from rrsis_zoo.models.presence import EVIDENCE, Calibration
from rrsis_zoo.models.types import Prompts
from rrsis_zoo.scenes import segment_scene
from rrsis_zoo.scenes.raster import Source, describe
from rrsis_zoo.scenes.search import levels_for
from rrsis_zoo.scenes.settings import Settings
from rrsis_zoo.scenes.view import View


class NextToGreen(Stub):
    """Marks red that has green above or below it in the same window, surely; any other red a little."""

    def localise(self, state, tokens, image_index):
        prompts = super().localise(state, tokens, image_index)
        images = state.features["image"][image_index]
        prompts.aux["sure"] = (images[:, 1] > 60).any(dim=1).float()
        return prompts

    def segment(self, state, prompts, image_index):
        red = (prompts.dense - 127.5) / 64
        sure = prompts.aux["sure"][:, None, None, :]
        return torch.where(red > 0, red * (0.2 + 3 * sure), red)


def scene(tmp_path, side=512):
    """Two red squares; the left one has a green one so far away that no small window sees both."""
    image = np.zeros((side, side, 3), np.uint8)
    image[50:70, 40:64, 0] = 255
    image[420:444, 400:440, 0] = 255
    image[210:218, 40:64, 1] = 255
    return image, written(tmp_path / "a.tif", image, transform=UTM, crs="EPSG:32633")


def test_the_anchor_is_only_seen_by_the_overview(tmp_path):
    image, path = scene(tmp_path)
    left, both = image[..., 0] > 127, image[..., 0] > 127
    left = left & (np.arange(512) < 256)
    found = {
        name: segment_scene(NextToGreen(), path, "red", **options)
        for name, options in {
            "coarse to fine": {},
            "overview": {"levels": "overview"},
            "finest": {"levels": "finest"},
            "all": {"find": "all"},
        }.items()
    }
    assert {name: len(table) for name, table in found.items()} == {
        "coarse to fine": 1, "overview": 1, "finest": 1, "all": 2,
    }  # fmt: skip
    assert np.array_equal(burnt(found["coarse to fine"], path), left)  # to the pixel, as the finest window draws it
    coarse = burnt(found["overview"], path)
    assert (coarse & left).sum() / (coarse | left).sum() > 0.5
    assert not np.array_equal(coarse, left)
    assert np.array_equal(burnt(found["all"], path), both)
    assert found["coarse to fine"].gsd_m[0] > 1.5 > found["finest"].gsd_m[0]
    assert found["coarse to fine"].score[0] > 0.9


def test_two_sentences_at_once(tmp_path):
    image, path = scene(tmp_path)
    table = segment_scene(NextToGreen(), path, ["red", "the green"])
    assert table.text.tolist() == ["red", "the green"]
    assert np.array_equal(burnt(table, path, "the green"), image[..., 1] > 127)


def test_levels(tmp_path):
    """Every power of two between the finest and the overview, unless it is nearly that."""
    path = written(tmp_path / "a.tif", np.zeros((700, 1300, 3), np.uint8))
    with Source(describe(path)) as source:
        finest = View.at(source, (1, 1), None)

        def sizes(side, **options):
            levels = levels_for(finest, Settings(**options), side, None)
            return [(one.view.height, one.view.width, len(one.plan)) for one in levels]

        finer = [(700, 1300, 15 * 27), (350, 650, 7 * 14), (175, 325, 4 * 7), (88, 162, 2 * 4)]
        assert sizes(64) == [*finer, (44, 81, 2), (34, 64, 1)]
        assert sizes(600) == [(700, 1300, 2 * 3), (323, 600, 1)]
        assert sizes(64, levels="overview") == [(34, 64, 1)]
        assert sizes(64, find="all") == [(700, 1300, 15 * 27)]
        assert sizes(1300) == [(700, 1300, 1)]


def test_a_large_referent_keeps_what_the_coarse_level_saw(tmp_path):
    """It fits into no finer window, so that it is drawn by the level that has it in one."""
    image = np.zeros((500, 500, 3), np.uint8)
    image[30:430, 60:460, 0] = 255
    image[120:220, 200:300, 0] = 0
    path = written(tmp_path / "a.tif", image, transform=UTM, crs="EPSG:32633")
    table = segment_scene(Stub(), path, "red", levels="overview")
    mask, truth = burnt(table, path), image[..., 0] > 127
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95
    assert len(table.geometry[0].interiors) == 1


# -- presence ----------------------------------------------------------------------------------------------------------


def calibration(threshold):
    """Presence by the highest value of the heat map alone."""
    auc = {"value": 90.0, "low": None, "high": None, "level": 0.95}
    plain = {
        "schema": 1, "model": "stub", "weights_sha256": "0" * 64, "evidence": [*EVIDENCE],
        "coefficients": [10.0, 0, 0, 0, 0], "intercept": -5.0, "threshold": threshold, "false_alarms": 0.05, "auc": auc,
        "folds": 5, "own": 9, "foreign": 9, "scenes": 9, "dataset": "d", "split": "val", "text_mode": "independent",
        "seed": 0, "annotations_sha256": "0" * 64, "foreign_sha256": "0" * 64, "versions": {},
    }  # fmt: skip
    return Calibration.model_validate(plain)


class Hot(Stub):
    """Its heat map has the share of blue in the window."""

    def localise(self, state, tokens, image_index):
        prompts = super().localise(state, tokens, image_index)
        blue = state.features["image"][image_index, 2].flatten(1).mean(dim=1) / 255
        return Prompts(prompts.sparse, prompts.dense, blue[:, None, None, None])


def test_presence_by_window_and_by_polygon(tmp_path):
    """Windows whose presence is too low make no foreground; a polygon has the highest of the windows that see it."""
    image = np.zeros((64, 256, 3), np.uint8)
    image[20:40, 10:30, 0] = image[20:40, 100:120, 0] = image[20:40, 200:220, 0] = 255
    image[:, :64, 2] = 255
    image[:, 64:160, 2] = 140
    path = written(tmp_path / "a.tif", image, transform=UTM, crs="EPSG:32633")
    model = Hot()
    model.calibration = calibration(0.6)
    table = segment_scene(model, path, "red", find="all", overlap=0.0)
    assert [box[0] for box in table.geometry.bounds.to_numpy()] == [500005, 500050]
    assert table.presence[0] == pytest.approx(1 / (1 + np.exp(-5)))
    assert table.presence[1] == pytest.approx(1 / (1 + np.exp(5 - 10 * 140 / 255)), rel=1e-5)
    everything = segment_scene(model, path, "red", find="all", overlap=0.0, presence="off")
    assert len(everything) == 3
    assert everything.presence[2] < 0.1
    none = segment_scene(model, path, "red", find="all", presence=0.999)
    assert len(none) == 0
    assert none.attrs["rrsis_zoo"]["without"] == {"red": "no window fits: presence 0.99 < 1.00"}
    best = segment_scene(model, path, "red", levels="finest", overlap=0.0, presence="off")
    assert best.presence[0] == table.presence[0]


def test_a_window_with_too_little_presence_does_not_unmake_what_its_neighbour_sees(tmp_path):
    image = np.zeros((64, 112, 3), np.uint8)
    image[20:40, 50:62, 0] = 255  # within the overlap of both windows
    image[:, :48, 2] = 255
    path = written(tmp_path / "a.tif", image)
    model = Hot()
    model.calibration = calibration(0.6)
    table = segment_scene(model, path, "red", find="all")
    assert model.windows == [(64, 64), (64, 64)]
    assert np.array_equal(burnt(table, path), image[..., 0] > 127)


def test_reasons(tmp_path):
    path = written(tmp_path / "a.tif", blobs(100, 100) // 3, transform=UTM, crs="EPSG:32633")
    table = segment_scene(Stub(), path, ["red"], find="all")
    assert table.attrs["rrsis_zoo"]["without"] == {"red": "no pixel has a probability above 0.5"}
    small = written(tmp_path / "b.tif", blobs(100, 100), transform=UTM, crs="EPSG:32633")
    for find in ("one", "all"):
        table = segment_scene(Stub(), small, ["red"], find=find, min_area=1e6)
        assert table.attrs["rrsis_zoo"]["without"] == {"red": "everything is smaller than 1e+06 m²"}
