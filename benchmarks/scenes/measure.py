"""Time and memory of `rrsis segment` for maps: a large scene by a model that costs nothing, and a miniature beside the
stock way (everything in memory, one window after another, one sentence after another).

Every number is of a process of its own; memory is the peak beyond what the process had with the model loaded::

    python benchmarks/scenes/measure.py                  # 20,000 x 20,000 pixels, and 2,048 x 2,048 with a miniature
    python benchmarks/scenes/measure.py --side 4000      # a smaller large scene
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import rasterio
import torch
import torch.nn.functional as F
from rasterio.features import shapes
from rasterio.transform import from_origin
from rasterio.windows import Window as Part

import rrsis_zoo
from rrsis_zoo.data.synthetic import make_sample
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.types import ImageState, Prompts, Restored, Tokens
from rrsis_zoo.outputs.found import Source
from rrsis_zoo.scenes.asking import Asker
from rrsis_zoo.scenes.finding import find_in_scene
from rrsis_zoo.scenes.kinds import SCENE_KINDS, write
from rrsis_zoo.scenes.settings import Settings
from rrsis_zoo.scenes.windows import Plan

TEXTS = ["the ship", "the large storage tank", "the red vehicle", "the airplane at the top"]
_ROWS = 1024


@dataclass(frozen=True)
class FreeConfig:
    """The side of its input."""

    side: int = 512


class Free(ReferringSegmenter):
    """A model that costs nothing: log-odds are the mean red of 16 x 16 pixels beyond 150."""

    card = SimpleNamespace(name="free")
    presets = {"tiny": FreeConfig()}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.config = FreeConfig()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self._tokenizer = SimpleNamespace(max_length=8, lengths=lambda texts: [1] * len(texts))

    @property
    def text_limits(self):
        return 8, 8

    @property
    def sides(self):
        return self.config.side, self.config.side

    def tokenize(self, expressions, text_mode):
        return Tokens(
            torch.zeros(len(expressions), 1, dtype=torch.int64), torch.ones(len(expressions), dtype=torch.int64)
        )

    def prepare(self, images):
        return {"red": F.avg_pool2d(torch.stack([image[:1] for image in images]).float(), 16, ceil_mode=True)}

    def encode(self, views, sizes):
        return ImageState(views, sizes, sizes)

    def localise(self, state, tokens, image_index):
        n = len(image_index)
        return Prompts(torch.zeros(n, 1, 1), None, torch.ones(n, 1, 1, 1))

    def segment(self, state, prompts, image_index):
        return (state.features["red"][image_index] - 150) / 16

    def restore(self, prediction):
        return list(self.restore_each(prediction))

    def restore_each(self, prediction):
        sizes = prediction.state.sizes.tolist()

        def one(n):
            height, width = sizes[int(prediction.image_index[n])]
            wide = prediction.mask_logits[n, 0].repeat_interleave(16, 0).repeat_interleave(16, 1)
            return wide[:height, :width]

        return Restored(one, len(prediction))

    def target(self, masks):
        raise NotImplementedError

    def loss_terms(self, prediction, target):
        raise NotImplementedError

    def parameter_groups(self):
        return {"all": [self.weight]}


def make_scene(path: Path, height: int, width: int) -> None:
    """Write synthetic scenes side by side as a tiled GeoTIFF, a strip at a time."""
    tiles = [make_sample("test", index=n).scene.image for n in range(16)]
    side = tiles[0].shape[0]
    rng = np.random.default_rng(0)
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=3, dtype="uint8", crs="EPSG:32633", tiled=True,
        transform=from_origin(500000, 5000000, 0.5, 0.5), blockxsize=512, blockysize=512, photometric="RGB",
        bigtiff="IF_SAFER",
    ) as file:  # fmt: skip
        for top in range(0, height, side):
            row = np.concatenate([tiles[n] for n in rng.integers(0, 16, -(-width // side))], axis=1)
            row = row[: height - top, :width]
            file.write(row.transpose(2, 0, 1), window=Part(0, top, width, len(row)))


# -- measured in a process of its own ----------------------------------------------------------------------------------


def peak() -> float:
    """Return the highest memory of this process in MiB."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def measured(model: ReferringSegmenter, work) -> dict[str, float]:
    """Return seconds and MiB of some work, beyond what the process had."""
    asked = [0.0]
    ask = Asker.ask

    def timed(self, windows):
        start = time.perf_counter()
        try:
            return ask(self, windows)
        finally:
            asked[0] += time.perf_counter() - start

    Asker.ask = timed
    Path("/proc/self/clear_refs").write_text("5")
    before, start, processor = peak(), time.perf_counter(), time.process_time()
    found = work(model)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return {
        "seconds": seconds,
        "processor": processor,
        "mib": peak() - before,
        "model_share": asked[0] / seconds,
        "polygons": found,
    }


