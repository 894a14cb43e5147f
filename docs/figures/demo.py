"""The screenshot of `rrsis demo` in the documentation: `make figures`. It needs Chromium and the extra `dev`."""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from rrsis_zoo.demo.answers import Desk
from rrsis_zoo.demo.server import Page

OUT = Path(__file__).with_name("demo.webp")
MODELS = ("mini:rsrefseg", "mini:rsrefseg2")
EXAMPLE = 2
SIZE = (1280, 1180)


def main() -> None:
    """Write the picture."""
    with Page(Desk(MODELS), *MODELS, port=0) as page, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        tab.set_default_timeout(120_000)
        tab.goto(page.url)
        tab.locator("#examples button").nth(EXAMPLE).click()
        tab.locator("#answers .answer").nth(2).wait_for()
        tab.mouse.move(0, 0)
        tab.wait_for_timeout(1000)  # what fades in and out
        image = Image.open(io.BytesIO(tab.screenshot(full_page=False)))
        browser.close()
    image.convert("RGB").resize((960, round(960 * SIZE[1] / SIZE[0])), Image.Resampling.LANCZOS).save(
        OUT, "WEBP", quality=80, method=6
    )


if __name__ == "__main__":
    main()
