"""The visual language of the methods' diagrams: from boxes and arrows to an SVG, as text.

On the left image and sentence, above the band that localises, below the band that segments, between them the prompts,
on the right the mask. A box's colour says what training does with it. Everything has one font size, legible at the
width of a phone. Nothing here knows a method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pictures import coarse_map, picture
from rrsis_zoo.data.synthetic import make_sample

State = Literal["frozen", "adapted", "trained"]

WIDTH, FONT, LINE = 700, 17, 21
LEFT, RIGHT = 126, 692
"""Where the bands begin and end; left of them are the inputs."""
GAP, EDGE, TITLE, SEAM, ICON = 26, 12, 32, 84, 36
"""Between rows, at a band's edge towards the seam, at its other edge, between the bands; a prompt's picture."""
FAMILY = "Arial, Helvetica, 'Liberation Sans', sans-serif"

INK, PALE, LINE_COLOUR, PAPER, BAND = "#1b2530", "#5a6672", "#3c4854", "#ffffff", "#eef2f6"
PROMPT = "#123f6d"
TOKEN = "#ffe082"
FILLS: dict[State, str] = {"frozen": "#d3d9df", "adapted": "url(#adapted)", "trained": "#ffb24d"}
HATCH = ("#dde2e6", "#f8d8ab")
ONCE = 3.5
"""Width of the border of what runs once per image."""
MASK_LOW, MASK_HIGH = (40, 48, 58), (255, 176, 0)
MAP_LOW, MAP_HIGH = (33, 85, 136), (255, 224, 130)

SCENE, EXPRESSION, CELLS = 66, 0, 64
"""Scene of the synthetic test split, which of its expressions, and cells of the pictures along each side."""


@dataclass(frozen=True)
class Node:
    """Something with a place: arrows begin and end at its name.

    Attributes:
        name: for arrows.
        x: left and right edge.
        rows: row of its band, or the first and the last that it takes up.
    """

    name: str
    x: tuple[float, float]
    rows: int | tuple[int, int]


@dataclass(frozen=True)
class Box(Node):
    """A part of the model.

    Attributes:
        title: its name; lines are separated by line breaks, as in all that follows.
        says: what it does or returns.
        parts: prefixes of its parameters' names, separated by spaces, from which its colour is read.
        once: whether it runs once per image, for all sentences (``encode``).
    """

    title: str
    says: str
    parts: str
    once: bool = False


@dataclass(frozen=True)
class Frame(Node):
    """A dashed frame around boxes, with a title at its upper edge."""

    title: str


@dataclass(frozen=True)
class View(Node):
    """The image as a part of the model sees it: a square of ``side`` pixels."""

    side: int


@dataclass(frozen=True)
class Sentence(Node):
    """The expression."""


@dataclass(frozen=True)
class Mask(Node):
    """The result, ``side`` × ``side`` log-odds."""

    side: int


@dataclass(frozen=True)
class Band:
    """One of the two steps.

    Attributes:
        heights: of its rows.
        nodes: everything inside of it, and the inputs left of it.
    """

    heights: Sequence[int]
    nodes: Sequence[Node]


@dataclass(frozen=True)
class Prompt:
    """What ``localise`` hands to ``segment``.

    Attributes:
        name: for arrows.
        x: left and right edge.
        title: what it is.
        shape: of one expression's tensor; a letter for a length that varies.
        icon: how it is drawn: tokens, one a square; words; a map of ``cells`` cells along each side; feature maps.
        cells: of the map.
    """

    name: str
    x: tuple[float, float]
    title: str
    shape: tuple[int | str, ...]
    icon: Literal["tokens", "words", "map", "features"]
    cells: int = 0


@dataclass(frozen=True)
class Arrow:
    """From one place to another: straight where they face each other, otherwise sideways and then up or down.

    Attributes:
        source, target: names.
        label: written beside it.
        at: x of a vertical arrow or of the bend, distance of a horizontal one from its source's upper edge; without it
            the middle of what faces.
    """

    source: str
    target: str
    label: str = ""
    at: float | None = None


@dataclass(frozen=True)
class Diagram:
    """A method.

    Attributes:
        title: said to those who cannot see it.
        adapters: what trains inside of frozen parts, for the legend.
        localise, segment: the two bands.
        prompts: between the bands.
        arrows: between them all.
    """

    title: str
    adapters: str
    localise: Band
    prompts: Sequence[Prompt]
    segment: Band
    arrows: Sequence[Arrow]

    @property
    def nodes(self) -> list[Node]:
        """Those of both bands."""
        return [*self.localise.nodes, *self.segment.nodes]

    @property
    def boxes(self) -> list[Box]:
        """The parts of the model."""
        return [node for node in self.nodes if isinstance(node, Box)]


@dataclass(frozen=True)
class Rect:
    """A place on the paper."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def middle(self) -> tuple[float, float]:
        """Its centre."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2


@dataclass(frozen=True)
class Paper:
    """A diagram's geometry.

    Attributes:
        bands: places of the two bands.
        places: name -> the place of a node or prompt.
        height: of everything.
    """

    bands: tuple[Rect, Rect]
    places: dict[str, Rect]
    height: float


def layout(diagram: Diagram) -> Paper:
    """Return where everything stands."""
    places: dict[str, Rect] = {}
    localise = _stack(diagram.localise, 8, TITLE, EDGE, places)
    for prompt in diagram.prompts:
        places[prompt.name] = Rect(prompt.x[0], localise.y1 + 16, prompt.x[1], localise.y1 + SEAM - 16)
    segment = _stack(diagram.segment, localise.y1 + SEAM, EDGE, TITLE, places)
    return Paper((localise, segment), places, segment.y1 + 46)


def _stack(band: Band, top: float, above: float, below: float, places: dict[str, Rect]) -> Rect:
    """Add the places of a band's nodes and return its own."""
    tops = [top + above + sum(band.heights[:row]) + GAP * row for row in range(len(band.heights))]
    for node in band.nodes:
        first, last = (node.rows, node.rows) if isinstance(node.rows, int) else node.rows
        place = Rect(node.x[0], tops[first], node.x[1], tops[last] + band.heights[last])
        if isinstance(node, View | Mask):  # a square, as large as the lines below it allow
            below_it = LINE * (1 if isinstance(node, View) else 2)
            side = min(place.x1 - place.x0, place.y1 - place.y0 - below_it)
            x, y = place.middle[0] - side / 2, place.middle[1] - (side + below_it) / 2
            place = Rect(x, y, x + side, y + side)
        if isinstance(node, Frame):
            place = Rect(place.x0, place.y0, place.x1, place.y1 + 7)  # around its boxes
        places[node.name] = place
    return Rect(LEFT, top, RIGHT, tops[-1] + band.heights[-1] + below)


