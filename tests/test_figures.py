import numpy as np
import pytest
from PIL import Image

from rrsis_zoo.figures import PREDICTED, TRUE, Shown, heat_overlay, prediction_figure


def row(truth=True):
    image = np.full((40, 60, 3), 120, np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:20] = True
    other = np.roll(mask, 5, axis=1)
    return Shown(image, "the very long sentence " * 12, np.eye(4, dtype=np.float32), mask, other if truth else None)


def test_iou():
    assert row().iou == pytest.approx(50 / 150)
    assert row(truth=False).iou is None


def test_figure_shows_both_masks(tmp_path):
    path = tmp_path / "figure.png"
    prediction_figure([row(), row(truth=False)], path, "title")
    pixels = np.array(Image.open(path).convert("RGB")).reshape(-1, 3).astype(int)
    for colour in (PREDICTED, TRUE):
        shown = (0.35 * 120 + 0.65 * np.array(colour)).astype(int)
        assert (np.abs(pixels - shown).max(1) <= 3).sum() > 100


def test_nothing_to_show(tmp_path):
    with pytest.raises(ValueError, match="no prediction"):
        prediction_figure([], tmp_path / "x.png")


def test_heat_overlay_leaves_the_image_where_there_is_no_belief():
    image = np.full((40, 60, 3), (30, 60, 90), np.uint8)
    heat = np.zeros((2, 3), np.float32)
    heat[:, 2] = 1
    over = heat_overlay(image, heat)
    assert over.shape == image.shape
    assert (over[:, :10] == 60 // 2 + 100).all()
    assert (over[:, -5:] == (252, 255, 164)).all()  # the bright end of the map
