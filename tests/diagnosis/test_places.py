"""Where heat maps point, in pixels: square images, padded ones, ties, referents smaller than a cell."""

import numpy as np
import pytest

from rrsis_zoo.diagnosis.places import Frame, half_box, hit, innermost, largest_box, mask_box, peak


def heat_at(*cells, grid=8):
    heat = np.full((grid, grid), 0.1)
    for cell in cells:
        heat[cell] = 0.9
    return heat


def box_mask(top, left, bottom, right, size=(64, 64)):
    mask = np.zeros(size, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


SQUARE = Frame.of((64, 64), (128, 128), 128, (8, 8))


@pytest.mark.parametrize(
    ("truth", "expected"),
    [
        ((16, 24, 24, 32), 1),  # the cell itself
        ((16, 24, 20, 40), 1),  # just half of it
        ((16, 24, 19, 64), 0),  # three eighths
        ((20, 28, 21, 29), 1),  # smaller than a cell, at its centre
        ((16, 24, 18, 26), 0),  # smaller than a cell, in its corner
        ((40, 40, 60, 60), 0),
    ],
)
def test_a_hit_covers_half_of_the_cell_or_its_centre(truth, expected):
    assert hit(heat_at((2, 3)), box_mask(*truth), SQUARE) == expected


def test_of_several_highest_cells_the_share_that_hits():
    assert hit(heat_at((2, 3), (6, 6)), box_mask(16, 24, 24, 32), SQUARE) == 0.5


def test_cells_of_a_padded_image_are_where_its_content_is():
    # 32 x 64 pixels fill the upper half of the square: four rows of cells, each 8 x 8 pixels
    frame = Frame.of((32, 64), (64, 128), 128, (8, 8))
    assert frame.pixels(3, 0) == (slice(24, 32), slice(0, 8))
    assert hit(heat_at((3, 0)), box_mask(24, 0, 32, 8, (32, 64)), frame) == 1
    assert hit(heat_at((5, 0)), np.ones((32, 64), np.bool_), frame) == 0  # in the padding


def test_pixels_are_in_one_cell_each_and_every_cell_has_one():
    for size, grid in ((100, 16), (7, 16), (128, 16), (37, 5)):
        frame = Frame.of((size, size), (128, 128), 128, (grid, grid))
        spans = [frame.pixels(i, 0)[0] for i in range(grid)]
        assert all(span.stop > span.start for span in spans)
        if size >= grid:
            assert [i for span in spans for i in range(span.start, span.stop)] == [*range(size)]


def test_half_box_is_that_of_the_component_at_the_peak():
    heat = heat_at((2, 3))
    heat[2, 4] = heat[3, 3] = 0.45
    heat[6, 6] = 0.8  # high, but elsewhere
    heat[4, 4] = 0.8  # touches only by a corner
    assert peak(heat) == (2, 3)
    assert half_box(heat, SQUARE) == (16, 24, 32, 40)


def test_boxes_and_innermost_point():
    mask = box_mask(5, 6, 20, 16) | box_mask(40, 40, 44, 44)
    assert mask_box(mask) == (5, 6, 44, 44)
    assert largest_box(mask) == (5, 6, 20, 16)
    assert mask_box(np.zeros((4, 4), np.bool_)) is None is largest_box(np.zeros((4, 4), np.bool_))
    y, x = innermost(mask)
    # by hand: no point of the mask is farther from the nearest pixel outside
    outside = np.argwhere(~np.pad(mask, 1)) - 1
    depth = {tuple(p): np.linalg.norm(outside - p, axis=1).min() for p in np.argwhere(mask)}
    assert depth[y, x] == max(depth.values())
