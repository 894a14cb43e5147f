"""From a language model's reply to instances: the lenient parser of the published evaluation, or a plain list of boxes.

A reply that cannot be read is a *failure*, which is not the answer "there is no target".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Repair = Literal["published", "tidy"]
POINTS = 2
"""Points of an instance that the published prompt asks for; another number makes the reply a failure."""

Box = tuple[float, float, float, float]
Point = tuple[float, float]


class Unreadable(Exception):
    """A reply that is no list of instances; the text says why."""


@dataclass(frozen=True)
class Instance:
    """A target as the reply describes it.

    Attributes:
        box: x0 y0 x1 y1, not ordered, not clipped; None if it has none.
        points: x y, inside the target.
    """

    box: Box | None
    points: tuple[Point, ...] = ()


def read_objects(text: str) -> list[dict[str, Any]]:
    """Return the objects that a reply lists, as they are; duplicates are left out.

    Raises:
        Unreadable: it does not list objects of the kind that the prompt asks for.
    """
    objects = _parsed(_answer(text))
    if not isinstance(objects, list):
        raise Unreadable("it is no list")
    for i, each in enumerate(objects):
        if not isinstance(each, dict):
            raise Unreadable(f"instance {i} is no object")
        _check(i, each)
    return _distinct(objects)


def instances_of(objects: Sequence[dict[str, Any]]) -> list[Instance]:
    """Return the instances of `read_objects`; texts become numbers.

    Raises:
        Unreadable: a coordinate is no finite number.
    """
    try:
        found = [
            Instance(_box(each["bbox_2d"]) if "bbox_2d" in each else None, _points(each.get("positive_points", [])))
            for each in objects
        ]
    except (TypeError, ValueError) as error:
        raise Unreadable(f"a coordinate is no number ({error})") from error
    if not all(math.isfinite(v) for one in found for v in (*(one.box or ()), *(v for p in one.points for v in p))):
        raise Unreadable("a coordinate is not finite")
    return found


def scaled(instances: Sequence[Instance], across: float, down: float) -> list[Instance]:
    """Multiply x by ``across`` and y by ``down``."""
    return [
        Instance(
            None if one.box is None else tuple(v * (across, down)[i % 2] for i, v in enumerate(one.box)),  # type: ignore[arg-type]
            tuple((x * across, y * down) for x, y in one.points),
        )
        for one in instances
    ]


def tidied(instances: Sequence[Instance], width: float, height: float) -> list[Instance]:
    """Order corners and clip everything to the image; a box without area goes, and an instance without anything."""

    def clip(v: float, limit: float) -> float:
        return min(max(v, 0.0), limit)

    tidy = []
    for one in instances:
        points = tuple((clip(x, width), clip(y, height)) for x, y in one.points)
        box = one.box
        if box is not None:
            x, y = (
                sorted((clip(box[0], width), clip(box[2], width))),
                sorted((clip(box[1], height), clip(box[3], height))),
            )
            box = (x[0], y[0], x[1], y[1]) if x[0] < x[1] and y[0] < y[1] else None
        if box is not None or points:
            tidy.append(replace(one, box=box, points=points))
    return tidy


def _answer(text: str) -> str:
    """Return the part that should be a list: between the answer's marks, from the first bracket to the last."""
    if "<answer>" in text and "</answer>" in text and (found := re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)):
        text = found[1].strip()
    if "[" in text and "]" in text:
        text = text[text.find("[") : text.rfind("]") + 1]
    return text


def _parsed(text: str) -> Any:
    """Parse JSON, if necessary after mending its commonest faults.

    Raises:
        Unreadable: it is not JSON even then.
    """
    for attempt in (text, mended(text)):
        try:
            return json.loads(attempt)
        except (ValueError, RecursionError):
            continue
    raise Unreadable("it is no JSON")


def mended(text: str) -> str:
    """Return JSON with double quotes for single ones, without commas before closing brackets, and with all closed."""
    if '"' not in text:
        text = text.replace("'", '"')
    text = re.sub(r",\s*([}\]])", r"\1", text)
    open_brackets: list[str] = []
    inside = escaped = False
    for letter in text:
        if inside:
            inside = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            inside = True
        elif letter in "[{":
            open_brackets.append("]" if letter == "[" else "}")
        elif letter in "]}" and open_brackets and open_brackets[-1] == letter:
            open_brackets.pop()
    return text + ('"' if inside else "") + "".join(reversed(open_brackets))


def _check(i: int, each: dict[str, Any]) -> None:
    if "bbox_2d" not in each and "positive_points" not in each:
        raise Unreadable(f"instance {i} has neither bbox_2d nor positive_points")
    if "bbox_2d" in each and not (isinstance(each["bbox_2d"], list) and len(each["bbox_2d"]) == 4):
        raise Unreadable(f"instance {i} has a bbox_2d that is no list of 4")
    if "positive_points" in each:
        try:
            given = each["positive_points"]
            fits = isinstance(given, list) and len(given) == POINTS and all(len(p) == 2 for p in given)
            fits = fits and len(_points(given)) == POINTS
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise Unreadable(f"instance {i} has positive_points that are no {POINTS} pairs of numbers")
    if "negative_points" in each:
        raise Unreadable(f"instance {i} has negative_points")


def _distinct(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out an object whose box overlaps that of a larger one that stays, by an IoU above a half."""
    boxes: dict[int, Box] = {}
    for i, each in enumerate(objects):
        try:
            boxes[i] = _box(each["bbox_2d"])
        except (KeyError, TypeError, ValueError):
            continue  # no box, or none that can be compared
    kept: list[int] = []
    for i in sorted(boxes, key=lambda i: -_area(boxes[i])):
        if all(_iou(boxes[i], boxes[j]) <= 0.5 for j in kept):
            kept.append(i)
    return [each for i, each in enumerate(objects) if i not in boxes or i in kept]


def _box(values: Sequence[Any]) -> Box:
    x0, y0, x1, y1 = (float(v) for v in values)
    return (x0, y0, x1, y1)


def _points(values: Sequence[Sequence[Any]]) -> tuple[Point, ...]:
    return tuple((float(x), float(y)) for x, y in values)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _iou(a: Box, b: Box) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, across) * max(0.0, down)
    either = _area(a) + _area(b) - both
    return both / either if either > 0 else 0.0
