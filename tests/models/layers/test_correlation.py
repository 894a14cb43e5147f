import pytest
import torch
import torch.nn.functional as F

from rrsis_zoo.models.layers.correlation import correlate, correlate_enlarged


def enlarged_first(u, W, side):
    """The published way: enlarge all channels, then normalise and correlate."""
    big = F.interpolate(W, size=(side, side), mode="bilinear", align_corners=True)
    return torch.einsum("nc,nchw->nhw", u / u.norm(dim=1, keepdim=True), big / big.norm(dim=1, keepdim=True))[:, None]


@pytest.mark.parametrize(("h", "w", "side"), [(6, 6, 32), (5, 9, 24), (1, 1, 8), (7, 7, 3), (8, 8, 8)])
def test_the_same_numbers_as_enlarging_first(h, w, side):
    u, W = torch.randn(3, 20), torch.randn(3, 20, h, w) + 0.2
    # float32 rounding of sums over 20 channels; similarities are at most 1
    torch.testing.assert_close(correlate_enlarged(u, W, side), enlarged_first(u, W, side), rtol=0, atol=2e-6)


def test_neighbours_that_cancel():
    """Opposite neighbours: the enlarged feature passes near zero, where the quadratic form is a small difference."""
    W = torch.randn(1, 16, 1, 1).repeat(1, 1, 4, 4)
    W[..., ::2] *= -1
    W[..., 1::2, :] *= 1.1
    out = correlate_enlarged(torch.randn(1, 16), W, 21)
    assert out.isfinite().all()


def test_the_same_gradients():
    u, W = torch.randn(2, 12, requires_grad=True), torch.randn(2, 12, 5, 5, requires_grad=True)
    weight = torch.randn(2, 1, 17, 17)
    expected = torch.autograd.grad((enlarged_first(u, W, 17) * weight).sum(), (u, W))
    ours = torch.autograd.grad((correlate_enlarged(u, W, 17) * weight).sum(), (u, W))
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_on_the_maps_own_grid():
    u, W = torch.randn(2, 12), torch.randn(2, 12, 4, 5)
    torch.testing.assert_close(correlate(u, W)[:, 0], torch.cosine_similarity(u[..., None, None], W))


def test_autocast_changes_nothing():
    u, W = torch.randn(2, 12), torch.randn(2, 12, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        half = correlate_enlarged(u, W, 9)
    assert half.dtype == torch.float32
    assert half.equal(correlate_enlarged(u, W, 9))
