"""Counts on the protocol's grid against the slow reference, and without reading back."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from slow_reference import bilinear, nearest, slow_boundary, slow_box, slow_centre_inside

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.counts import boundary, box, centre_inside, detail_counts
from rrsis_zoo.metrics.measure import measure
from rrsis_zoo.metrics.sizes import decide, resize_log_odds, resize_mask


def blob(rng, shape):
    """A random mask of a few rectangles, sometimes empty or full."""
    mask = np.zeros(shape, dtype=np.bool_)
    for _ in range(rng.integers(0, 4)):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        mask[y : y + rng.integers(1, shape[0] + 1), x : x + rng.integers(1, shape[1] + 1)] ^= True
    return mask


SIZES = [(800, 480), (800, 1008), (800, 1024), (512, 1008), (512, 480), (128, 480), (787, 1024), (37, 53), (1024, 7)]


@pytest.mark.parametrize(("given", "wanted"), SIZES)
def test_masks_are_resized_as_pil_does(given, wanted):
    mask = np.random.default_rng(given + wanted).random((given, 29)) < 0.5
    for array, shape in ((mask, (wanted, 31)), (np.ascontiguousarray(mask.T), (31, wanted))):
        assert np.array_equal(resize_mask(torch.from_numpy(array), shape).numpy(), nearest(array, shape) == 1)


def test_torch_would_not_do():
    """Where a centre falls between two pixels PIL and torch choose differently, so our indices are PIL's."""
    ramp = torch.arange(800, dtype=torch.float32)
    torchs = F.interpolate(ramp[None, None], size=1008, mode="nearest-exact")[0, 0].long()
    ours = resize_mask(torch.arange(800)[:, None], (1008, 1))[:, 0]
    pil = np.array(Image.fromarray(np.arange(800, dtype=np.int32)[:, None]).resize((1, 1008), Image.NEAREST))[:, 0]
    assert ours.tolist() == pil.tolist()
    assert (ours != torchs).any()


def test_labels_keep_their_dtype():
    labels = torch.tensor([[0, 255], [1, 7]], dtype=torch.uint8)
    assert resize_mask(labels, (2, 2)) is labels
    assert resize_mask(labels, (4, 2)).tolist() == [[0, 255], [0, 255], [1, 7], [1, 7]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_log_odds_are_resized_in_single_precision(dtype):
    values = torch.randn(9, 13).to(dtype)
    got = resize_log_odds(values, (30, 7))
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_allclose(got.numpy(), bilinear(values.double().numpy(), (30, 7)), atol=5e-6)
    assert resize_log_odds(values, (9, 13)) is values


@pytest.mark.parametrize("seed", range(30))
def test_details_equal_loops_over_pixels(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 90, 2)) if seed % 3 else (1, int(rng.integers(1, 9)))
    pred, target = blob(rng, shape), blob(rng, shape)
    edges = slow_boundary(pred), slow_boundary(target)
    expected = [int((edges[0] & edges[1]).sum()), int((edges[0] | edges[1]).sum())]
    expected += slow_box(pred) + slow_box(target) + [int(slow_centre_inside(pred, target))]
    counts = detail_counts(torch.from_numpy(pred), torch.from_numpy(target))
    assert counts.dtype == torch.int64
    assert counts.tolist() == expected


def test_boundary_width_is_two_percent_of_the_diagonal():
    mask = torch.zeros(300, 400, dtype=torch.bool)  # diagonal 500: d = 10
    mask[100:200, 0:200] = True
    edge = boundary(mask)
    assert edge.sum() == 100 * 200 - 80 * 180  # the image border counts as contour
    assert torch.equal(boundary(mask.T), edge.T)


def test_a_perfect_bent_mask_hits():
    """The centre of gravity of an L or a ring is outside of it; a perfect answer must count as found."""
    ring = torch.ones(21, 21, dtype=torch.bool)
    ring[3:18, 3:18] = False
    bent = torch.zeros(30, 30, dtype=torch.bool)
    bent[:, :3] = bent[-3:] = True
    for mask in (ring, bent):
        centre = torch.nonzero(mask).double().mean(0).round().long()
        assert not mask[centre[0], centre[1]]
        assert centre_inside(mask, mask)
        assert not centre_inside(mask, ~mask)
    empty = torch.zeros(5, 5, dtype=torch.bool)
    assert not centre_inside(empty, ~empty)
    assert not centre_inside(~empty, empty)
    assert box(empty).tolist() == [0, 0, 0, 0]


def test_what_is_left_out_counts_nowhere():
    pred, target = torch.tensor([[1, 1, 0, 0]]) > 0, torch.tensor([[1, 0, 1, 0]]) > 0
    counted = torch.tensor([[True, False, True, True]])
    assert measure(pred, target).tolist() == [1, 3, 2, 0]
    assert measure(pred, target, counted=counted).tolist() == [1, 2, 1, 0]
    big = measure(pred, target, 8, counted=counted)
    assert big.tolist() == [16, 32, 16, 0]
    assert len(measure(pred, target, details=True)) == 15


