"""Readable whatever the picture: by what can be counted in the drawing."""

import numpy as np
import pytest

from rrsis_zoo.outputs.drawing import (
    COLOURS,
    LARGEST,
    SMALLEST,
    Drawn,
    drawing,
    drawing_size,
    marked,
    panel_size,
    panels,
)
from rrsis_zoo.outputs.lettering import font, wrapped

LONG = "the large white storage tank between the two smaller ones that stand on the left of the long grey pier " * 3


def square(height, width, top=0.3, left=0.3, size=0.3, text="the ship"):
    mask = np.zeros((height, width), bool)
    mask[int(top * height) : int((top + size) * height), int(left * width) : int((left + size) * width)] = True
    return Drawn(text, mask, 0.9 if mask.any() else None, float(mask.mean()))


def coloured(image, colour):
    """Return how many pixels are exactly of a colour."""
    return int((np.asarray(image) == colour).all(-1).sum())


@pytest.mark.parametrize("size", [(1, 1), (20, 30), (500, 700), (3000, 1000), (2, 5000)])
def test_any_size_is_enlarged_by_a_whole_number_or_shrunk(size):
    height, width = drawing_size(*size)
    assert SMALLEST <= max(height, width) <= max(LARGEST, 2 * SMALLEST)
    if max(size) <= LARGEST:
        assert (height % size[0], width % size[1], height // size[0]) == (0, 0, width // size[1])
    else:
        assert max(height, width) == LARGEST


@pytest.mark.parametrize("ground", [0, 128, 255])
@pytest.mark.parametrize("size", [(24, 30), (640, 640), (2500, 3000)])
def test_outline_and_fill_show_on_any_ground(size, ground):
    pixels = np.full((*size, 3), ground, np.uint8)
    shown = drawing_size(*size)
    image = marked(pixels, [square(*size).mask], shown)
    assert image.shape == (*shown, 3)
    row, column = int(0.45 * shown[0]), int(0.45 * shown[1])
    expected = np.rint(0.6 * ground + 0.4 * np.array(COLOURS[0]))
    assert np.abs(image[row, column] - expected).max() <= 1
    side = int(0.3 * shown[0])
    assert coloured(image, COLOURS[0]) > 4 * side  # the outline
    assert (image[0, 0] == ground).all()


def test_eight_sentences_have_eight_colours_and_their_lines():
    pixels = np.full((400, 600, 3), 90, np.uint8)
    places = [(0.1 + 0.5 * (n // 4), 0.05 + 0.24 * (n % 4)) for n in range(8)]
    eight = [square(400, 600, top, left, 0.15, LONG) for top, left in places]
    one = drawing(pixels, eight[:1])
    image = drawing(pixels, eight, "control")
    assert image.width == one.width
    picture_height = drawing_size(400, 600)[0]
    legend = image.crop((0, picture_height, image.width, image.height))
    for colour in COLOURS:
        assert coloured(image.crop((0, 0, image.width, picture_height)), colour) > 100
        assert coloured(legend, colour) > 100
    assert (image.height - picture_height) > 7 * (one.height - picture_height)
    dark = np.asarray(legend.convert("L")) < 60
    assert dark[:, -4:].sum() == 0  # no line is cut off
    assert len(set(COLOURS)) == 8


def test_overlapping_masks_share_the_ground_in_stripes():
    pixels = np.zeros((640, 640, 3), np.uint8)
    same = square(640, 640).mask
    image = marked(pixels, [same, same], (640, 640))
    fills = [coloured(image, np.rint(0.4 * np.array(colour)).astype(np.uint8)) for colour in COLOURS[:2]]
    assert min(fills) > 0.4 * same.sum() * 0.9
    assert min(coloured(image, colour) for colour in COLOURS[:2]) > 200  # outlines in dashes


def test_nothing_found_is_said():
    empty = square(50, 60, size=0.0)
    image = drawing(np.full((50, 60, 3), 200, np.uint8), [empty])
    assert empty.remark == "nothing found"
    assert not any(coloured(image, colour) for colour in COLOURS)


@pytest.mark.parametrize(
    "sentence", ["", "a\x00b\x1b[31m\u2028c", "\ud800", "船 \U0001f6a2", "x" * 5000, "two " * 5000]
)
def test_any_sentence_can_be_drawn(sentence):
    image = drawing(np.zeros((30, 40, 3), np.uint8), [square(30, 40, text=sentence)])
    assert image.height < 3 * SMALLEST
    assert coloured(image, COLOURS[0]) > 100


def test_lines_fit_and_lose_no_word():
    letters = font(15)
    lines = wrapped(LONG, letters, 300, most=99)
    assert all(letters.getlength(line) <= 300 for line in lines)
    assert " ".join(lines).split() == LONG.split()
    assert "".join(wrapped("x" * 500, letters, 100, most=99)) == "x" * 500
    short = wrapped(LONG, letters, 300, most=2)
    assert len(short) == 2
    assert short[1].endswith(" …")
    assert letters.getlength(short[1]) <= 300


def test_panels_are_one_line_a_sentence():
    pixels = np.full((40, 60, 3), 90, np.uint8)
    heat = np.full((*panel_size(40, 60), 3), (1, 2, 3), np.uint8)
    assert heat.shape[:2] == (200, 300)
    one = panels(pixels, [square(40, 60)], [heat])
    two = panels(pixels, [square(40, 60), square(40, 60, text=LONG)], [heat, heat])
    assert coloured(one, (1, 2, 3)) == heat.shape[0] * heat.shape[1]
    assert one.height < two.height < 3 * one.height
    assert coloured(one, COLOURS[0]) > 100
