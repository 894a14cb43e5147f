import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from boxes import box
from PIL import Image

from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd

ROOT = Path(__file__).parents[2]


@pytest.fixture
def edit() -> Callable:
    """Change the two annotation files of a tree: ``edit(root, refs=function, instances=function)``."""

    def change(root: Path, refs=None, instances=None) -> None:
        if refs is not None:
            path = root / "rrsisd" / "refs(unc).p"
            content = pickle.loads(path.read_bytes())
            refs(content)
            path.write_bytes(pickle.dumps(content))
        if instances is not None:
            path = root / "rrsisd" / "instances.json"
            content = json.loads(path.read_text(encoding="utf-8"))
            instances(content)
            path.write_text(json.dumps(content), encoding="utf-8")

    return change


@pytest.fixture
def tree(tmp_path: Path, edit) -> Path:
    """A small RRSIS-D with every oddity of the real one; references 1-8 on images 1-6."""
    root, shape, random = tmp_path / "rrsis-d", (24, 32), np.random.default_rng(0)

    def image():
        return random.integers(0, 256, (*shape, 3), dtype=np.uint8)

    write_rrsisd(
        root,
        [
            ReferredScene(
                image(),
                [
                    Referent(box(shape, 2, 3, 8, 9), ["The ship on the left ", "A gray ship"], "ship"),  # ref 1
                    Referent(box(shape, 0, 20, 24, 32), ["The harbor"], "harbor"),  # ref 2
                ],
                "train",
            ),
            ReferredScene(image(), [Referent(box(shape, 4, 4, 12, 16), ["The dam"], "dam")], "train"),  # ref 3, polygon
            ReferredScene(image(), [Referent(random.random(shape) < 0.5, ["Noise"], "golf field")], "train"),  # ref 4
            ReferredScene(
                image(), [Referent(box(shape, 0, 0, 10, 10), ["The airport"], "airport")], "val"
            ),  # ref 5, layers
            ReferredScene(
                image(),
                [
                    Referent(np.zeros(shape, dtype=bool), ["The overpass"], "overpass"),  # ref 6, empty
                    Referent(box(shape, 1, 1, 5, 31), ["Le pont près du cafe\u0301 – là"], "bridge"),  # ref 7
                ],
                "test",
            ),
            ReferredScene(
                image(), [Referent(box(shape, 20, 0, 24, 32), ["The dam below"], "dam")], "test"
            ),  # ref 8, taller
        ],
    )

    def instances(content):
        annotations = {a["id"]: a for a in content["annotations"]}
        annotations[3]["segmentation"] = [[4, 4, 16, 4, 16, 12, 4, 12]]
        # Rows 0-9 x columns 0-9, and, as uncompressed runs, all rows of columns 5-14.
        annotations[5]["segmentation"].append({"size": [24, 32], "counts": [5 * 24, 10 * 24, 17 * 24]})

    edit(root, instances=instances)
    Image.fromarray(random.integers(0, 256, (30, 32, 3), dtype=np.uint8)).save(
        root / "images/rrsisd/JPEGImages/00006.jpg"
    )
    return root


@pytest.fixture
def golden() -> Path:
    return ROOT / "tests/golden/datasets/rrsisd"