# -- SVG ---------------------------------------------------------------------------------------------------------------


def draw(diagram: Diagram, states: Mapping[str, State]) -> str:
    """Return a diagram as SVG.

    Args:
        diagram: the method.
        states: name of each box -> what training does with it.

    Raises:
        ValueError: an arrow from or to something that is not there.
    """
    paper, sample = layout(diagram), make_sample("test", SCENE)
    expression = sample.expressions[EXPRESSION]
    mask = sample.scene.objects[expression.referent].mask
    seam = paper.bands[0].y1 + SEAM / 2 - LINE / 2 + 5
    body = [
        f'<rect width="{WIDTH}" height="{paper.height:g}" rx="10" fill="{PAPER}"/>',
        _band(paper.bands[0], "where: localise", paper.bands[0].y0 + 22),
        _band(paper.bands[1], "what: segment", paper.bands[1].y1 - 11),
        _text(seam, ("the seam:", "prompts"), LEFT / 2, PROMPT, bold=2),
        *(_frame(node, paper.places[node.name]) for node in diagram.nodes if isinstance(node, Frame)),
        *(_arrow(arrow, paper.places) for arrow in diagram.arrows),
    ]
    for node in diagram.nodes:
        place = paper.places[node.name]
        if isinstance(node, Box):
            body.append(_box(node, place, states[node.name]))
        elif isinstance(node, View):
            body.append(_seen("scene", place, (f"{node.side} px",)))
        elif isinstance(node, Mask):
            body.append(_seen("mask", place, ("log-odds", f"{node.side} × {node.side}")))
        elif isinstance(node, Sentence):
            body.append(_centred(place, _fold(f"“{expression.text}”".split(), 10), INK))
    body += [_prompt(prompt, paper.places[prompt.name], mask) for prompt in diagram.prompts]
    body.append(_legend(diagram, states, paper.height - 40))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{paper.height:g}" '
        f'viewBox="0 0 {WIDTH} {paper.height:g}" role="img" font-family="{FAMILY}" font-size="{FONT}">\n'
        f"<title>{escape(diagram.title)}</title>\n"
        "<defs>\n"
        '<pattern id="adapted" width="10" height="10" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<rect width="10" height="10" fill="{HATCH[0]}"/><rect width="5" height="10" fill="{HATCH[1]}"/></pattern>\n'
        '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L10 5L0 10z" fill="{LINE_COLOUR}"/></marker>\n'
        f'<g id="scene" shape-rendering="crispEdges">{picture(sample.scene.image, CELLS)}</g>\n'
        f'<g id="mask" shape-rendering="crispEdges">{coarse_map(mask, CELLS, MASK_LOW, MASK_HIGH)}</g>\n'
        "</defs>"
    )
    return "\n".join([head, *body, "</svg>"]) + "\n"


