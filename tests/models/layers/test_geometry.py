import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rrsis_zoo.models.layers.geometry import (
    fit,
    fit_mask,
    fitted_size,
    normalise,
    resize,
    restore_each,
    stretch,
    stretch_mask,
)


@pytest.mark.parametrize("size", [(50, 70), (128, 128), (200, 333), (1, 1), (64, 64)])
def test_stretch_is_opencvs_bilinear_resize(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    theirs = cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR).astype(np.int64)
    ours = stretch(torch.from_numpy(image).permute(2, 0, 1), 64).permute(1, 2, 0).mul(255).round().numpy()
    difference = np.abs(ours - theirs)
    assert difference.max() <= 1  # OpenCV interpolates with 11-bit fixed-point weights
    assert difference.mean() < 0.2


@pytest.mark.parametrize("size", [(50, 70), (128, 128), (200, 333)])
def test_stretch_mask_is_opencvs_nearest_resize(size):
    mask = np.random.default_rng(0).random(size) > 0.5
    theirs = cv2.resize(mask.astype(np.uint8), (64, 64), interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(stretch_mask(torch.from_numpy(mask), 64).numpy(), theirs)


def test_restore_goes_through_the_square():
    logits = torch.randn(3, 1, 8, 8)
    sizes = torch.tensor([[20, 30], [16, 16]])
    out = list(restore_each(logits, torch.tensor([1, 0, 1]), sizes, side=32))
    assert [tuple(o.shape) for o in out] == [(16, 16), (20, 30), (16, 16)]
    square = F.interpolate(logits[1:2], size=(32, 32), mode="bilinear", align_corners=False)
    expected = F.interpolate(square, size=(20, 30), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(out[1], expected)


def test_resize_keeps_what_fits():
    x = torch.randn(1, 2, 5, 7, dtype=torch.bfloat16)
    assert resize(x, (5, 7)) is x
    assert resize(x, (9, 9)).dtype == torch.float32


def test_normalise():
    image = torch.tensor([0.2, 0.4, 0.8])[:, None, None].expand(3, 2, 2)
    out = normalise(image, (0.2, 0.2, 0.4), (0.1, 0.2, 0.4))
    torch.testing.assert_close(out[:, 0, 0], torch.tensor([0.0, 1.0, 1.0]))


@pytest.mark.parametrize(
    ("height", "width", "fitted"),
    [(800, 800, (64, 64)), (40, 80, (32, 64)), (100, 33, (64, 21)), (3, 1, (64, 21)), (1, 5000, (1, 64))],
)
def test_fit_keeps_the_aspect_ratio_and_pads_with_black(height, width, fitted):
    assert fitted_size(height, width, 64) == fitted
    image = torch.full((3, height, width), 51, dtype=torch.uint8)
    out = fit(image, 64)
    assert out.shape == (3, 64, 64)
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[: fitted[0], : fitted[1]] = True
    assert out[:, inside].eq(51 / 255).all()
    assert not out[:, ~inside].any()
    mask = fit_mask(torch.ones(height, width, dtype=torch.bool), 64, padding=255)
    assert mask[inside].eq(1).all()
    assert mask[~inside].eq(255).all()


def test_fit_of_a_square_is_stretch():
    image, mask = torch.randint(0, 256, (3, 50, 50), dtype=torch.uint8), torch.rand(50, 50) > 0.5
    assert fit(image, 64).equal(stretch(image, 64))
    assert fit_mask(mask, 64, padding=255).equal(stretch_mask(mask, 64))


def test_restore_cuts_the_padding_off():
    """Content on the left half; what is in the padding never comes back."""
    logits = torch.full((1, 1, 8, 8), -5.0)
    logits[..., :4] = 3.0
    (native,) = restore_each(logits, torch.tensor([0]), torch.tensor([[40, 20]]), 32, torch.tensor([[32, 16]]))
    assert native.shape == (40, 20)
    torch.testing.assert_close(native[:, :16], torch.full((40, 16), 3.0))
    (whole,) = restore_each(logits, torch.tensor([0]), torch.tensor([[40, 40]]), 32)
    torch.testing.assert_close(whole[:, -1], torch.full((40,), -5.0))
