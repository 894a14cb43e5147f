"""Marks lie where their numbers say."""

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from bench.charts import (
    Axis,
    Point,
    Series,
    Spread,
    bars,
    curves,
    dots,
    linear,
    logarithmic,
    scatter,
    start_note,
    zoomed,
)

A, B = Series("A & co", 0), Series("B", 1, plain=False)
NUMBER = r"-?[\d.]+"


def drawing(text):
    return ElementTree.fromstring(text)  # well-formed, escaped


def groups(svg, css):
    return [g for g in svg.iter("g") if css in g.get("class", "").split()]


def test_ticks_are_round_and_inside():
    assert Axis("", 0, 100).ticks() == [0, 20, 40, 60, 80, 100]
    assert Axis("", 0, 1).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert Axis("", 3, 47).ticks() == [10, 20, 30, 40]
    assert Axis("", 0.3, 30, log=True).ticks() == pytest.approx([0.5, 1, 2, 5, 10, 20])
    for low, high in ((0.4, 1.8), (900, 1500), (2e-4, 4e3)):
        axis = logarithmic("", [low, high])
        assert len(axis.ticks()) >= 2
        assert all(axis.low * 0.99 <= t <= axis.high * 1.01 for t in axis.ticks())
        assert 0 < axis.place(low) < axis.place(high) < 1
    assert Axis("", 1, 100, log=True).place(10) == pytest.approx(0.5)
    one = linear("", [5.0])
    assert one.low < 5 < one.high
    assert linear("", [0, 40], low=0).low == 0


def test_a_curve_goes_through_its_points():
    x, y = Axis("t", 0, 1), Axis("%", 0, 100)
    svg = drawing(curves("C", x, y, [(A, [(0.0, 100.0), (0.5, 50.0), (1.0, 0.0)]), (B, [(0.0, 0.0), (1.0, 100.0)])]))
    path = groups(svg, "s0")[0].find("path").get("d")
    (x0, y0), (x1, y1), (x2, y2) = [tuple(map(float, p)) for p in re.findall(rf"({NUMBER}) ({NUMBER})", path)]
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    assert (x0 < x2, y0 < y2) == (True, True)  # y grows downwards
    assert groups(svg, "aside")
    assert svg.get("aria-label").startswith("C. % over t of A & co, B")
    assert any(title.text == "A & co: 50 at 0.5" for title in svg.iter("title"))


def test_points_carry_names_that_do_not_overlap():
    series = [Series(f"method {i}", i) for i in range(6)]
    points = [Point(s, 1.0 + 0.01 * i, 50 + 0.1 * i, "said", (0.9, 1.2), (40, 60)) for i, s in enumerate(series)]
    svg = drawing(scatter("S", logarithmic("x", [1.0, 1.05]), linear("y", [0, 60], low=0), points))
    spots = []
    for text in svg.iter("text"):
        if text.text.startswith("method"):
            x, y, width = float(text.get("x")), float(text.get("y")), 6 * len(text.text)
            left = x if text.get("text-anchor") == "start" else x - width
            spots.append((left, y, left + width))
    assert len(spots) == 6
    assert all(left >= 44 and right <= 380 and 0 < y < 258 for left, y, right in spots)
    for one, other in combinations(spots, 2):
        assert abs(one[1] - other[1]) > 12 or one[2] <= other[0] or other[2] <= one[0]
    assert len(list(svg.iter("path"))) > 12


def test_an_axis_begins_where_the_points_are_and_says_so():
    axis = zoomed("mIoU, %", [55.0, 75.0])
    assert 50 < axis.low < 55 < 75 < axis.high < 80
    assert start_note(axis) == "The axis of mIoU begins at 53, not at 0."
    whole = zoomed("mIoU, %", [5.0, 75.0])
    assert (whole.low, start_note(whole)) == (0, "")
    assert zoomed("mIoU, %", [0.0, 0.0]).low == 0
    one = zoomed("mIoU, %", [60.0])
    assert one.low < 60 < one.high