def _rect(place: Rect, look: str) -> str:
    size = f'width="{place.x1 - place.x0:g}" height="{place.y1 - place.y0:g}"'
    return f'<rect x="{place.x0:g}" y="{place.y0:g}" {size} {look}/>'


def _band(place: Rect, title: str, y: float) -> str:
    shape = _rect(place, f'rx="8" fill="{BAND}"')
    return shape + _text(y, (title,), place.x0 + 14, PROMPT, bold=1, anchor="start")


def _box(box: Box, place: Rect, state: State) -> str:
    stroke = f'stroke="{INK}" stroke-width="{ONCE}"' if box.once else f'stroke="{PALE}"'
    title, says = box.title.split("\n"), box.says.split("\n") if box.says else []
    shape = _rect(place, f'rx="6" fill="{FILLS[state]}" {stroke}')
    return shape + _centred(place, [*title, *says], INK, bold=len(title))


def _frame(frame: Frame, place: Rect) -> str:
    title = _text(place.y0 + 20, (frame.title,), place.x0 + 10, INK, bold=1, anchor="start")
    return _rect(place, f'rx="6" fill="{PAPER}" stroke="{PALE}" stroke-dasharray="6 4"') + title


def _seen(name: str, place: Rect, says: Sequence[str]) -> str:
    """Return a picture with lines below it."""
    move = f"translate({place.x0:g} {place.y0:g}) scale({(place.x1 - place.x0) / CELLS:.5g})"
    shown = f'<use href="#{name}" transform="{move}"/>' + _rect(place, f'fill="none" stroke="{INK}"')
    return shown + _text(place.y1 + LINE - 3, says, place.middle[0], INK)


def _prompt(prompt: Prompt, place: Rect, mask: NDArray[np.bool_]) -> str:
    shape = " × ".join(map(str, prompt.shape))
    box = _rect(place, f'rx="14" fill="{PROMPT}"')
    side, x, y = ICON, place.x0 + 9, place.middle[1] - ICON / 2
    if prompt.icon == "tokens":
        icon = _tokens(int(prompt.shape[0]))
    elif prompt.icon == "words":
        icon = "".join(f'<rect y="{5 + 10 * i}" width="{w}" height="6"/>' for i, w in enumerate((36, 26, 32)))
    elif prompt.icon == "map":
        cells = coarse_map(mask, prompt.cells, MAP_LOW, MAP_HIGH)
        icon = f'<g shape-rendering="crispEdges" transform="scale({side / prompt.cells:.5g})">{cells}</g>'
    else:
        sheets = [Rect(6 * i, 12 - 6 * i, 6 * i + 23, 35 - 6 * i) for i in (2, 1, 0)]
        icon = "".join(_rect(sheet, f'fill="{PROMPT}" stroke="{TOKEN}" stroke-width="2"') for sheet in sheets)
    middle = (x + side + place.x1) / 2
    return f'{box}<g fill="{TOKEN}" transform="translate({x:g} {y:g})">{icon}</g>' + _text(
        place.middle[1] - 4, (prompt.title, shape), middle, PAPER, bold=1
    )


