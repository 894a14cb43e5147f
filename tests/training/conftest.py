import numpy as np
import pytest

from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd

KINDS = ("dam", "chimney", "windmill", "golf field")
COLOURS = {"red": (200, 40, 40), "blue": (40, 60, 200)}


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """Seven training scenes, three for validation and five for testing, two coloured squares in each."""
    rng = np.random.default_rng(0)
    scenes = []
    for split, count in (("train", 7), ("val", 3), ("test", 5)):
        for i in range(count):
            size = (96, 96) if i else (90, 120)
            image = rng.integers(90, 120, (*size, 3), dtype=np.uint8)
            referents = []
            for column, (name, colour) in zip(rng.permutation([8, 52]), COLOURS.items(), strict=True):
                mask = np.zeros(size, dtype=np.bool_)
                mask[30:62, column : column + 32] = True
                image[mask] = colour
                referents.append(Referent(mask, [f"the {name} square"], "ship"))
            scenes.append(ReferredScene(image, referents, split))
    root = tmp_path_factory.mktemp("rrsisd")
    write_rrsisd(root / "tree", scenes)
    return root / "tree"


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """Seven scenes for training and six for validation and for testing, two of four kinds of things in each."""
    rng = np.random.default_rng(0)
    scenes = []
    for split, count in (("train", 7), ("val", 6), ("test", 6)):
        for i in range(count):
            image = rng.integers(90, 120, (64, 72, 3), dtype=np.uint8)
            referents = []
            for column, number in ((6, i), (40, i + 1)):
                mask = np.zeros((64, 72), dtype=np.bool_)
                mask[20:44, column : column + 24] = True
                image[mask] = rng.integers(0, 255, 3)
                kind = KINDS[number % 4]
                referents.append(Referent(mask, [f"the {kind} at the top"], kind))
            scenes.append(ReferredScene(image, referents, split))
    root = tmp_path_factory.mktemp("mixed")
    write_rrsisd(root / "tree", scenes)
    return root / "tree"
