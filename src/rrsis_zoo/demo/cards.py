"""Answers as HTML: pictures, numbers and downloads inside the page itself, so that nothing is fetched. No gradio."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.demo.pictures import Shown
from rrsis_zoo.figures import heat_overlay
from rrsis_zoo.models.marks import Marks
from rrsis_zoo.outputs.drawing import COLOURS, drawing_size, marked, share_text
from rrsis_zoo.outputs.found import Findings, Found
from rrsis_zoo.outputs.marks import PLAIN, with_marks
from rrsis_zoo.outputs.record import record
from rrsis_zoo.outputs.shapes import resized

LARGEST, SMALLEST = 768, 384
"""Longest side of a picture on the page in pixels: at most, and at least."""

_LEGEND = (
    "Score: the mean probability inside the mask. Presence: the probability that the referent is in the picture at "
    "all, with the threshold of the model's calibration where it is not reached; a dash without a calibration. Heat "
    "map: where the model expects the referent, bright is likely; it does not depend on the sliders. Prompts: boxes "
    "and points that some models write for their segmenter."
)


@dataclass(frozen=True)
class Column:
    """One method's answers.

    Attributes:
        findings: of all sentences.
        heatmaps: float (N, g, g) in [0, 1].
        notes: remarks on them.
        needed: presence below which the model's calibration calls a referent absent; None without one.
        marks: of all sentences, boxes and points that the model wrote; None if it writes none.
    """

    findings: Findings
    heatmaps: NDArray[np.float32]
    notes: tuple[str, ...] = ()
    needed: float | None = None
    marks: tuple[Marks, ...] | None = None


def answers_html(picture: Shown, columns: Sequence[Column], opacity: float) -> str:
    """Return a card for each sentence, with the methods side by side.

    Args:
        picture: what was asked about.
        columns: of one method or several, all with the same sentences.
        opacity: of the masks, 0 to 1.
    """
    height, width = picture.pixels.shape[:2]
    small = resized(picture.pixels, drawing_size(height, width, LARGEST, SMALLEST))
    cards = []
    for n, one in enumerate(columns[0].findings.found):
        blocks = "".join(_block(picture, small, column, n, opacity, len(columns) > 1) for column in columns)
        red, green, blue = COLOURS[n % len(COLOURS)]
        cards.append(
            f'<section class="answer"><h3><span class="tag" style="background:rgb({red},{green},{blue})">{n + 1}</span>'
            f'“{said(one.text)}”</h3><div class="methods">{blocks}</div></section>'
        )
    notes = notes_html([note for column in columns for note in column.notes])
    links = " ".join(_record_link(picture, column) for column in columns)
    kind = "cards side-by-side" if len(columns) > 1 else "cards"
    return (
        f'{notes}<div class="{kind}">{"".join(cards)}</div><p class="downloads">{links}</p>'
        f'<p class="legend">{_LEGEND}</p>'
    )


def picture_html(picture: Shown) -> str:
    """Return a picture with its name, size and remarks."""
    height, width = picture.pixels.shape[:2]
    small = resized(picture.pixels, drawing_size(height, width, LARGEST, 1))
    return (
        f'<figure class="given"><img alt="the picture {said(picture.name)}" src="{_webp(small)}"><figcaption>'
        f"{said(picture.name)}, {width:,} x {height:,} pixels</figcaption></figure>{notes_html(picture.notes)}"
    )


def notes_html(notes: Sequence[str]) -> str:
    """Return remarks as a list; empty if there are none."""
    items = "".join(f"<li>{said(note)}</li>" for note in dict.fromkeys(notes))
    return f'<ul class="notes">{items}</ul>' if items else ""


def error_html(message: str) -> str:
    """Return an error as a sentence, which a screen reader reads out."""
    first, rest = message[:1].upper(), message[1:]
    return f'<p class="problem" role="alert">{said(first + rest)}{"" if message.endswith(".") else "."}</p>'


def said(text: str) -> str:
    """Return a text for HTML; braces and dollars mean something to the component that shows it."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return html.escape(shown).replace("{", "&#123;").replace("}", "&#125;").replace("$", "&#36;")


def _block(picture: Shown, small: NDArray[np.uint8], column: Column, n: int, opacity: float, several: bool) -> str:
    one = column.findings.found[n]
    mask = one.mask.decode()
    over = marked(picture.pixels, [mask], small.shape[:2], first=n, opacity=opacity)
    heat = heat_overlay(small, column.heatmaps[n])
    where = "heat map"
    if column.marks is not None:
        where = "heat map and prompts"
        heat = with_marks(heat, (column.findings.height, column.findings.width), [(column.marks[n], PLAIN)])
    figures = (("mask", over), (where, heat))
    shown = "".join(
        f'<figure><img alt="{what} of “{said(one.text)}”" src="{_webp(image)}"><figcaption>{what}</figcaption></figure>'
        for what, image in figures
    )
    given = said(column.findings.model.given)
    heading = f"<h4>{given}</h4>" if several else ""
    name = f"{Path(picture.name).stem}-{column.findings.model.method}-{n + 1}.mask.png"
    link = _link(name, "image/png", _png(mask), "mask (PNG)", f"of “{one.text}” by {column.findings.model.given}")
    numbers = _numbers(one, column.needed)
    return f'<div class="method">{heading}<div class="pair">{shown}</div><dl>{numbers}</dl>{link}</div>'


def _numbers(one: Found, needed: float | None) -> str:
    presence = "–" if one.presence is None else f"{one.presence:.2f}"
    if one.presence is not None and needed is not None and one.presence < needed:
        presence += f" (below {needed:.2f})"
    facts = [("score", "–" if one.score is None else f"{one.score:.2f}"), ("presence", presence)]
    facts.append(("mask", "nothing found" if one.score is None else f"{share_text(one.share)} of the picture"))
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)


def _record_link(picture: Shown, column: Column) -> str:
    content = json.dumps(record(column.findings), ensure_ascii=False).encode("utf-8", "backslashreplace")
    name = f"{Path(picture.name).stem}-{column.findings.model.method}.json"
    text = f"all answers of {column.findings.model.given} (JSON)"
    return _link(name, "application/json", content, text, "as rrsis segment --presence off --json prints it")


def _link(name: str, kind: str, content: bytes, text: str, title: str) -> str:
    where = f'download="{said(name)}" title="{said(title)}" href="{_data(kind, content)}"'
    return f'<a class="download" {where}>{said(text)}</a>'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _webp(pixels: NDArray[np.uint8]) -> str:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", quality=88, method=2)
    return _data("image/webp", out.getvalue())


def _png(mask: NDArray[np.bool_]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(mask).convert("L").save(out, "PNG")  # grey, 0 and 255
    return out.getvalue()
