"""Durations in words."""

import pytest

from rrsis_zoo.durations import duration


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (0.001, "1 s"),
        (0.7, "42 s"),
        (1.94, "1.9 min"),
        (14.2, "14 min"),
        (119.4, "119 min"),
        (130, "2 h 10 min"),
        (1501, "25 h 1 min"),
    ],
)
def test_durations(minutes, text):
    assert duration(60 * minutes) == text
