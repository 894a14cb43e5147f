"""How many expressions a second reach RS2-SAM2's two encoders, ready for them: the published way and ours.

    make loading
    make loading ARGS="--scenes 16 --repeat 5"

Three generated sets in evaluation order, each in its dataset's layout: 800 x 800 JPEG with one expression a scene
(RRSIS-D), 512 x 512 TIFF with 15 expressions and copies a scene (RefSegRS), 512 x 512 PNG with 2 (RISBench). Both ways
end at the same tensors: float32 (3, 1024, 1024) and (3, 224, 224), resized from the native image with anti-aliasing,
divided by 255, normalised by ImageNet's mean and deviation; and both decode the mask.

The published way takes expression by expression: open with PIL, two PIL resizes, two conversions. Ours takes whole
scenes: `RRSISDataModule`'s evaluation loader decodes each once, then the two inputs are made once for all its
expressions. One process, one thread each, files in the page cache; expressions per second of processor time, which
other work on the machine disturbs less than wall time; the best of several rounds, rounds of both taken in turn.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as TF
from torchvision.transforms import v2

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.headers import FORMATS
from rrsis_zoo.data.layouts import LAYOUTS, Referent, ReferredScene
from rrsis_zoo.data.records import Record

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDES = (1024, 224)
SETS: dict[str, tuple[int, int]] = {"rrsis-d": (800, 1), "refsegrs": (512, 15), "risbench": (512, 2)}
"""Dataset -> (side of its images in pixels, expressions a scene). RefSegRS has 4,420 expressions on 285 scenes;
RISBench's training scenes are numbered up to 14,699 for 26,300 expressions."""


def scene_image(side: int, seed: int) -> np.ndarray:
    """Fields, edges and noise: an image that compresses about as aerial photographs do."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (side // 50, side // 50, 3), dtype=np.uint8)
    fields = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.NEAREST), np.int16)
    texture = np.asarray(
        Image.fromarray(rng.integers(0, 60, (side // 3, side // 3), dtype=np.uint8)).resize((side, side)), np.int16
    )
    return np.clip(fields + texture[..., None] + rng.integers(-6, 7, (side, side, 1)), 0, 255).astype(np.uint8)


def write(layout: str, root: Path, scenes: int) -> None:
    side, expressions = SETS[layout]
    writer = LAYOUTS[layout](root)
    mask = np.zeros((side, side), np.bool_)
    mask[side // 4 : side // 2, side // 3 : side // 2] = True
    for number in range(scenes + 2):
        split = ("train", "val")[number] if number < 2 else "test"
        said = [f"the ship number {n}" for n in range(expressions)]
        writer.add(ReferredScene(scene_image(side, number), [Referent(mask, said, "ship")], split))  # type: ignore[arg-type]
    writer.close()


# -- the two ways ------------------------------------------------------------------------------------------------------


def published(records: list[Record]) -> Iterator[list[tuple[Tensor, ...]]]:
    """Expression by expression: open, resize twice with PIL, convert and normalise twice."""
    for record in records:
        image = Image.open(record.image_path, formats=FORMATS).convert("RGB")
        record.mask.decode()
        views = (TF.resize(image, [side, side]) for side in SIDES)  # type: ignore[arg-type]
        yield [tuple(TF.normalize(TF.to_tensor(view), MEAN, STD) for view in views)]


def ours(data: RRSISDataModule) -> Iterator[list[tuple[Tensor, ...]]]:
    """Whole scenes: decode once, resize the uint8 tensor twice, one multiply-add for each."""
    for batch in data.test_dataloader():
        inputs = [_views(image) for image in batch.images]
        yield [inputs[i] for i in batch.image_index.tolist()]


def _views(image: Tensor) -> tuple[Tensor, ...]:
    image = image[None].contiguous(memory_format=torch.channels_last)  # torch resizes uint8 fastest so
    views = []
    for side in SIDES:
        resized = v2.functional.resize(image, [side, side], antialias=True)[0]
        view = torch.empty(resized.shape)
        for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
            torch.mul(resized[channel], 1 / (255 * std), out=view[channel]).sub_(mean / std)
        views.append(view)
    return tuple(views)


def rate(way: Callable[[], Iterator[list[tuple[Tensor, ...]]]]) -> float:
    start, seen = time.process_time(), 0
    for inputs in way():
        seen += len(inputs)
    return seen / (time.process_time() - start)


def largest_difference(data: RRSISDataModule) -> float:
    """Return the largest difference of the two ways' inputs, in grey levels."""
    records = data.records("test")[: 2 * SETS[data.dataset][1]]  # type: ignore[index]
    reference = [one for inputs in published(records) for one in inputs]
    other = [one for inputs, _ in zip(ours(data), range(len(records)), strict=False) for one in inputs][: len(records)]
    differences = []
    for a, b in zip(reference, other, strict=True):
        differences += [
            float(((x - y).abs() * torch.tensor(STD)[:, None, None]).max() * 255) for x, y in zip(a, b, strict=True)
        ]
    return max(differences)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=8, help="test scenes of each set (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'set':<10}{'expressions a scene':>20}{'published':>12}{'ours':>10}   ratio   (expressions a CPU second)")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RRSIS_ZOO_CACHE"] = f"{folder}/cache"  # these files are gone in a minute
        for layout, (_, expressions) in SETS.items():
            root = Path(folder) / layout
            write(layout, root, options.scenes)
            data = RRSISDataModule(layout, str(root), num_workers=0, eval_batch_size=max(4, expressions))
            difference = largest_difference(data)  # and everything is in the page cache
            records = data.records("test")
            rounds = [
                (rate(lambda r=records: published(r)), rate(lambda d=data: ours(d))) for _ in range(options.repeat)
            ]
            theirs, own = (max(rates) for rates in zip(*rounds, strict=True))
            print(f"{layout:<10}{expressions:>20}{theirs:>12.1f}{own:>10.1f}{own / theirs:>8.2f}", flush=True)
            result = {"set": layout, "published_per_s": theirs, "ours_per_s": own, "ratio": own / theirs}
            print(json.dumps(result | {"largest_difference_levels": difference}))
            failed |= own / theirs < (2 if expressions > 1 else 1) or difference > 1.01
    print("wanted: at least 2 where scenes repeat, at least 1 where not, inputs equal to one grey level")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
