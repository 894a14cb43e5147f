"""The page in a real browser: clicked, typed into, looked at. Screenshots lie in pytest's temporary folder."""

import io
import json
import re
import shutil
from urllib.parse import urlsplit

import numpy as np
import pytest
from asked import counted, noise
from PIL import Image
from pycocotools import mask as coco

from rrsis_zoo.demo.answers import Desk
from rrsis_zoo.demo.examples import examples
from rrsis_zoo.demo.server import Page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path: apt-get install chromium"),
]
FIRST, SECOND = "mini:rsrefseg", "mini:rsrefseg2"
WAIT_MS = 120_000  # a loaded machine


@pytest.fixture(scope="module")
def desk():
    return Desk([FIRST, SECOND])


@pytest.fixture(scope="module")
def encodings(desk):
    """How many pictures were encoded, by both models together."""
    return counted(desk, desk.names)


@pytest.fixture(scope="module")
def served(desk, encodings):
    with Page(desk, FIRST, None, 0) as page:
        yield page


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium, served):
    """Opens the page; afterwards nothing was asked from elsewhere and no script failed."""
    tabs, requests, faults = [], [], []

    def opened(width=1280, scheme="light"):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(WAIT_MS)
        tab = context.new_page()
        tabs.append(context)
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.goto(served.url)
        tab.locator("#examples button").first.wait_for()
        return tab

    yield opened
    for context in tabs:
        context.close()
    hosts = {urlsplit(url).hostname for url in requests if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {"127.0.0.1"}
    assert len(requests) > 10
    assert not faults


def idle(tab):
    """Wait until nothing is being worked on."""
    tab.wait_for_function("!document.querySelector('.generating, .progress-text, .eta-bar')")


def answer(tab, cards):
    tab.wait_for_function(f"document.querySelectorAll('#answers .answer').length === {cards}")
    idle(tab)


def choose(tab, element, option):
    tab.locator(f"#{element} input").click()
    tab.get_by_role("option", name=option, exact=True).click()


def downloaded(tab, link, folder):
    with tab.expect_download() as waiting:
        link.click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def sources(tab):
    return [image.get_attribute("src") for image in tab.locator("#answers img").all()]


def test_an_example_is_answered_and_redrawn(tab, desk, encodings, tmp_path):
    """One click; the sliders redraw without the model; downloads are what is shown."""
    one, page = examples()[0], tab()
    page.get_by_text("No picture yet").wait_for()
    page.locator("#examples button").first.click()
    answer(page, 3)
    assert page.locator("#sentences textarea").input_value() == "\n".join(one.texts)
    assert [h.inner_text()[1:].strip() for h in page.locator("#answers h3").all()] == [f"“{t}”" for t in one.texts]
    expected = desk.ask(FIRST, one.shown, one.texts)
    scores = [dd.inner_text() for dd in page.locator("#answers dd").all()]
    assert scores[0::3] == [f"{score:.2f}" for score in expected.scores]
    threshold = desk.ready(FIRST).model.calibration.threshold
    below = [f" (below {threshold:.2f})" if p < threshold else "" for p in expected.presence]
    assert scores[1::3] == [f"{p:.2f}{more}" for p, more in zip(expected.presence, below, strict=True)]
    count, before = len(encodings), sources(page)

    for element, untouched in (("opacity", [1, 3, 5]), ("threshold", [1, 3, 5])):
        slider = page.locator(f"#{element} input[type=range]")
        slider.focus()
        for _ in range(6):
            page.keyboard.press("ArrowRight")
        page.wait_for_function("src => document.querySelector('#answers img').src !== src", arg=before[0])
        idle(page)
        page.wait_for_timeout(1000)  # the last of several redraws
        after = sources(page)
        assert [n for n in range(6) if after[n] == before[n]] == untouched  # the heat maps
        before = after
    assert len(encodings) == count

    mask = downloaded(page, page.locator("#answers a", has_text="mask (PNG)").nth(1), tmp_path)
    assert mask.name == "coast-rsrefseg-2.mask.png"
    assert np.array_equal(np.asarray(Image.open(mask)), 255 * (expected.probabilities[1] > 0.8).astype(np.uint8))
    record = json.loads(downloaded(page, page.locator("#answers a", has_text="JSON"), tmp_path).read_text())
    assert (record["input"], record["source"], record["threshold"]) == ("coast.png", FIRST, 0.8)
    assert np.array_equal(coco.decode(record["answers"][1]["segmentation"]), expected.probabilities[1] > 0.8)


def test_an_own_picture_two_methods_a_further_sentence(tab, desk, encodings, tmp_path):
    picture = tmp_path / "my ship.png"
    Image.fromarray(examples()[2].shown.pixels[::-1].copy()).save(picture)
    page, before = tab(), len(encodings)
    page.locator("#upload input[type=file]").set_input_files(picture)
    page.get_by_text("my ship.png, 512 x 512 pixels").wait_for()
    page.locator("#sentences textarea").fill("the yellow ship\n\n<b>{{the}} ${windmill}</b>")
    choose(page, "other", SECOND)
    page.locator("#ask").click()
    answer(page, 2)
    assert page.locator("#answers h3").nth(1).inner_text().endswith("“<b>{{the}} ${windmill}</b>”")
    assert [h.inner_text() for h in page.locator("#answers h4").all()] == [FIRST, SECOND] * 2
    assert encodings[before:] == [FIRST, SECOND]
    # a further sentence, by keyboard
    page.locator("#sentences textarea").fill("the yellow ship\nthe windmill\na ship")
    page.keyboard.press("Shift+Enter")
    answer(page, 3)
    assert len(encodings) == before + 2
    left, right = (page.locator("#answers .method").nth(n).bounding_box() for n in (0, 1))
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]