def _tokens(count: int) -> str:
    """Return that many squares in a larger one."""
    columns = next(n for n in range(1, count + 1) if n * n >= count)
    rows = -(-count // columns)
    step = ICON / max(columns, 1.5)
    size = step * 0.7
    left, top = ((ICON - step * n + step - size) / 2 for n in (columns, rows))
    places = [divmod(i, columns) for i in range(count)]
    d = "".join(f"M{left + step * c:.3g} {top + step * r:.3g}h{size:.3g}v{size:.3g}h-{size:.3g}z" for r, c in places)
    return f'<path d="{d}"/>'


def _arrow(arrow: Arrow, places: Mapping[str, Rect]) -> str:
    for name in (arrow.source, arrow.target):
        if name not in places:
            raise ValueError(f"an arrow leads from {arrow.source} to {arrow.target}, but there is no {name}")
    points, label = route(places[arrow.source], places[arrow.target], arrow.at)
    d = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
    line = f'<path d="{d}" fill="none" stroke="{LINE_COLOUR}" stroke-width="2" marker-end="url(#head)"/>'
    if not arrow.label:
        return line
    x, y, anchor = label
    return line + _text(y, (arrow.label,), x, INK, anchor=anchor)


def route(a: Rect, b: Rect, at: float | None) -> tuple[list[tuple[float, float]], tuple[float, float, str]]:
    """Return an arrow's points, and where its label stands: x, base line, anchor."""
    low, high = max(a.y0, b.y0), min(a.y1, b.y1)
    if low < high:  # side by side
        y = (low + high) / 2 if at is None else a.y0 + at
        start, end = (a.x1, b.x0) if a.x1 <= b.x0 else (a.x0, b.x1)
        return [(start, y), (end, y)], ((start + end) / 2 - 3, y - 6, "middle")
    left, right = max(a.x0, b.x0), min(a.x1, b.x1)
    down = a.y1 <= b.y0
    start, end = (a.y1, b.y0) if down else (a.y0, b.y1)
    if left < right:  # one above the other
        x = (left + right) / 2 if at is None else at
        return [(x, start), (x, end)], (x + 6, (start + end) / 2 + 4, "start")
    x, y = b.middle[0] if at is None else at, a.middle[1]
    edge = a.x1 if x > a.x1 else a.x0
    return [(edge, y), (x, y), (x, end)], ((edge + x) / 2, y - 6, "middle")


def _legend(diagram: Diagram, states: Mapping[str, State], y: float) -> str:
    names: dict[State, str] = {"frozen": "frozen", "adapted": f"frozen + {diagram.adapters}", "trained": "trained"}
    entries = [(f'fill="{FILLS[s]}" stroke="{PALE}"', name) for s, name in names.items() if s in states.values()]
    if any(box.once for box in diagram.boxes):
        entries.append((f'fill="{PAPER}" stroke="{INK}" stroke-width="{ONCE}"', "once per image"))
    x, parts = 14.0, []
    for look, name in entries:
        parts.append(_rect(Rect(x, y + 6, x + 30, y + 26), f'rx="4" {look}'))
        parts.append(_text(y + 22, (name,), x + 38, INK, anchor="start"))
        x += 50 + 9.7 * len(name)
    return "".join(parts)


def _centred(place: Rect, lines: Sequence[str], colour: str, bold: int = 0) -> str:
    x, y = place.middle
    return _text(y - LINE * (len(lines) - 1) / 2 + 6, lines, x, colour, bold)


def _text(y: float, lines: Sequence[str], x: float, colour: str, bold: int = 0, anchor: str = "middle") -> str:
    """Return lines from the base line y on, the first ones bold."""
    weight = ' font-weight="bold"'
    spans = "".join(
        f'<tspan x="{x:g}" y="{y + LINE * i:g}"{weight if i < bold else ""}>{escape(line)}</tspan>'
        for i, line in enumerate(lines)
    )
    return f'<text fill="{colour}" text-anchor="{anchor}">{spans}</text>'


def _fold(words: Sequence[str], width: int) -> list[str]:
    lines = [""]
    for word in words:
        joined = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], joined] if len(joined) <= width else [*lines, word]
    return lines
