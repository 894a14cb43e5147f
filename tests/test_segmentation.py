"""What a person sees of a result: its repr, its figure, its cell in a notebook."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageShow

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.outputs.drawing import COLOURS
from rrsis_zoo.segmentation import Segmentation


def result(sentences=2):
    pixels = np.full((90, 120, 3), 90, np.uint8)
    masks = np.zeros((sentences, 90, 120), bool)
    masks[0, 10:40, 20:80] = True
    probabilities = np.where(masks, np.float32(0.75), np.float32(0.1))
    heat = np.eye(8, dtype=np.float32)[None].repeat(sentences, 0)
    return Segmentation(masks, probabilities, heat, tuple(f"sentence {n}" for n in range(sentences)), pixels)


def test_repr_is_short():
    assert repr(result()) == (
        "Segmentation(90 x 120 pixels; 'sentence 0': score 0.75, 17 % of the picture; 'sentence 1': nothing found)"
    )
    assert repr(result(7)).endswith("'sentence 3': nothing found; and 3 more)")


def test_scores():
    scores = result().scores
    assert scores[0] == pytest.approx(0.75)
    assert np.isnan(scores[1])
    assert scores.dtype == np.float64


def test_a_figure_has_picture_heat_map_and_mask_of_every_sentence():
    figure = np.asarray(result().figure())
    one = np.asarray(result(1).figure())
    assert figure.shape[1] == one.shape[1]
    assert figure.shape[0] == pytest.approx(2 * one.shape[0], abs=10)
    assert (one == COLOURS[0]).all(-1).sum() > 100  # the outline
    assert (one == (90, 90, 90)).all(-1).sum() > 1.5 * 180 * 240  # picture and the mask's ground, enlarged
    assert (one == (252, 255, 164)).all(-1).sum() > 50  # the bright end of the heat map's colours


def test_a_notebook_shows_the_figure(monkeypatch):
    shown = result()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown._repr_png_()))), np.asarray(shown.figure()))
    displayed = []
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=displayed.append))
    shown.show()
    assert [image.size for image in displayed] == [shown.figure().size]


def test_elsewhere_a_viewer_does_or_the_file_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    opened = []
    monkeypatch.setattr(ImageShow, "show", lambda image, title: not opened.append(image))
    result().show()
    assert [image.size for image in opened] == [result().figure().size]
    monkeypatch.setattr(ImageShow, "show", lambda image, title: False)
    with pytest.raises(ConfigError, match=r'result\.figure\(\)\.save\("figure\.png"\) writes a file'):
        result().show()


def test_the_picture_is_that_of_the_command():
    picture = np.asarray(result().picture())
    assert (picture == COLOURS[0]).all(-1).sum() > 1000
    assert picture.shape[1] == 6 * 120
