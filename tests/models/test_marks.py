"""What people can read of prompts: without padding, NaN and points that are none."""

import numpy as np
import pytest
import torch

from rrsis_zoo.models.marks import Marks, marks_of
from rrsis_zoo.models.types import Prompts

NAN = float("nan")


def prompts(**fields):
    return Prompts(torch.zeros(2, 1, 4), None, torch.zeros(2, 1, 2, 2), **fields)


def test_what_is_padding_is_left_out():
    written = prompts(
        boxes=torch.tensor([[[1.0, 2, 30, 40], [NAN] * 4, [9, 9, 9, 9]], [[5, 6, 7, 8], [NAN] * 4, [NAN] * 4]]),
        scores=torch.tensor([[1.0, 1, 0], [0.5, 0, 0]]),
        points=torch.arange(24.0).reshape(2, 3, 2, 2),
        point_labels=torch.tensor([[[1, 0], [1, -1], [1, 1]], [[-1, -1]] * 3]),
    )
    first, second = marks_of(written, 0), marks_of(written, 1)
    assert first.boxes.tolist() == [[1, 2, 30, 40]]
    assert first.points.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert first.inside.tolist() == [True, False, True]
    assert len(first) == 4
    assert second.plain() == {"boxes": [[5, 6, 7, 8]], "points": [], "inside": []}


def test_boxes_or_points_alone_and_neither():
    assert marks_of(prompts(), 0) is None
    boxes = marks_of(prompts(boxes=torch.ones(2, 1, 4)), 1)
    assert (boxes.boxes.shape, boxes.points.shape) == ((1, 4), (0, 2))
    points = marks_of(prompts(points=torch.ones(2, 1, 1, 2), point_labels=torch.ones(2, 1, 1, dtype=torch.int64)), 1)
    assert (points.boxes.shape, points.points.shape, points.inside.tolist()) == ((0, 4), (1, 2), [True])


def test_scaled_marks_have_ordered_corners():
    marks = Marks(np.array([[30.0, 2, 10, 4]]), np.array([[3.0, 4]]), np.array([True])).scaled(2, 0.5)
    assert marks.boxes.tolist() == [[20, 1, 60, 2]]
    assert marks.points.tolist() == [[6, 2]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_too(dtype):
    assert marks_of(prompts(boxes=torch.full((2, 1, 4), 3.0, dtype=dtype)), 0).boxes.tolist() == [[3] * 4]
