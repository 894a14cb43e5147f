import math

import pytest
import torch
import torch.nn.functional as F

from rrsis_zoo.models.layers.rotated import RotatedConv, rotation_matrices


def test_no_turn_is_no_change():
    torch.testing.assert_close(rotation_matrices(torch.zeros(2, 3)), torch.eye(9).expand(2, 3, 9, 9))


@pytest.mark.parametrize("degrees", [-40.0, -17.0, 5.0, 40.0])
def test_is_the_bilinear_sample_of_the_turned_grid(degrees):
    """Against torch's own sampler, whose border padding is the clamp."""
    theta, kernel = torch.tensor(math.radians(degrees)), torch.randn(1, 1, 3, 3)
    r, c = torch.meshgrid(torch.tensor([-1.0, 0, 1]), torch.tensor([-1.0, 0, 1]), indexing="ij")
    row, column = r * theta.cos() + c * theta.sin(), c * theta.cos() - r * theta.sin()
    grid = torch.stack([column, row], -1)[None]
    expected = F.grid_sample(kernel, grid, mode="bilinear", padding_mode="border", align_corners=True)
    torch.testing.assert_close((rotation_matrices(theta) @ kernel.flatten()).reshape(1, 1, 3, 3), expected)


def test_every_sample_has_a_kernel_of_its_own():
    conv = RotatedConv(4, 6, kernels=2).eval()
    torch.nn.init.normal_(conv.router.fc_theta.weight, std=5)
    x = torch.randn(3, 4, 5, 7)
    together = conv(x)
    assert together.shape == (3, 6, 5, 7)
    torch.testing.assert_close(torch.cat([conv(row) for row in x.split(1)]), together)
    _, theta = conv.router(x)
    assert theta.abs().max() <= math.radians(40)
    assert theta[0].ne(theta[1]).all()
