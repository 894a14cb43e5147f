import numpy as np
import pytest
from pycocotools import mask as coco

from rrsis_zoo.data.masks import RunLengths, encode_mask, encode_polygon, encode_runs, run_lengths


def runs_of(mask):
    """Slow reference: walk down the columns."""
    runs, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def masks():
    random = np.random.default_rng(1)
    for share in (0.02, 0.5, 0.98):
        yield random.random((37, 53)) < share
    yield np.zeros((9, 4), dtype=bool)
    yield np.ones((9, 4), dtype=bool)
    long = np.zeros((800, 800), dtype=bool)
    long[3, 2] = long[790:, 700:] = long[0, 799] = True
    yield long


@pytest.mark.parametrize("mask", masks())
def test_runs_and_pixels_equal_a_walk_over_the_mask(mask):
    counts = encode_mask(mask)
    assert run_lengths(counts).tolist() == runs_of(mask)
    assert encode_runs(runs_of(mask), *mask.shape) == counts
    source = RunLengths((counts,), *mask.shape)
    decoded = source.decode()
    assert decoded.dtype == np.bool_
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, mask)
    assert source.is_empty == (not mask.any())


def test_layers_are_summed_or_joined():
    a, b = np.zeros((6, 5), dtype=bool), np.zeros((6, 5), dtype=bool)
    a[:4], b[2:] = True, True
    layers = (encode_mask(a), encode_mask(b))
    np.testing.assert_array_equal(RunLengths(layers, 6, 5).decode(), a ^ b)
    np.testing.assert_array_equal(RunLengths(layers, 6, 5, "any").decode(), a | b)


def test_layers_that_cancel_out_are_empty():
    counts = encode_mask(np.ones((6, 5), dtype=bool))
    assert RunLengths((counts, counts), 6, 5).is_empty
    assert not RunLengths((counts, counts), 6, 5, "any").is_empty


@pytest.mark.parametrize("spoil", [lambda c: c[:-1], lambda c: c[:-3], lambda c: c + b"5", lambda c: b""])
def test_runs_that_do_not_fill_the_mask_are_refused(spoil):
    mask = np.zeros((8, 8), dtype=bool)
    mask[2:5, 3:6] = True
    with pytest.raises(ValueError, match="run"):
        RunLengths((spoil(encode_mask(mask)),), 8, 8)


@pytest.mark.parametrize("counts", [b"\xff", b"5 5", b"o", b"oooooooo0", b"10O5", b"A"])
def test_counts_that_are_no_runs_are_refused(counts):
    with pytest.raises(ValueError, match="run lengths"):
        run_lengths(counts)


def test_no_spoilt_character_gets_through_to_uninitialised_pixels():
    mask = np.random.default_rng(2).random((12, 10)) < 0.3
    counts = encode_mask(mask)
    for position in range(len(counts)):
        for character in range(40, 120):
            spoilt = counts[:position] + bytes([character]) + counts[position + 1 :]
            try:
                source = RunLengths((spoilt,), 12, 10)
            except ValueError:
                continue
            assert source.decode().sum() == run_lengths(spoilt)[1::2].sum()


def test_uncompressed_runs_must_fill_the_mask():
    with pytest.raises(ValueError, match="add up to 4 x 4"):
        encode_runs([3, 5], 4, 4)
    with pytest.raises(ValueError, match="at least 0"):
        encode_runs([-1, 17], 4, 4)


def test_polygon_is_rasterised_as_pycocotools_does():
    points = [1.0, 1.5, 12.25, 2.0, 9.0, 11.0]
    expected = coco.decode(coco.frPyObjects([points], 14, 15))[..., 0]
    np.testing.assert_array_equal(RunLengths((encode_polygon(points, 14, 15),), 14, 15).decode(), expected)
    assert 30 < expected.sum() < 80


@pytest.mark.parametrize("points", [[1, 1, 5, 5], [0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 1e9], [0, 0, 1, 1, 2, float("nan")]])
def test_points_that_are_no_polygon_are_refused(points):
    with pytest.raises(ValueError, match="polygon"):
        encode_polygon(points, 14, 15)
