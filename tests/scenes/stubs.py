"""Models that cost nothing and obey the contract, and rasters for them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import rasterio
import torch
from rasterio.features import rasterize
from rasterio.transform import from_origin

from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.types import ImageState, Prompts, Restored, Tokens


@dataclass(frozen=True)
class StubConfig:
    side: int = 64


class Stub(ReferringSegmenter):
    """Log-odds of every pixel by its own colour: "red" 1 where red is above 127, "green" and "blue" likewise.

    What it has seen is kept in ``windows``: the height and width of every image that it was asked about.
    """

    card = SimpleNamespace(name="stub")
    presets = {"tiny": StubConfig()}  # noqa: RUF012
    channels = ("red", "green", "blue")

    def __init__(self, side: int = 64) -> None:
        super().__init__()
        self.config = StubConfig(side)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.windows: list[tuple[int, int]] = []
        self._tokenizer = SimpleNamespace(max_length=8, lengths=lambda texts: [1] * len(texts))

    @property
    def text_limits(self):
        return 8, 8

    @property
    def sides(self):
        return self.config.side, self.config.side

    def tokenize(self, expressions, text_mode):
        ids = torch.tensor([[self.channels.index(text.split()[-1])] for text in expressions])
        return Tokens(ids, torch.ones(len(ids), dtype=torch.int64))

    def prepare(self, images):
        self.windows += [(image.shape[1], image.shape[2]) for image in images]
        return {"image": torch.stack(list(images)).float()}

    def encode(self, views, sizes):
        return ImageState(views, sizes, sizes)

    def localise(self, state, tokens, image_index):
        image = state.features["image"][image_index]
        channel = torch.stack([one[i] for one, i in zip(image, tokens.ids[:, 0].tolist(), strict=True)])
        n = len(image_index)
        return Prompts(torch.zeros(n, 1, 1), channel[:, None], torch.full((n, 1, 1, 1), 0.5))

    def segment(self, state, prompts, image_index):
        return (prompts.dense - 127.5) / 64

    def restore(self, prediction):
        return [one[0] for one in prediction.mask_logits]

    def restore_each(self, prediction):
        return Restored(lambda n: prediction.mask_logits[n, 0], len(prediction))

    def target(self, masks):
        raise NotImplementedError

    def loss_terms(self, prediction, target):
        raise NotImplementedError

    def parameter_groups(self):
        return {"all": [self.weight]}


def blobs(height, width, seed=0, cell=40):
    """A picture (H, W, 3) of random rectangles, uint8; the channels differ."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
    for channel in range(3):
        for _ in range(max(4, height * width // cell**2 // 3)):
            y, x = rng.integers(0, height), rng.integers(0, width)
            h, w = rng.integers(2, cell, 2)
            image[y : y + h, x : x + w, channel] = rng.integers(150, 256)
    return image


def written(path, image, *, transform=None, crs=None, **profile):
    """Write an image (H, W, C) as a raster and return its path."""
    bands = image[..., None] if image.ndim == 2 else image
    options = {"driver": "GTiff", "dtype": bands.dtype, "crs": crs, "photometric": "RGB"} | profile
    if bands.shape[2] < 3:
        options.pop("photometric", None)
    colormap = options.pop("colormap", None)
    mask = options.pop("mask", None)
    gcps = options.pop("gcps", None)
    meanings = options.pop("colorinterp", None)
    if transform is not None:
        options["transform"] = transform
    with rasterio.open(path, "w", height=bands.shape[0], width=bands.shape[1], count=bands.shape[2], **options) as file:
        file.write(bands.transpose(2, 0, 1))
        if colormap is not None:
            file.write_colormap(1, colormap)
        if mask is not None:
            file.write_mask(mask)
        if gcps is not None:
            file.gcps = gcps
        if meanings is not None:
            file.colorinterp = meanings
    return path


def burnt(table, path, text=None):
    """Return the polygons of a layer as a mask of the raster's size, by the raster's own transform."""
    with rasterio.open(path) as file:
        shape, transform = file.shape, file.transform
    some = table if text is None else table[table.text == text]
    if not len(some):
        return np.zeros(shape, np.bool_)
    return rasterize(some.geometry, shape, transform=transform).astype(np.bool_)


UTM = from_origin(500000, 5000000, 0.5, 0.5)
"""Half a metre a pixel, in EPSG:32633 in the north of Italy."""
