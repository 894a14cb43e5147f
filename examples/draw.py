"""Draw examples/harbour.png, a picture to try `rrsis segment` on, and what the command makes of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from rrsis_zoo.cli import run
from rrsis_zoo.data.synthetic import make_sample
from rrsis_zoo.data.synthetic.scenes import Scene

HERE = Path(__file__).parent
PICTURE = HERE / "harbour.png"
SHOWN = HERE.parent / "docs" / "start" / "harbour-segmented.png"
SENTENCES = ("the ship", "the helipad", "the windmill")


def scene() -> Scene:
    """Return the scene, of a split that no model has been trained on."""
    return make_sample("test", 64, size=256, expressions=4).scene


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini:rsrefseg2", help="as of rrsis segment")
    options = parser.parse_args()
    Image.fromarray(scene().image).save(PICTURE, optimize=True)
    print(f"wrote {PICTURE}")
    texts = [word for sentence in SENTENCES for word in ("--text", sentence)]
    run(["segment", str(PICTURE), *texts, "--model", options.model, "--out", str(SHOWN), "--overwrite"])
