from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from rrsis_zoo.errors import ConfigError, OutputError
from rrsis_zoo.figures import PREDICTED, TRUE, Shown, heat_overlay, prediction_figure, save_figure
from rrsis_zoo.models.marks import Marks


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


def test_boxes_and_points_are_in_the_heat_map(tmp_path):
    """White, at the place that was written; what lies outside the image does not move it."""
    box, far = [12.0, 8, 40, 32], [-500.0, -500, 900, 900]
    flat = replace(row(), heatmap=np.zeros((4, 4), np.float32))
    pictures = {}
    for name, boxes, points in (("none", [], []), ("box", [box, far], []), ("point", [], [[30.0, 20.0]])):
        marks = Marks(np.reshape(boxes, (-1, 4)), np.reshape(points, (-1, 2)), np.ones(len(points), bool))
        prediction_figure([replace(flat, marks=marks)], tmp_path / f"{name}.png")
        pictures[name] = np.array(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
    ground = (pictures["none"] == 160).all(-1)  # of the heat map's panel: pale grey where nothing is believed
    (rows,), (columns,) = np.nonzero(ground.sum(1) > 50), np.nonzero(ground.sum(0) > 50)  # not a letter's edge
    top, left, right = rows.min(), columns.min(), columns.max()
    scale = (right + 1 - left) / 60
    for name, inside in (("box", (12, 8, 40, 32)), ("point", (30, 20, 30, 20))):
        white = (pictures[name] == 255).all(-1) & ground
        rows, columns = np.nonzero(white)
        found = (columns.min() - left, rows.min() - top, columns.max() - left, rows.max() - top)
        assert np.abs(np.array(found) / scale - inside).max() < 2, name
        _, columns = np.nonzero((pictures[name] != pictures["none"]).any(-1))
        assert left <= columns.min() <= columns.max() <= right  # the other panels are as they were


def test_nothing_to_show(tmp_path):
    with pytest.raises(ValueError, match="no prediction"):
        prediction_figure([], tmp_path / "x.png")


@pytest.mark.parametrize(
    "sentence",
    [
        "costs $5 and $\\frac{",
        "a\x00b\x1b[31m\u2028c",
        "\ud800",
        "船 \U0001f6a2",
        "x" * 5000,
        "two " * 5000,
        "",
        "%s {} \\",
    ],
)
def test_any_sentence_can_be_shown(tmp_path, sentence, recwarn):
    shown = row()
    prediction_figure(
        [Shown(shown.image, sentence, shown.heatmap, shown.mask, shown.truth)], tmp_path / "figure.png", sentence[:9]
    )
    pixels = np.array(Image.open(tmp_path / "figure.png").convert("RGB")).reshape(-1, 3).astype(int)
    predicted = (0.35 * 120 + 0.65 * np.array(PREDICTED)).astype(int)
    assert (np.abs(pixels - predicted).max(1) <= 3).sum() > 100  # not pushed out by the text
    assert not recwarn.list


def test_a_figure_that_cannot_be_written(tmp_path, limited_files):
    path = tmp_path / "new" / "folder" / "figure.png"
    prediction_figure([row()], path)
    with pytest.raises(ConfigError, match=r"figure\.doc: a figure's name must end in one of .*\.png"):
        prediction_figure([row()], tmp_path / "figure.doc")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/figure\.png cannot be written \(.*\)"):
        prediction_figure([row()], tmp_path / "file" / "figure.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match=r"folder\.png cannot be written \(it is a folder\)"):
        save_figure(Figure(), tmp_path / "folder.png")
    before = sorted(tmp_path.rglob("*"))
    with limited_files(1000), pytest.raises(OutputError, match=r"b\.png cannot be written \(File too large\)"):
        prediction_figure([row()], tmp_path / "b.png")
    assert sorted(tmp_path.rglob("*")) == before


def test_heat_overlay_leaves_the_image_where_there_is_no_belief():
    image = np.full((40, 60, 3), (30, 60, 90), np.uint8)
    heat = np.zeros((2, 3), np.float32)
    heat[:, 2] = 1
    over = heat_overlay(image, heat)
    assert over.shape == image.shape
    assert (over[:, :10] == 60 // 2 + 100).all()
    assert (over[:, -5:] == (252, 255, 164)).all()  # the bright end of the map
