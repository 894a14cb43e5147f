import numpy as np
import pytest

from rrsis_zoo.outputs import shapes
from rrsis_zoo.outputs.shapes import grown, middle, outline, resized, resized_mask


def test_enlarged_pictures_have_square_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    assert np.array_equal(resized(pixels, (12, 20)), pixels.repeat(4, 0).repeat(4, 1))
    assert np.array_equal(resized_mask(pixels[..., 0] > 99, (12, 20)), (pixels[..., 0] > 99).repeat(4, 0).repeat(4, 1))
    assert resized(pixels, (3, 5)) is pixels


def test_shrunk_pictures_are_smooth_and_need_no_copy_of_the_whole(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (97, 113, 3), dtype=np.uint8)
    whole = resized(pixels, (12, 13)).astype(int)
    monkeypatch.setattr(shapes, "_BLOCK", 1000)
    parts = resized(pixels, (12, 13)).astype(int)
    assert whole.shape == parts.shape == (12, 13, 3)
    assert np.abs(whole - parts).mean() < 8  # the noise itself deviates by 74
    assert abs(parts.mean() - pixels.mean()) < 2


def test_the_smallest_referent_stays_visible():
    mask = np.zeros((1000, 700), bool)
    mask[501, 333] = True
    small = resized_mask(mask, (10, 7))
    assert small.sum() == 1
    assert small[5, 3]
    assert resized_mask(mask, (1000, 7)).sum() == 1


def test_an_outline_is_the_border_inside():
    mask = np.zeros((9, 9), bool)
    mask[1:8, 1:8] = True
    thin = outline(mask, 1)
    assert thin.sum() == 24
    assert not (thin & ~mask).any()
    assert outline(mask, 2).sum() == 40
    assert outline(np.ones((5, 5), bool), 1).sum() == 16  # also along the edge of the picture
    assert grown(np.eye(1, 25, 12, dtype=bool).reshape(5, 5)).sum() == 9


@pytest.mark.parametrize("scale", [1, 40])
def test_a_number_stands_inside_its_mask(scale):
    mask = np.zeros((30, 40), bool)
    mask[2:4, 2:38] = True  # long and thin
    mask[10:20, 30:40] = True
    mask = mask.repeat(scale, 0).repeat(scale, 1)
    row, column = middle(mask)
    assert mask[row, column]
    assert abs(row / scale - 15) <= 2
    assert abs(column / scale - 35) <= 2
    ring = np.ones((21, 21), bool)
    ring[3:-3, 3:-3] = False
    assert ring[middle(ring)]
    assert middle(np.ones((1, 1), bool)) == (0, 0)
