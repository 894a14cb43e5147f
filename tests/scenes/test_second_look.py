"""Coarse to fine: what a coarse level is sure of must also look right from near."""

import numpy as np
import torch
from stubs import UTM, Stub, burnt, written

from rrsis_zoo.scenes import segment_scene
from rrsis_zoo.scenes.raster import Source, describe
from rrsis_zoo.scenes.search import levels_for
from rrsis_zoo.scenes.settings import Settings
from rrsis_zoo.scenes.view import View


class DislikesBlue(Stub):
    """Marks red, surely if the window has no bright blue pixel, else a little."""

    def localise(self, state, tokens, image_index):
        prompts = super().localise(state, tokens, image_index)
        blue = state.features["image"][image_index, 2].flatten(1).amax(dim=1)
        prompts.aux["sure"] = (blue < 200).float()
        return prompts

    def segment(self, state, prompts, image_index):
        red = (prompts.dense - 127.5) / 64
        return torch.where(red > 0, red * (0.2 + 3 * prompts.aux["sure"][:, None, None, None]), red)


def scene(tmp_path):
    """A pale red square, and a bright one with a blue pixel that coarse levels do not see."""
    image = np.zeros((512, 512, 3), np.uint8)
    image[40:72, 40:72, 0] = 200
    image[400:432, 400:432, 0] = 255
    image[416, 416, 2] = 255
    return image, written(tmp_path / "a.tif", image, transform=UTM, crs="EPSG:32633")


def test_a_region_that_only_a_coarse_level_likes_is_not_the_answer(tmp_path):
    image, path = scene(tmp_path)
    pale = (image[..., 0] > 127) & (np.arange(512) < 256)
    coarse = burnt(segment_scene(DislikesBlue(), path, "red", levels="overview"), path)
    assert coarse[416, 410]  # the overview alone takes the bright one
    table = segment_scene(DislikesBlue(), path, "red")
    assert len(table) == 1
    assert np.array_equal(burnt(table, path), pale)


def test_every_proposed_region_costs_a_window(tmp_path):
    """Three of each level at most; here every level sees the same two."""
    _, path = scene(tmp_path)
    model = DislikesBlue()
    segment_scene(model, path, "red")
    with Source(describe(path)) as source:
        levels = levels_for(View.at(source, (1, 1), None), Settings(), 64, None)
    assert len(levels) == 4
    drawn = len(model.windows) - sum(len(level.plan) for level in levels) - 2 * len(levels)
    assert drawn in (0, 1)  # one more draws the outline, if a coarse level found it


def test_windows_alone_look_twice_too(tmp_path):
    """A window that has the pale square in a corner is surer of the bright one that lies across two windows."""
    image = np.zeros((64, 640, 3), np.uint8)
    image[16:48, 112:144, 0] = 255
    image[30, 112, 2] = 255  # only the window that has its left edge sees it
    image[16:48, 400:432, 0] = 200
    path = written(tmp_path / "a.tif", image, transform=UTM, crs="EPSG:32633")
    table = segment_scene(DislikesBlue(), path, "red", levels="finest", overlap=0.0)
    assert len(table) == 1
    assert np.array_equal(burnt(table, path), image[..., 0] == 200)