def test_dots_lie_at_their_values():
    rows = [Spread(A, 70.0, (69.0, 71.0), (65.0, 75.0)), Spread(B, 60.0, (60.0,))]
    text = dots("D", Axis("mIoU, %", 50, 80), rows, " %")
    svg = drawing(text)
    first, second = groups(svg, "s0")[0], groups(svg, "s1")[0]
    across = 352 / 30  # pixels for a point of mIoU, from 14 on
    (mean,) = [c for c in first.iter("circle") if c.get("class") == "mark"]
    assert float(mean.get("cx")) == pytest.approx(14 + across * 20, abs=0.1)
    runs = [float(c.get("cx")) for c in first.iter("circle") if c.get("class") == "run"]
    assert runs == pytest.approx([14 + across * 19, 14 + across * 21], abs=0.1)
    (whisker,) = [p.get("d") for p in first.iter("path") if p.get("class") == "whisker"]
    ends = re.match(rf"M({NUMBER}) {NUMBER}H({NUMBER})", whisker)
    assert [float(end) for end in ends.groups()] == pytest.approx([14 + across * 15, 14 + across * 25], abs=0.1)
    assert not [p for p in second.iter() if p.get("class") in ("whisker", "run")]
    assert "A & co: 70.0 %, interval 65.0 to 75.0; runs 69.0, 71.0" in svg.get("aria-label")
    assert {t.text for t in svg.iter("text")} >= {"A & co", "70.0", "B", "60.0", "50", "mIoU, %"}


LONG = "a method with a text encoder of its own, everything trained, and a name that nobody can remember"


def test_long_names_stay_in_the_drawing():
    """Wrapped below each other, or cut between marks; whole in what is read aloud."""
    one = Series(LONG, 0)
    row = drawing(dots("D", Axis("", 0, 100), [Spread(one, 50.0, (50.0,))]))
    point = drawing(scatter("S", logarithmic("x", [1.0, 3.0]), Axis("y", 0, 60), [Point(one, 2.0, 50, "said")]))
    bar = drawing(bars("B", Axis("", 0, 50), [(LONG, [(A, 50.0), (B, 25.0)]), ("ship", [(A, 10.0)])]))
    for svg in (row, point, bar):
        assert LONG in svg.get("aria-label")
        assert any(LONG in title.text for title in svg.iter("title"))
        for text in svg.iter("text"):
            if text.get("x") is None or not text.text:
                continue
            x, width = float(text.get("x")), 6.2 * len(text.text)
            left = x - {"start": 0, "middle": width / 2, "end": width}[text.get("text-anchor", "start")]
            assert left >= -1, text.text
            assert left + width <= 381, text.text
    assert " ".join(t.text for t in row.iter("text") if t.get("class") == "name" and t.text != "50.0") == LONG
    assert next(t.text for t in point.iter("text") if t.get("class") == "name").endswith("…")
    rectangles = [(float(r.get("y")), float(r.get("height"))) for r in bar.iter("rect")]
    assert max(y + height for y, height in rectangles) < float(bar.get("viewBox").split()[3]) - 34
    assert " ".join(t.text for t in bar.iter("text") if t.get("text-anchor") == "end") == f"{LONG} ship"


def test_bars_are_as_long_as_their_values():
    svg = drawing(bars("B", Axis("mIoU", 0, 50), [("ship (3)", [(A, 50.0), (B, 25.0)]), ("<pier>", [(A, 0.0)])], " %"))
    widths = [float(rect.get("width")) for rect in svg.iter("rect")]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert widths[2] == 0
    tops = [float(rect.get("y")) for rect in svg.iter("rect")]
    assert tops == sorted(tops)
    assert any(title.text == "ship (3), B: 25.0 %" for title in svg.iter("title"))
    assert max(tops) < float(svg.get("viewBox").split()[3])
    assert "ship (3): A & co 50.0 %, B 25.0 %" in svg.get("aria-label")


def test_no_two_series_look_alike():
    shapes = {re.sub(r'class="s\d[^"]*"', "", Series("x", i).swatch()) for i in range(8)}
    assert len(shapes) == 8
    assert len({Series("x", i).swatch() for i in range(20)}) == 20