KINDS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("size", [480, 1008, 1024, "native"])
@pytest.mark.parametrize("given", [(128, 128), (40, 61)])
def test_infinite_log_odds_decide_as_the_largest_finite_ones(dtype, size, given):
    """What a probability of exactly 0 or 1 has; a mask's own boundary is where its infinities meet."""
    rng = np.random.default_rng(0)
    target = torch.from_numpy(blob(rng, given) | blob(rng, given))
    truth = target if size != "native" else resize_mask(target, (300, 200))
    shape = (300, 200) if size == "native" else (size, size)
    sign = torch.where(target, 1.0, -1.0).to(dtype)
    expected, plain = decide(sign, shape)
    for large in (torch.inf, torch.finfo(dtype).max, torch.finfo(dtype).max / 4):
        decided, is_nan = decide(sign * large, shape)
        assert torch.equal(decided, expected)
        assert not is_nan
    assert not plain
    both, either, *_, is_nan = measure(sign * torch.inf, truth, size).tolist()
    assert (both / either > 0.9, is_nan) == (True, 0)


def test_a_mask_of_infinities_is_nearly_perfect():
    """41.95, 95.88 and 96.18 at these sizes, before a mean of opposite infinities was a number."""
    target = torch.zeros(800, 800, dtype=torch.bool)
    target[203:611, 155:707] = True
    for probability in (target.float(), target.double()):
        for size in (480, 1008, 1024):
            both, either, _, is_nan = measure((probability / (1 - probability)).log(), target, size).tolist()
            assert (both / either >= 0.999, is_nan) == (True, 0)


@pytest.mark.parametrize("dtype", KINDS)
def test_finite_log_odds_are_resized_as_ever(dtype):
    for scale in (1e-3, 1.0, 100.0, 1e4, 1e30):
        values = (torch.randn(37, 53) * scale).to(dtype)
        if not values.isfinite().all():
            continue
        wide = values if dtype == torch.float64 else values.float()
        expected = F.interpolate(wide[None, None], size=(71, 33), mode="bilinear", align_corners=False)[0, 0]
        assert torch.equal(resize_log_odds(values, (71, 33)), expected)


@pytest.mark.parametrize("size", ["native", 2, 480])
def test_a_nan_beside_infinities_is_noticed(size):
    target = torch.zeros(9, 9, dtype=torch.bool)
    log_odds = torch.full((9, 9), torch.inf)
    log_odds[0, 1] = torch.nan  # at 2 x 2 no mean looks at it
    assert measure(log_odds, target, size)[3] == 1
    assert measure(log_odds[:, 2:], target, size)[3] == 0


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(3, 3, dtype=torch.int32), torch.zeros(0, 3), torch.zeros(1, 3, 3), torch.zeros(()),
     torch.zeros(3, 3, dtype=torch.complex64), torch.zeros(3, 3).to(torch.float8_e4m3fn)],
)  # fmt: skip
def test_what_is_no_prediction(wrong):
    with pytest.raises(ConfigError, match=r"must be a bool mask or floating-point log-odds of shape \(H, W\)"):
        measure(wrong, torch.zeros(3, 3, dtype=torch.bool))
    with pytest.raises(ConfigError, match=r"must be bool of shape \(H, W\)"):
        measure(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.bool))


def test_nan_is_noticed():
    target = torch.ones(2, 2, dtype=torch.bool)
    log_odds = torch.tensor([[3.0, torch.inf], [-torch.inf, 1.0]])
    assert measure(log_odds, target).tolist() == [3, 4, 3, 0]
    log_odds[1, 1] = torch.nan
    assert measure(log_odds, target, 4)[3] == 1


@pytest.mark.parametrize(
    ("pred", "target", "words"),
    [
        (torch.ones(2, 3) > 0, torch.ones(3, 2) > 0, r"\(2, 3\).*\(3, 2\)"),
        (torch.ones(2, 3), torch.ones(2, 3), "true mask must be bool.*float32"),
        (torch.ones(2, 3, dtype=torch.uint8), torch.ones(2, 3) > 0, r"predicted mask must be|a prediction must be"),
        (torch.ones(1, 2, 3), torch.ones(2, 3) > 0, r"log-odds of shape \(H, W\).*\(1, 2, 3\)"),
    ],
)
def test_what_cannot_be_compared(pred, target, words):
    with pytest.raises(ConfigError, match=words):
        measure(pred, target)


@pytest.mark.parametrize("eval_size", ["native", 480])
@pytest.mark.parametrize("kind", ["mask", "log-odds"])
def test_nothing_is_read_back(eval_size, kind):
    """Tensors without data can be measured, so no step depends on a value: the host never waits for a GPU."""
    prediction = torch.empty(60, 80, dtype=torch.bool if kind == "mask" else torch.float16, device="meta")
    target = torch.empty(60, 80, dtype=torch.bool, device="meta")
    counts = measure(prediction, target, eval_size, details=True)
    assert (counts.device.type, counts.shape) == ("meta", (15,))
    with pytest.raises(RuntimeError, match="meta"):  # what the check rests on
        counts[0].item()
