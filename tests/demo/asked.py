"""Pictures and sentences for the tests of the page."""

import numpy as np

from rrsis_zoo.demo.pictures import Shown

TEXTS = ["the red square", "the large storage tank"]


def noise(seed=0, height=70, width=90):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def counted(desk, names):
    """Return a list that names the model of every picture that is encoded from now on, in order."""
    done = []
    for name in names:
        model = desk.ready(name).model

        def encode(images, name=name, encode=model.encode_image):
            done.append(name)
            return encode(images)

        model.encode_image = encode
    return done


def shown(seed=0, name="a.png", **size):
    return Shown(name, noise(seed, **size))
