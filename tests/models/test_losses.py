import math

import torch
import torch.nn.functional as F

from rrsis_zoo.models.losses import binary_cross_entropy


def test_ignored_pixels_count_in_the_denominator_only():
    logits = torch.tensor([[[[2.0, -1.0], [0.5, 3.0]]]])
    target = torch.tensor([[[[1, 0], [255, 255]]]], dtype=torch.uint8)
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 4
    assert math.isclose(binary_cross_entropy(logits, target).item(), expected, rel_tol=1e-6)


def test_logits_go_to_the_targets_size():
    logits, target = torch.randn(2, 1, 4, 4), torch.randint(0, 2, (2, 1, 9, 9), dtype=torch.uint8)
    big = F.interpolate(logits, size=(9, 9), mode="bilinear", align_corners=False)
    expected = F.binary_cross_entropy_with_logits(big, target.float())
    torch.testing.assert_close(binary_cross_entropy(logits, target), expected)
