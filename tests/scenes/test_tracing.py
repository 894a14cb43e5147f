"""Polygons of a mask that comes in blocks are those of the mask in one piece, and rasterised they are the mask."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as some
from rasterio.features import rasterize
from scipy import ndimage

from rrsis_zoo.scenes.tracing import Tracer

EDGES = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


def traced(mask, cuts, probability=None, presence=None):
    """Return all regions of a mask that comes in blocks between the cuts."""
    probability = np.ones(mask.shape, np.float32) if probability is None else probability
    tracer, regions = Tracer(), []
    for top, bottom in zip([0, *cuts], [*cuts, len(mask)], strict=True):
        rows = mask[top:bottom]
        there = None if presence is None else presence[top:bottom][rows]
        regions += tracer.add(top, rows, probability[top:bottom][rows], there)
        assert len(tracer._parent) <= 4 * len(tracer._open) + 1024
    return [*regions, *tracer.finish()]


def check(mask, cuts):
    regions = traced(mask, cuts)
    labels, count = ndimage.label(mask, EDGES)
    assert len(regions) == count
    assert sorted(one.pixels for one in regions) == sorted(np.bincount(labels.ravel())[1:].tolist())
    for one in regions:
        assert one.polygon.geom_type == "Polygon"
        assert shapely.is_valid(one.polygon)
        assert one.polygon.area == one.pixels
    again = rasterize([one.polygon for one in regions], mask.shape) if regions else np.zeros(mask.shape)
    assert np.array_equal(again.astype(bool), mask)
    return regions


@given(some.integers(0, 10**6), some.floats(0.2, 0.8), some.lists(some.integers(1, 29), max_size=8, unique=True))
@settings(max_examples=60, deadline=None)
def test_any_mask_in_any_blocks(seed, share, cuts):
    mask = np.random.default_rng(seed).random((30, 25)) < share
    by_blocks, at_once = check(mask, sorted(cuts)), check(mask, [])
    assert {one.polygon.wkb for one in by_blocks} == {one.polygon.wkb for one in at_once}


def test_holes_stay_holes_across_blocks():
    mask = np.zeros((60, 40), bool)
    mask[5:55, 5:35] = True
    mask[10:50, 10:30] = False
    mask[20:40, 15:25] = True  # an island in the hole
    mask[25:30, 18:20] = False
    regions = check(mask, [12, 13, 28, 45])
    assert sorted(len(one.polygon.interiors) for one in regions) == [1, 1]
    assert all(len(one.polygon.exterior.coords) == 5 for one in regions)  # nothing of the cuts is left


def test_pixels_that_share_a_corner_are_two_polygons():
    mask = np.zeros((4, 4), bool)
    mask[0:2, 0:2] = mask[2:4, 2:4] = True
    assert len(check(mask, [2])) == len(check(mask, [])) == 2


def test_one_polygon_over_hundreds_of_blocks():
    """A comb whose teeth only meet in the last row: names of regions are forgotten when they have met."""
    mask = np.zeros((301, 40), bool)
    mask[:, ::2] = True
    mask[-1] = True
    (region,) = check(mask, list(range(1, 301)))
    assert region.pixels == mask.sum()


def test_score_and_presence():
    rng = np.random.default_rng(0)
    mask = np.zeros((40, 40), bool)
    mask[3:30, 5:9] = mask[20:35, 20:30] = True
    probability, presence = rng.random((2, 40, 40)).astype(np.float32)
    regions = traced(mask, [7, 25], probability, presence)
    for region in regions:
        inside = rasterize([region.polygon], mask.shape).astype(bool)
        assert region.score == pytest.approx(probability[inside].mean())
        assert region.presence == presence[inside].max()
        assert region.rank == pytest.approx(region.score * region.presence)
    assert traced(mask, [7])[0].presence is None


def test_a_gap_between_rows_separates():
    tracer = Tracer(left=7)
    full = np.ones((2, 3), bool)
    regions = [*tracer.add(0, full, np.ones(6), None), *tracer.add(5, full, np.ones(6), None), *tracer.finish()]
    assert [one.polygon.bounds for one in regions] == [(7, 0, 10, 2), (7, 5, 10, 7)]
