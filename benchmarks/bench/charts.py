"""Charts of the report as inline SVG: curves, points, bars, dots with intervals.

Colours, widths and fonts come from the page's style sheet (classes ``s0`` … ``s7`` for series, ``grid``, ``axis``), so
that a chart follows the page into dark mode and weighs a few kilobytes. Coordinates are pixels of a drawing that is
380 wide, the width of a telephone, so that its letters stay readable there. Every mark has a title, which browsers show
under the pointer and readers read aloud.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 380
COLOURS = 8


@dataclass(frozen=True)
class Series:
    """Appearance of one method in all charts.

    Attributes:
        title: in the legend.
        colour: number of its colour.
        plain: drawn without a pattern, unlike baselines and ablations.
    """

    title: str
    colour: int
    plain: bool = True

    @property
    def css(self) -> str:
        """Classes of its marks."""
        return f"s{self.colour % COLOURS}" + ("" if self.plain else " aside")

    def swatch(self) -> str:
        """Return its symbol for the legend."""
        shape = _marker(self.colour, 14, 8)
        return (
            '<svg class="swatch" width="28" height="16" viewBox="0 0 28 16" aria-hidden="true">'
            f'<g class="{self.css}"><path class="line" d="M0 8H28"/>{shape}</g></svg>'
        )


@dataclass(frozen=True)
class Axis:
    """One direction of a chart.

    Attributes:
        label: name and unit.
        low, high: its ends.
        log: whether it is logarithmic.
    """

    label: str
    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return the position of a value, 0 at the low end and 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return round values in it: four to eight on a linear axis, of 1, 2 and 5 on a logarithmic one."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            digits = (1, 2, 5) if self.high / self.low < 200 else (1,)
            values = [digit * 10.0**power for power in powers for digit in digits]
            return [v for v in values if self.low * 0.999 <= v <= self.high * 1.001]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def linear(label: str, values: Sequence[float], low: float | None = None, high: float | None = None) -> Axis:
    """Return an axis with room for all values; the ends may be given."""
    least, most = min(values), max(values)
    margin = 0.08 * (most - least) or max(1.0, 0.1 * abs(most))
    return Axis(label, least - margin if low is None else low, most + margin if high is None else high)


def zoomed(label: str, values: Sequence[float]) -> Axis:
    """Return an axis for positions, not lengths: it begins at 0 only if that is not far below all values.

    Args:
        label: name and unit.
        values: that it has room for, none below 0.
    """
    axis = linear(label, values)
    return linear(label, values, low=0) if axis.low <= 0 or min(values) < 0.4 * max(values) else axis


def start_note(axis: Axis) -> str:
    """Return a sentence on where an axis begins; empty if it begins at 0."""
    name = axis.label.partition(",")[0]
    return "" if axis.low <= 0 else f"The axis of {name} begins at {_number(round(axis.low, 1))}, not at 0."


def logarithmic(label: str, values: Sequence[float]) -> Axis:
    """Return a logarithmic axis with room for all values, which are above 0, and with at least two ticks."""
    least, most = min(values) / 1.3, max(values) * 1.3
    if most / least < 10:
        middle = math.sqrt(most * least)
        least, most = min(least, middle / 3.2), max(most, middle * 3.2)
    return Axis(label, least, most, log=True)


@dataclass(frozen=True)
class Point:
    """A mark of a scatter chart.

    Attributes:
        series: that it belongs to.
        x, y: position.
        x_range, y_range: ends of its whiskers, or None.
        text: description of the two values for its title.
    """

    series: Series
    x: float
    y: float
    text: str
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Spread:
    """A row of a chart of dots.

    Attributes:
        series: that it belongs to.
        value: mean of the runs.
        runs: their values.
        interval: ends of its whisker, or None.
    """

    series: Series
    value: float
    runs: Sequence[float]
    interval: tuple[float, float] | None = None


def dots(title: str, x: Axis, rows: Sequence[Spread], unit: str = "") -> str:
    """Return a line for each row: its name, below it the interval, a small dot for each run, a mark for the mean."""
    side, top, bottom, line = 14, 4, 40, 14
    wide = WIDTH - 2 * side
    places = [textwrap.wrap(row.series.title, int((wide - 40) / _LETTER)) or [""] for row in rows]
    height = top + bottom + sum(line * len(lines) + 22 for lines in places)

    def at(value: float) -> float:
        return side + wide * min(1.0, max(0.0, x.place(value)))

    marks, b = [], float(top)
    for value in x.ticks():
        a = at(value)
        marks.append(f'<path class="grid" d="M{a:.1f} {top}V{height - bottom}"/>')
        marks.append(f'<text x="{a:.1f}" y="{height - bottom + 16}" text-anchor="middle">{_number(value)}</text>')
    marks.append(f'<path class="axis" d="M{side} {height - bottom}H{WIDTH - side}"/>')
    marks.append(f'<text x="{WIDTH / 2:.0f}" y="{height - 6}" text-anchor="middle">{escape(x.label)}</text>')
    said = []
    for row, lines in zip(rows, places, strict=True):
        text = f"{row.series.title}: {row.value:.1f}{unit}"
        if row.interval:
            text += f", interval {row.interval[0]:.1f} to {row.interval[1]:.1f}"
        if len(row.runs) > 1:
            text += f"; runs {', '.join(f'{value:.1f}' for value in row.runs)}"
        said.append(text)
        for part in lines:
            b += line
            marks.append(f'<text class="name" x="{side}" y="{b - 3:.1f}">{escape(part)}</text>')
        y = b + 9
        number = f'<text class="name" x="{WIDTH - side}" y="{b - 3:.1f}" text-anchor="end">{row.value:.1f}</text>'
        drawn = ""
        if row.interval:
            low, high = map(at, row.interval)
            drawn += f'<path class="whisker" d="M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {y - 4:.1f}v8'
            drawn += f'M{high:.1f} {y - 4:.1f}v8"/>'
        if len(row.runs) > 1:
            drawn += "".join(f'<circle class="run" cx="{at(v):.1f}" cy="{y:.1f}" r="2.6"/>' for v in row.runs)
        drawn += _marker(row.series.colour, at(row.value), y, 5)
        marks.append(f'<g class="{row.series.css}"><title>{escape(text)}</title>{drawn}</g>{number}')
        b += 22
    return _svg(title, f"{'; '.join(said)}.", height, "".join(marks))


def curves(
    title: str, x: Axis, y: Axis, lines: Sequence[tuple[Series, Sequence[tuple[float, float]]]], height: int = 300
) -> str:
    """Return a chart of lines."""
    box = _Box(x, y, height)
    marks = []
    for series, points in lines:
        path = "M" + "L".join(f"{box.x(a):.1f} {box.y(b):.1f}" for a, b in points)
        marks.append(
            f'<g class="{series.css}"><title>{escape(series.title)}</title><path class="line" d="{path}"/></g>'
        )
        for a, b in points[len(points) // 10 :: max(1, len(points) // 5)]:
            shape = _marker(series.colour, box.x(a), box.y(b))
            text = f"{series.title}: {_number(b)} at {_number(a)}"
            marks.append(f'<g class="{series.css}"><title>{escape(text)}</title>{shape}</g>')
    names = ", ".join(series.title for series, _ in lines)
    return _svg(title, f"{y.label} over {x.label} of {names}.", height, box.frame() + "".join(marks))


def scatter(title: str, x: Axis, y: Axis, points: Sequence[Point], height: int = 300) -> str:
    """Return a chart of named points."""
    box = _Box(x, y, height)
    marks = []
    for point in points:
        a, b = box.x(point.x), box.y(point.y)
        whiskers = ""
        if point.x_range:
            whiskers += (
                f'<path class="whisker" d="M{box.x(point.x_range[0]):.1f} {b:.1f}H{box.x(point.x_range[1]):.1f}"/>'
            )
        if point.y_range:
            whiskers += (
                f'<path class="whisker" d="M{a:.1f} {box.y(point.y_range[0]):.1f}V{box.y(point.y_range[1]):.1f}"/>'
            )
        marks.append(
            f'<g class="{point.series.css}"><title>{escape(f"{point.series.title}: {point.text}")}</title>'
            f"{whiskers}{_marker(point.series.colour, a, b, 6)}</g>"
        )
    for name, a, b, anchor, leader in _labels(points, box):
        marks.append(leader)
        marks.append(f'<text class="name" x="{a:.1f}" y="{b:.1f}" text-anchor="{anchor}">{escape(name)}</text>')
    described = "; ".join(f"{p.series.title}: {p.text}" for p in points)
    return _svg(title, f"{y.label} over {x.label}. {described}.", height, box.frame() + "".join(marks))


def bars(title: str, x: Axis, groups: Sequence[tuple[str, Sequence[tuple[Series, float]]]], unit: str = "") -> str:
    """Return horizontal bars, one group for each name, with axes above and below."""
    left = round(min(WIDTH / 2, 14 + _LETTER * max(len(name) for name, _ in groups)))
    thick, gap, top, bottom = 7, 9, 26, 34
    texts = [textwrap.wrap(name, int((left - 14) / _LETTER + 1e-9)) or [""] for name, _ in groups]
    deep = [max(thick * len(values), _LINE * len(lines)) for (_, values), lines in zip(groups, texts, strict=True)]
    height = top + bottom + sum(deep) + gap * len(groups)
    scale = WIDTH - left - 14
    marks = []
    for value in x.ticks():
        a = left + scale * x.place(value)
        marks.append(f'<path class="grid" d="M{a:.1f} {top}V{height - bottom}"/>')
        for b in (top - 7, height - bottom + 16):
            marks.append(f'<text x="{a:.1f}" y="{b}" text-anchor="middle">{_number(value)}</text>')
    marks.append(f'<text x="{left + scale / 2:.1f}" y="{height - 3}" text-anchor="middle">{escape(x.label)}</text>')
    b = float(top) + gap / 2
    for (name, values), lines, depth in zip(groups, texts, deep, strict=True):
        first = b + depth / 2 + 4 - _LINE * (len(lines) - 1) / 2
        for i, part in enumerate(lines):
            y = first + _LINE * i
            marks.append(f'<text x="{left - 8}" y="{y:.1f}" text-anchor="end">{escape(part)}</text>')
        after = b + depth + gap
        b += (depth - thick * len(values)) / 2
        for series, value in values:
            length = scale * min(1.0, max(0.0, x.place(value)))
            text = f"{name}, {series.title}: {value:.1f}{unit}"
            marks.append(
                f'<g class="{series.css}"><title>{escape(text)}</title>'
                f'<rect class="bar" x="{left}" y="{b:.1f}" width="{length:.1f}" height="{thick - 1}"/></g>'
            )
            b += thick
        b = after
    marks.append(f'<path class="axis" d="M{left} {top}V{height - bottom}"/>')
    text = "; ".join(
        f"{name}: " + ", ".join(f"{series.title} {value:.1f}{unit}" for series, value in values)
        for name, values in groups
    )
    return _svg(title, f"{text}.", height, "".join(marks))


class _Box:
    """The plot area, with the coordinates of values."""

    left, right, top, bottom = 44, 12, 10, 42

    def __init__(self, x: Axis, y: Axis, height: int) -> None:
        self.x_axis, self.y_axis, self.height = x, y, height

    def x(self, value: float) -> float:
        return self.left + self.x_axis.place(value) * (WIDTH - self.left - self.right)

    def y(self, value: float) -> float:
        return self.height - self.bottom - self.y_axis.place(value) * (self.height - self.top - self.bottom)

    def holds(self, rectangle: tuple[float, float, float, float]) -> bool:
        left, top, right, bottom = rectangle
        return left >= self.left and right <= WIDTH and top >= 0 and bottom <= self.height - self.bottom

    def frame(self) -> str:
        right, low = WIDTH - self.right, self.height - self.bottom
        parts = []
        for value in self.y_axis.ticks():
            b = self.y(value)
            parts.append(f'<path class="grid" d="M{self.left} {b:.1f}H{right}"/>')
            parts.append(f'<text x="{self.left - 6}" y="{b + 4:.1f}" text-anchor="end">{_number(value)}</text>')
        for value in self.x_axis.ticks():
            a = self.x(value)
            parts.append(f'<path class="grid" d="M{a:.1f} {self.top}V{low}"/>')
            parts.append(f'<text x="{a:.1f}" y="{low + 16}" text-anchor="middle">{_number(value)}</text>')
        parts.append(f'<path class="axis" d="M{self.left} {self.top}V{low}H{right}"/>')
        middle = (self.left + right) / 2
        parts.append(
            f'<text x="{middle:.0f}" y="{self.height - 6}" text-anchor="middle">{escape(self.x_axis.label)}</text>'
        )
        turned = f"translate(12 {(self.top + low) / 2:.0f}) rotate(-90)"
        parts.append(f'<text transform="{turned}" text-anchor="middle">{escape(self.y_axis.label)}</text>')
        return "".join(parts)


_LETTER, _LINE = 6.2, 13  # approximate width of a letter and height of a line
_STEP = 15  # between the lines on which a label may stand: one beside the mark touches none on the next
_LONGEST = 28  # letters of a label between marks; the mark's own title and the legend have the whole name


def _labels(points: Sequence[Point], box: _Box) -> list[tuple[str, float, float, str, str]]:
    """Return text, position and anchor of each point's label, without overlap with marks and labels if possible.

    The last value is a line from the mark, where the label had to go far from it, else empty.
    """
    marks = [(box.x(p.x), box.y(p.y)) for p in points]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in marks]  # not the whiskers: letters on them have an outline
    placed = []
    for point in sorted(points, key=lambda p: box.y(p.y)):
        x, y = box.x(point.x), box.y(point.y)
        name = _short(point.series.title, max(WIDTH - x - 10, x - 10 - box.left))
        width = _LETTER * len(name)
        spots = []
        for line in (0, -1, 1, -2, 2, -3, 3, -4, 4):
            top = y - _LINE / 2 + line * _STEP
            spots.append(((x + 10, top, x + 10 + width, top + _LINE), "start", line))
            spots.append(((x - 10 - width, top, x - 10, top + _LINE), "end", line))
        free = [spot for spot in spots if box.holds(spot[0]) and not any(_overlap(spot[0], other) for other in taken)]
        inside = [spot for spot in spots if box.holds(spot[0])]
        (left, top, right, bottom), anchor, line = (free or inside or spots)[0]
        taken.append((left, top, right, bottom))
        near, down = left if anchor == "start" else right, (top + bottom) / 2
        leader = f'<path class="grid" d="M{x:.1f} {y:.1f}L{near:.1f} {down:.1f}"/>' if abs(line) > 1 else ""
        placed.append((name, near, bottom - 3, anchor, leader))
    return placed


def _short(name: str, room: float) -> str:
    """Return a name cut to a width in pixels."""
    longest = min(_LONGEST, int(room / _LETTER))
    return name if len(name) <= longest else f"{name[: longest - 1].rstrip()}…"


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _marker(number: int, x: float, y: float, r: float = 4.5) -> str:
    """Return a separate shape for each series, so that nothing depends on colour alone."""
    shapes = (
        f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>',
        f'<path class="mark" d="M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z"/>',
        f'<path class="mark" d="M{x:.1f} {y - 1.2 * r:.1f}l{1.2 * r:.1f} {2.2 * r:.1f}h{-2.4 * r:.1f}z"/>',
        f'<path class="mark" d="M{x:.1f} {y - 1.3 * r:.1f}l{1.3 * r:.1f} {1.3 * r:.1f}l{-1.3 * r:.1f} {1.3 * r:.1f}'
        f'l{-1.3 * r:.1f} {-1.3 * r:.1f}z"/>',
        f'<path class="mark" d="M{x:.1f} {y + 1.2 * r:.1f}l{1.2 * r:.1f} {-2.2 * r:.1f}h{-2.4 * r:.1f}z"/>',
        f'<path class="cross" d="M{x - r:.1f} {y - r:.1f}l{2 * r} {2 * r}m{-2 * r} 0l{2 * r} {-2 * r}"/>',
        f'<path class="cross" d="M{x - r:.1f} {y:.1f}h{2 * r}M{x:.1f} {y - r:.1f}v{2 * r}"/>',
        f'<path class="mark" d="M{x - r:.1f} {y - r / 2:.1f}h{2 * r}v{r}h{-2 * r}z"/>',
    )
    return shapes[(number + number // COLOURS) % COLOURS]  # the ninth has the first one's colour and the second's shape


def _svg(title: str, described: str, height: float, inner: str) -> str:
    label = escape(f"{title}. {described}")
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}">{inner}</svg>'


def _number(value: float) -> str:
    """Return a tick's number: 0.05, 20, 1,500."""
    if value == 0:
        return "0"
    digits = max(0, 1 - math.floor(math.log10(abs(value)) + 1e-9)) if abs(value) < 10 else 0
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
