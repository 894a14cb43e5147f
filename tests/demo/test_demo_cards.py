"""Answers as HTML: what it says is what was found, and a sentence stays a sentence."""

import base64
import io
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from asked import TEXTS, noise, shown
from PIL import Image

from rrsis_zoo.demo.cards import Column, answers_html, error_html, notes_html, picture_html
from rrsis_zoo.models.marks import Marks
from rrsis_zoo.outputs.drawing import COLOURS, drawing_size, marked
from rrsis_zoo.outputs.found import Findings, Source, found
from rrsis_zoo.outputs.record import record

SIZE = (70, 90)


class Elements(HTMLParser):
    """All tags with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.all = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))

    def of(self, wanted):
        return [attributes for tag, attributes in self.all if tag == wanted]


def column(texts=TEXTS, given="mini:one", presence=None, needed=None, empty=False):
    p = np.full((len(texts), *SIZE), 0.1, np.float32)
    if not empty:
        for n in range(len(texts)):
            p[n, 10 : 20 + n, 10:30] = 0.8
    results = [found(text, one > 0.5, one, presence) for text, one in zip(texts, p, strict=True)]
    findings = Findings("a.png", *SIZE, tuple(results), 0.5, Source("control", given, "0" * 64))
    return Column(findings, p[:, ::10, ::10], ("a remark",), needed)


def content(link):
    return base64.b64decode(link["href"].partition("base64,")[2])


def test_downloads_are_the_masks_and_the_record():
    one = column()
    masks = [link for link in Elements(answers_html(shown(), [one], 0.4)).of("a") if "png" in link["href"][:20]]
    assert [link["download"] for link in masks] == ["a-control-1.mask.png", "a-control-2.mask.png"]
    for link, each in zip(masks, one.findings.found, strict=True):
        grey = Image.open(io.BytesIO(content(link)))
        assert grey.mode == "L"
        assert np.array_equal(np.asarray(grey), 255 * each.mask.decode().astype(np.uint8))
    (link,) = [link for link in Elements(answers_html(shown(), [one], 0.4)).of("a") if "json" in link["href"][:30]]
    assert link["download"] == "a-control.json"
    assert json.loads(content(link)) == record(one.findings)


def pictures(opacity, n=1):
    images = Elements(answers_html(shown(), [column()], opacity)).of("img")
    return images, np.asarray(Image.open(io.BytesIO(base64.b64decode(images[2 * n]["src"].partition("base64,")[2]))))


def test_the_mask_is_drawn_with_its_opacity():
    size = drawing_size(*SIZE, 768, 384)
    for opacity in (0.0, 0.4, 1.0):
        images, drawn = pictures(opacity)
        assert [image["alt"] for image in images[2:]] == [f"mask of “{TEXTS[1]}”", f"heat map of “{TEXTS[1]}”"]
        mask = column().findings.found[1].mask.decode()
        expected = marked(noise(), [mask], size, first=1, opacity=opacity)
        assert drawn.shape == expected.shape
        assert np.abs(drawn.astype(int) - expected).mean() < 25  # lossy, and noise is the worst case
    inside = np.repeat(np.repeat(mask, 5, 0), 5, 1)
    inside[: 15 * 5] = False  # of it the middle, without the outline
    inside[18 * 5 :] = False
    assert np.abs(drawn[inside].astype(int) - COLOURS[1]).mean() < 20


def test_prompts_are_drawn_into_the_heat_map():
    """Of the sentence that they are of, at their place, and said so."""
    boxes = [np.array([[10.0, 10, 30, 20]]), np.zeros((0, 4))]
    marks = tuple(Marks(box, np.zeros((0, 2)), np.zeros(0, bool)) for box in boxes)
    with_, without = (
        Elements(answers_html(shown(), [replace(column(), marks=given)], 0.4)).of("img") for given in (marks, None)
    )
    assert [image["alt"].partition(" of ")[0] for image in with_[1::2]] == ["heat map and prompts"] * 2
    assert [image["alt"].partition(" of ")[0] for image in without[1::2]] == ["heat map"] * 2
    first, before = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(images[1]["src"].partition("base64,")[2])))).astype(int)
        for images in (with_, without)
    )
    scale = first.shape[1] / SIZE[1]
    rows, columns = np.nonzero(np.abs(first - before).sum(-1) > 200)
    found = np.array([columns.min(), rows.min(), columns.max(), rows.max()]) / scale
    assert np.abs(found - [10, 10, 30, 20]).max() < 1.5
    assert with_[3]["src"] == without[3]["src"]  # nothing was written about the second


def test_numbers():
    def facts(text):
        return re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text)

    assert facts(answers_html(shown(), [column(TEXTS[:1])], 0.4)) == [
        ("score", "0.80"), ("presence", "–"), ("mask", "3.2 % of the picture")
    ]  # fmt: skip
    for needed, said in ((None, "0.07"), (0.05, "0.07"), (0.8, "0.07 (below 0.80)")):
        assert ("presence", said) in facts(answers_html(shown(), [column(presence=0.07, needed=needed)], 0.4))
    assert facts(answers_html(shown(), [column(TEXTS[:1], empty=True)], 0.4)) == [
        ("score", "–"), ("presence", "–"), ("mask", "nothing found")
    ]  # fmt: skip


def test_two_methods_are_told_apart():
    text = answers_html(shown(), [column(), column(given="mini:two")], 0.4)
    assert re.findall(r"<h4>(.*?)</h4>", text) == ["mini:one", "mini:two"] * 2
    assert text.count("<section") == 2
    assert text.count("a remark") == 1  # said once, whoever says it
    assert "<h4>" not in answers_html(shown(), [column()], 0.4)


@pytest.mark.parametrize(
    "text", ["<script>x</script>", "{{constructor}}", "${alert(1)}", "a\ud800b", '" onload="x', "\x00"]
)
def test_a_sentence_stays_a_sentence(text):
    """Neither HTML nor the templates of the component that shows it."""
    shape = Elements(answers_html(shown(), [column()], 0.4))
    parts = (answers_html(shown(), [column([text, text], given=text)], 0.4), picture_html(shown(name=text)))
    assert [tag for tag, _ in Elements(parts[0]).all] == [tag for tag, _ in shape.all]
    for part in (*parts, error_html(text), notes_html([text])):
        visible = re.sub(r'(src|href)="[^"]*"', "", part)
        assert not re.search(r"[{}$]", visible.replace("&#36;", ""))
        assert part.encode("utf-8")
        assert not text.isprintable() or text in unescape(visible)


def test_an_error_is_read_out():
    assert error_html("a.png: cannot be read") == '<p class="problem" role="alert">A.png: cannot be read.</p>'
    assert notes_html([]) == ""
