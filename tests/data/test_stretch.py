import numpy as np
import pytest

from rrsis_zoo.data.imagery.stretch import Stretch, to_8_bits
from rrsis_zoo.errors import ConfigError, DataFormatError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", Stretch("none")),
        ("minmax", Stretch("minmax", 0, 100)),
        ("0.5, 99", Stretch("percentiles", 0.5, 99)),
        ("-5:1e4", Stretch("values", -5, 10000)),
    ],
)
def test_what_an_option_says(text, expected):
    assert Stretch.parse(text) == expected


@pytest.mark.parametrize("text", ["", "2", "98,2", "2,2", "-1,50", "2,101", "5:5", "9:1", "2:1e999", "2;98", "all"])
def test_what_it_cannot_say_is_refused_with_what_it_can(text):
    with pytest.raises(ConfigError, match=r"--stretch .*(2,98|0:3000|LOW,HIGH)"):
        Stretch.parse(text)


def test_limits_are_those_of_each_channel():
    values = np.stack([np.arange(10_000), 3 * np.arange(10_000) + 7], axis=-1).reshape(100, 100, 2).astype(np.uint16)
    np.testing.assert_allclose(Stretch.parse("10,90").limits(values), [[999.9, 8999.1], [3006.7, 27004.3]])
    assert Stretch.parse("minmax").limits(values).tolist() == [[0, 9999], [7, 30004]]
    assert Stretch.parse("5:6").limits(values).tolist() == [[5, 6], [5, 6]]


def test_pixels_without_a_value_do_not_count():
    values = np.full((4, 5, 1), 3.0)
    values[0] = np.nan
    values[1, 0] = np.inf
    valid = np.ones((4, 5), bool)
    values[2], valid[2] = -999, False
    for text in ("minmax", "2,98"):
        assert Stretch.parse(text).limits(values, valid).tolist() == [[3, 3]]
    with pytest.raises(DataFormatError, match="none of its pixels has a value"):
        Stretch.parse("2,98").limits(values, np.zeros((4, 5), bool))


def test_a_large_picture_is_sampled_over_all_of_it():
    """Its lower half is as far away as a reader of the first rows would never come."""
    values = np.zeros((5000, 2000, 1), np.uint16)
    values[2500:] = 1000
    assert Stretch.parse("2,98").limits(values).tolist() == [[0, 1000]]


def test_values_become_8_bits():
    values = np.array([[[0.0], [100], [150], [200], [999], [np.nan], [np.inf], [-np.inf]]])
    assert to_8_bits(values, np.array([[100.0, 200.0]]))[0, :, 0].tolist() == [0, 0, 128, 255, 255, 0, 255, 0]
    constant = np.full((2, 2, 1), 7, np.uint16)
    assert (to_8_bits(constant, np.array([[7.0, 7.0]])) == 0).all()


def test_all_rows_are_converted(monkeypatch):
    values = np.arange(7 * 3).reshape(7, 3, 1)
    whole = to_8_bits(values, np.array([[0.0, 20.0]]))
    monkeypatch.setattr("rrsis_zoo.data.imagery.stretch._BLOCK", 6)
    assert np.array_equal(to_8_bits(values, np.array([[0.0, 20.0]])), whole)
