"""From a view's grid to the raster's own."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rrsis_zoo.scenes.blend import Rows
from rrsis_zoo.scenes.native import to_native
from rrsis_zoo.scenes.view import View
from rrsis_zoo.scenes.windows import Window


def view(raster, grid):
    source = SimpleNamespace(raster=SimpleNamespace(height=raster[0], width=raster[1]))
    return View(source, *grid, None)


def rows_of(planes, step, presence=None):
    for top in range(0, planes.shape[1], step):
        part = slice(top, top + step)
        there = None if presence is None else presence[:, part]
        yield Rows(top, planes[:, part], there, np.ones(planes[0, part].shape, bool))


def joined(rows, within):
    rows = list(rows)
    tops = np.cumsum([within.top, *(len(one) for one in rows)])
    assert [one.top for one in rows] == tops[:-1].tolist()
    assert tops[-1] == within.bottom
    assert all(one.known.shape == one.logits.shape[1:] for one in rows)
    return np.concatenate([one.logits for one in rows], axis=1)


@pytest.mark.parametrize(("raster", "grid"), [((700, 90), (70, 30)), ((333, 101), (200, 60)), ((64, 64), (64, 64))])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_bilinear(raster, grid, step):
    planes = np.random.default_rng(0).normal(size=(2, *grid)).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(planes)[None], raster, mode="bilinear", align_corners=False)[0].numpy()
    seen = view(raster, grid)
    everything = Window(0, 0, *raster)
    assert np.allclose(joined(to_native(rows_of(planes, step), seen, everything), everything), expected, atol=1e-4)
    part = Window(raster[0] // 3, 11, raster[0] // 2, 40)
    found = joined(to_native(rows_of(planes, step), seen, part), part)
    assert np.allclose(found, expected[:, part.top : part.bottom, part.left : part.right], atol=1e-4)


def test_a_coarser_raster_gets_averages():
    planes = np.random.default_rng(0).normal(size=(1, 120, 80)).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(planes)[None], (40, 20), mode="bilinear", antialias=True)[0].numpy()
    everything = Window(0, 0, 40, 20)
    found = joined(to_native(rows_of(planes, 9), view((40, 20), (120, 80)), everything), everything)
    assert np.allclose(found[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], atol=1e-4)


def test_presence_reaches_wherever_foreground_does():
    planes = np.full((1, 20, 20), -4, np.float32)
    planes[0, 5:9, 6:12] = 4
    presence = np.where(planes > 0, 0.7, 0).astype(np.float32)
    for one in to_native(rows_of(planes, 4, presence), view((130, 170), (20, 20)), Window(0, 0, 130, 170)):
        assert (one.presence[one.logits > 0] == np.float32(0.7)).all()