def test_what_goes_wrong_is_said(tab, tmp_path):
    page = tab()

    def problem(element):
        page.locator(f"#{element} [role=alert]").wait_for()
        return page.locator(f"#{element} [role=alert]").inner_text()

    page.locator("#ask").click()
    assert problem("answers") == "There is no picture: upload one, or choose an example."
    for name, content, said in (
        ("letter.txt", b"Dear Sir or Madam", "cannot be read as an image"),
        ("half.png", _png(noise())[:3000], "cut short or damaged"),
        ("large.png", _png(np.zeros((4104, 4104), np.bool_)), "has 4,104 x 4,104 pixels"),
    ):
        page.locator("#upload input[type=file]").set_input_files({"name": name, "mimeType": "", "buffer": content})
        page.locator("#given [role=alert]", has_text=said).wait_for()
        assert problem("given").lower().startswith(f"{name}: ")
        page.locator("#upload button[aria-label='Clear']").click()
        page.get_by_text("No picture yet").wait_for()
    values = np.linspace(0, 40000, 64 * 64).reshape(64, 64).astype(np.uint16)
    page.locator("#upload input[type=file]").set_input_files(
        {"name": "deep.tif", "mimeType": "image/tiff", "buffer": _png(values, "TIFF")}
    )
    page.get_by_text("values 799.1-39199.9 are shown as 0-255").wait_for()
    page.locator("#ask").click()
    assert problem("answers").startswith("There is no sentence: write one, for instance")
    assert not page.get_by_text(re.compile("Traceback|Error")).count()


def test_by_keyboard_alone(tab):
    """Everything that a mouse reaches, in the order of the page."""
    page = tab()
    page.get_by_role("button", name=re.compile("Click to Upload|Drop File", re.IGNORECASE)).focus()
    names = []
    for _ in range(14):
        names.append(page.evaluate("(e => e.closest('[id]:not([id^=component])')?.id)(document.activeElement)"))
        page.keyboard.press("Tab")
    order = list(dict.fromkeys(names))
    wanted = ["upload", "examples", "sentences", "method", "other", "ask", "threshold", "opacity"]
    assert [name for name in order if name in wanted] == wanted
    page.locator("#examples button").nth(1).focus()
    page.keyboard.press("Enter")
    answer(page, 3)
    assert page.locator("#given figcaption").inner_text().startswith("airport.png")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable(tab, tmp_path, width, scheme):
    """No line is wider than the window; every text stands out from what is behind it."""
    page = tab(width, scheme)
    choose(page, "other", SECOND)
    page.locator("#examples button").nth(3).click()
    answer(page, 3)
    page.screenshot(path=tmp_path / f"demo-{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    columns = {page.locator("#answers .method").nth(n).bounding_box()["x"] for n in (0, 1)}
    assert len(columns) == (2 if width == 1280 else 1)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ""
    pale = page.evaluate(_PALE)
    assert not pale
    for image in page.locator("#answers img").all():
        assert image.get_attribute("alt")
        assert image.evaluate("image => image.complete && image.naturalWidth > 0")


def _png(values, kind="PNG"):
    out = io.BytesIO()
    Image.fromarray(values).save(out, kind)
    return out.getvalue()


# Texts with less contrast than 4.5 : 1 (WCAG 2, level AA), computed as the browser paints them.
_PALE = """() => {
    const probe = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgba = css => {
        probe.clearRect(0, 0, 1, 1); probe.fillStyle = css; probe.fillRect(0, 0, 1, 1);
        return [...probe.getImageData(0, 0, 1, 1).data];
    };
    const light = c => {
        const [r, g, b] = c.map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => {
        for (let e = element; e; e = e.parentElement) {
            const c = rgba(getComputedStyle(e).backgroundColor);
            if (c[3] === 255) return c;
        }
        return rgba(getComputedStyle(document.documentElement).backgroundColor);
    };
    const pale = [];
    for (const e of document.querySelectorAll('h1, h3, h4, p, span, label, dt, dd, a, li, figcaption, button')) {
        const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
        if (!own || !e.offsetWidth || !e.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
        const [a, b] = [light(rgba(getComputedStyle(e).color).slice(0, 3)), light(behind(e).slice(0, 3))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) pale.push([e.tagName, e.className, e.textContent.trim().slice(0, 40), contrast]);
    }
    return pale;
}"""
