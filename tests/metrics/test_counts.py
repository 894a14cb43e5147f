import numpy as np
import pytest
import torch

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.counts import mask_counts


def slow_counts(pred, target):
    both = either = predicted = 0
    for row_p, row_t in zip(pred.tolist(), target.tolist(), strict=True):
        for p, t in zip(row_p, row_t, strict=True):
            both += p and t
            either += p or t
            predicted += p
    return [both, either, predicted]


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (13, 7), (31, 64), (65, 33)])
@pytest.mark.parametrize("seed", range(4))
def test_counts_equal_a_loop_over_pixels(shape, seed):
    rng = np.random.default_rng(seed)
    pred, target = (torch.from_numpy(rng.random(shape) < rng.random()) for _ in range(2))
    counts = mask_counts(pred, target)
    assert counts.dtype == torch.int64
    assert counts.tolist() == slow_counts(pred, target)


def test_counts_are_exact_beyond_float32():
    ones = torch.ones(4097, 4099, dtype=torch.bool)  # 16 793 603 pixels; float32 is exact up to 16 777 216
    assert mask_counts(ones, ones).tolist() == [4097 * 4099] * 3


def test_counts_of_non_contiguous_masks():
    pred = torch.zeros(6, 4, dtype=torch.bool)
    pred[0] = True
    assert mask_counts(pred.T, pred.T.contiguous()).tolist() == [4, 4, 4]


def test_different_shapes_are_an_error_that_names_both():
    # (1, 5) and (4, 5) would broadcast.
    with pytest.raises(ConfigError, match=r"\(1, 5\).*\(4, 5\)"):
        mask_counts(torch.ones(1, 5, dtype=torch.bool), torch.ones(4, 5, dtype=torch.bool))


@pytest.mark.parametrize(
    ("pred", "words"),
    [
        (torch.ones(2, 2, dtype=torch.uint8), r"predicted mask must be bool.*uint8 \(2, 2\)"),
        (torch.zeros(2, 2), r"float32 \(2, 2\)"),
        (torch.ones(1, 2, 2, dtype=torch.bool), r"bool \(1, 2, 2\)"),
    ],
)
def test_what_is_no_mask_is_refused(pred, words):
    with pytest.raises(ConfigError, match=words):
        mask_counts(pred, torch.ones(2, 2, dtype=torch.bool))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_counts_on_a_gpu_do_not_wait_for_it():
    mask = torch.rand(33, 65, device="cuda") < 0.5
    torch.cuda.set_sync_debug_mode("error")
    try:
        counts = mask_counts(mask, ~mask)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert counts.device.type == "cuda"
    assert counts[:2].tolist() == [0, 33 * 65]
