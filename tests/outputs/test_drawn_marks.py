"""Boxes and points in pictures, by their pixels."""

import time

import numpy as np
import pytest

from rrsis_zoo.models.marks import Marks
from rrsis_zoo.outputs.drawing import COLOURS, Drawn, drawing, drawing_size, panel_size, panels
from rrsis_zoo.outputs.marks import PLAIN, with_marks

GREY = (120, 120, 120)


def ground(height=200, width=300, colour=GREY):
    return np.full((height, width, 3), colour, np.uint8)


def marks(boxes=(), points=(), inside=None):
    inside = [True] * len(points) if inside is None else inside
    return Marks(
        np.reshape(boxes, (-1, 4)).astype(float), np.reshape(points, (-1, 2)).astype(float), np.array(inside, bool)
    )


def places(picture, colour):
    """Rows and columns of the pixels that are exactly of a colour."""
    return np.nonzero((picture == colour).all(-1))


@pytest.mark.parametrize("colour", [(0, 0, 0), GREY, (255, 255, 255)])
def test_a_box_is_where_it_was_written(colour):
    """On any ground: of a picture at twice the size of the image."""
    before = ground(colour=colour)
    after = with_marks(before, (100, 150), [(marks([[20, 30, 60, 80]]), (255, 0, 0))])
    rows, columns = places(after, (255, 0, 0))
    assert abs(rows.min() - 60) <= 2
    assert abs(rows.max() - 159) <= 2
    assert abs(columns.min() - 40) <= 2
    assert abs(columns.max() - 119) <= 2
    assert (after[70:150, 50:110] == before[70:150, 50:110]).all()  # an outline, not a fill
    assert len(places(after, (20, 20, 20))[0]) > 300  # its rim
    assert (before == colour).all()  # the picture that was given is left as it is


def test_a_point_inside_is_a_disc_and_one_outside_a_ring():
    after = with_marks(ground(), (200, 300), [(marks(points=[[50, 60], [150, 60]], inside=[True, False]), PLAIN)])
    assert tuple(after[60, 50]) == PLAIN
    assert tuple(after[60, 150]) == (20, 20, 20)
    assert tuple(after[60, 153]) == PLAIN
    rows, columns = places(after, PLAIN)
    assert (abs(rows - 60) <= 6).all()
    assert len(columns) > 40


def test_nothing_to_draw_changes_nothing():
    assert np.array_equal(with_marks(ground(), (200, 300), [(None, PLAIN), (marks(), PLAIN)]), ground())


@pytest.mark.parametrize("box", [[-1e12, 10, 1e12, 50], [1e9, 1e9, 2e9, 2e9], [290, 190, 900, 900], [5, 5, 5, 5]])
def test_whatever_a_model_writes_is_drawn_at_once(box):
    start = time.process_time()
    after = with_marks(ground(), (200, 300), [(marks([box], [[box[0], box[1]]]), PLAIN)])
    assert time.process_time() - start < 0.5
    assert after.shape == (200, 300, 3)


def test_a_drawing_has_each_sentences_prompts_in_its_colour():
    image = ground(100, 150)
    none = np.zeros((100, 150), bool)
    drawn = [
        Drawn("the ship", none, None, 0.0, marks=marks([[10, 10, 40, 60]])),
        Drawn("the pier", none, None, 0.0, marks=marks([[80, 20, 140, 90]], [[100, 50]])),
    ]
    sheet = np.asarray(drawing(image, drawn))
    height, width = drawing_size(100, 150)
    picture, factor = sheet[:height, :width], width / 150
    for colour, (x0, x1) in zip(COLOURS, ((10, 40), (80, 140)), strict=False):
        _, columns = places(picture, colour)
        assert abs(columns.min() - x0 * factor) <= 3
        assert abs(columns.max() - x1 * factor) <= 3
    assert tuple(picture[round(50 * factor), round(100 * factor)]) == COLOURS[1]
    plain = np.asarray(drawing(image, [Drawn("the ship", none, None, 0.0)]))[:height]
    assert not len(places(plain, COLOURS[0])[0])


def test_panels_say_that_there_are_prompts():
    size = panel_size(100, 150)
    drawn = [Drawn("the ship", np.zeros((100, 150), bool), None, 0.0)]
    with_, without = (panels(ground(100, 150), drawn, [ground(*size)], prompts=p) for p in (True, False))
    difference = np.abs(np.asarray(with_).astype(int) - np.asarray(without)).sum(-1)
    rows, columns = np.nonzero(difference)
    assert len(rows) > 20
    assert size[1] < columns.min()  # behind the words "heat map"
