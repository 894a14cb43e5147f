"""The example picture is the one that its script draws."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from rrsis_zoo.data.synthetic import make_sample

ROOT = Path(__file__).parents[1]


def test_the_harbour_is_the_generators():
    spec = importlib.util.spec_from_file_location("draw", ROOT / "examples" / "draw.py")
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    with Image.open(draw.PICTURE) as image:
        assert np.array_equal(np.asarray(image), draw.scene().image)
    said = [one.text for one in make_sample("test", 64, size=256, expressions=4).expressions]
    assert draw.SENTENCES[1] in said
    assert all(f'"{sentence}"' in (ROOT / "docs/start/segment.md").read_text() for sentence in draw.SENTENCES)