def ours(path: Path, texts: list[str], out: Path):
    """Return the work of `rrsis segment --find all --presence off`."""

    def work(model):
        source = Source(model.name, model.name, "0" * 64)
        outcome = find_in_scene(model, source, path, texts, Settings(find="all", presence="off"))
        write(SCENE_KINDS["gpkg"], outcome, out)
        return sum(len(answer.regions) for answer in outcome.answers)

    return work


def stock(path: Path, texts: list[str], out: Path):
    """Return the usual way: the whole array, the whole map, window by window, sentence by sentence."""

    def work(model):
        import geopandas
        import shapely

        with rasterio.open(path) as file:
            pixels, transform, crs = file.read(), file.transform, file.crs
        plan = Plan.tiled(pixels.shape[1], pixels.shape[2], model.sides[0], 0.25)
        rows = []
        for text in texts:
            total = np.zeros(pixels.shape[1:], np.float32)
            count = np.zeros(pixels.shape[1:], np.float32)
            for n in range(len(plan)):
                window = plan[n]
                part = (slice(window.top, window.bottom), slice(window.left, window.right))
                crop = np.ascontiguousarray(pixels[:, *part].transpose(1, 2, 0))
                total[part] += rrsis_zoo.segment(model, crop, text).probabilities[0]
                count[part] += 1
            mask = total / count > 0.5
            for shape, _ in shapes(mask.astype(np.uint8), mask, transform=transform):
                rows.append((text, shapely.geometry.shape(shape)))
        table = geopandas.GeoDataFrame({"text": [text for text, _ in rows]}, geometry=[one for _, one in rows], crs=crs)
        table.to_file(out, driver="GPKG")
        return len(rows)

    return work


def child(kind: str, path: Path, count: int) -> None:
    """Measure one thing and print it."""
    torch.set_num_threads(1)
    name, way = kind.split("-")
    model = Free() if name == "free" else rrsis_zoo.load_model("mini:rsrefseg")
    texts = TEXTS[:count]
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.tif"
        make_scene(small, 300, 300)  # imports and first calls
        works = {"ours": ours, "stock": stock}
        works[way](small, texts, Path(folder) / "small.gpkg")(model)
        print(json.dumps(measured(model, works[way](path, texts, Path(folder) / "out.gpkg"))))


def run(kind: str, path: Path, count: int) -> dict[str, float]:
    """Measure one thing in a process of its own."""
    words = [sys.executable, __file__, "--child", kind, str(path), str(count)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result = json.loads(done.stdout.splitlines()[-1])
    times = f"{result['seconds']:.1f} s, {result['processor']:.1f} s of processor"
    print(f"  {kind}: {times}, {result['mib']:,.0f} MiB, {result['model_share']:.1%} in the model", flush=True)
    return result


def main() -> None:
    """Measure everything and print the sentences of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20000, help="of the large scene in pixels (20,000)")
    parser.add_argument("--mini-side", type=int, default=2048, help="of the miniature's scene in pixels (2,048)")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], Path(options.child[1]), int(options.child[2]))
        return
    side, mini = options.side, options.mini_side
    with tempfile.TemporaryDirectory() as folder:
        large, half, small = (Path(folder) / name for name in ("large.tif", "half.tif", "small.tif"))
        make_scene(large, side, side)
        make_scene(half, side // 2, side)
        make_scene(small, mini, mini)
        print(f"{side:,} x {side:,} and {side // 2:,} x {side:,} pixels, a model that costs nothing, one sentence")
        one, part = run("free-ours", large, 1), run("free-ours", half, 1)
        print(f"{mini:,} x {mini:,} pixels, mini:rsrefseg, four sentences")
        mine, other = run("mini-ours", small, 4), run("mini-stock", small, 4)
    half_px, mega = side * side / 2e6, mini * mini / 1e6
    whole_s, half_s = one["processor"], part["processor"]
    rows = [
        (f"{side:,} × {side:,} pixels, a model that costs nothing: peak beyond the model", f"{one['mib']:,.0f} MiB"),
        ("its time, processor time", f"{one['seconds']:.0f} s, {whole_s:.0f} s"),
        (f"the peak of {side // 2:,} × {side:,} pixels", f"{part['mib']:,.0f} MiB"),
        ("its time, processor time", f"{part['seconds']:.0f} s, {half_s:.0f} s"),
        (
            "processor time a megapixel, of the half and of the whole",
            f"{half_s / half_px * 1e3:.0f} ms, {whole_s / half_px / 2 * 1e3:.0f} ms",
        ),
        (
            f"{mini:,} × {mini:,} pixels, `mini:rsrefseg`, four sentences: speed",
            f"{mega / mine['seconds']:.3f} megapixels a second",
        ),
        ("share of the time that is the model", f"{mine['model_share']:.1%}"),
        ("the stock way: times the time", f"{other['seconds'] / mine['seconds']:.2f}"),
        ("peak beyond the model, and the stock way's", f"{mine['mib']:,.0f} MiB, {other['mib']:,.0f} MiB"),
    ]
    print("\n| | |\n|---|---:|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
