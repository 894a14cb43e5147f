"""Draw examples/coast.tif, a georeferenced scene to try `rrsis segment` on, and what the command makes of it.

Six synthetic scenes side by side, half a metre a pixel, in UTM zone 33 north. Needs the extra ``scenes``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from rrsis_zoo.cli import run
from rrsis_zoo.data.synthetic import make_sample

HERE = Path(__file__).parent
SCENE = HERE / "coast.tif"
SHOWN = HERE.parent / "docs" / "start" / "coast-segmented.png"
SENTENCES = ("the ship", "the windmill", "the dam")


def pixels() -> np.ndarray:
    """Return the scenes side by side, uint8 RGB (512, 768, 3), of a split that no model has been trained on."""
    tiles = [make_sample("test", 64 + n, size=256, expressions=4).scene.image for n in range(6)]
    return np.concatenate([np.concatenate(tiles[row : row + 3], axis=1) for row in (0, 3)])


def write_scene(path: Path) -> None:
    """Write the scene as a GeoTIFF."""
    image = pixels()
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=image.shape[0],
        width=image.shape[1],
        count=3,
        dtype="uint8",
        crs="EPSG:32633",
        transform=from_origin(500000, 5000000, 0.5, 0.5),
        compress="JPEG",
        jpeg_quality=90,
        photometric="YCBCR",
        tiled=True,
        blockxsize=256,
        blockysize=256,
    ) as file:
        file.write(image.transpose(2, 0, 1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini:rsrefseg", help="as of rrsis segment")
    options = parser.parse_args()
    write_scene(SCENE)
    print(f"wrote {SCENE}")
    texts = [word for sentence in SENTENCES for word in ("--text", sentence)]
    more = ["--find", "all", "--gsd", "1", "--min-area", "20", "--overwrite"]
    run(["segment", str(SCENE), *texts, *more, "--model", options.model, "--out", str(SHOWN)])
    with Image.open(SHOWN) as drawn:
        small = drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(SHOWN, optimize=True)  # a third of the bytes
