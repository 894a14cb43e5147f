"""A stock SAM: foundation weights as they come, prompted with points, boxes and masks.

Images are stretched to SAM's square, as RSRefSeg does. Of SAM's masks it is the first one, the answer to one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.backbones import sam, sam2
from rrsis_zoo.models.backbones.sam import SAM, SAM_B, SAM_L, SAM_MINI, SAMConfig
from rrsis_zoo.models.backbones.sam2 import (
    SAM2,
    SAM2_B_PLUS,
    SAM2_L,
    SAM2_MINI,
    SAM2_S,
    SAM2_T,
    Pyramid,
    SAM2Config,
)
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.layers.geometry import normalise, resize, stretch
from rrsis_zoo.weights.catalogue import SAM2_FILES, SAM21_FILES, SAM_FILES, TRANSFORMERS_FILES
from rrsis_zoo.weights.foundations import fill_sam, fill_sam2
from rrsis_zoo.weights.sources import parse_source, resolve

Box = tuple[int, int, int, int]
Encoded = tuple[Tensor, ...]


class Stock(Protocol):
    """What the ladder asks of a stock segmenter.

    Attributes:
        source: where its weights come from.
    """

    source: str

    def encode(self, image: Tensor) -> Encoded:
        """Encode one native image, uint8 (3, H, W)."""
        ...

    def by_boxes(self, image: Encoded, boxes: Sequence[Box], size: tuple[int, int]) -> list[Tensor]:
        """Return one bool mask (H, W) per box (top, left, bottom, right; the last two exclusive)."""
        ...

    def by_points(self, image: Encoded, points: Sequence[tuple[int, int]], size: tuple[int, int]) -> list[Tensor]:
        """Return one bool mask (H, W) per pixel (y, x)."""
        ...

    def by_masks(self, image: Encoded, logits: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Return one bool mask (H, W) per map of log-odds (H, W) of native size."""
        ...


class StockSAM:
    """SAM or SAM 2 with its own prompt encoder.

    Args:
        model: filled, on its device.
        source: for the record.
    """

    def __init__(self, model: SAM | SAM2, source: str) -> None:
        self.model, self.source = model.eval().requires_grad_(False), source
        self.prompts = model.prompt_encoder if isinstance(model, SAM) else model.sam_prompt_encoder
        self.side = model.config.image_size

    def encode(self, image: Tensor) -> Encoded:
        """See `Stock`."""
        square = stretch(image.to(next(self.model.parameters()).device), self.side)[None]
        if isinstance(self.model, SAM):
            return (self.model.image_encoder(normalise(square, sam.PIXEL_MEAN, sam.PIXEL_STD)),)
        return tuple(self.model.encode(normalise(square, sam2.PIXEL_MEAN, sam2.PIXEL_STD)))

    def by_boxes(self, image: Encoded, boxes: Sequence[Box], size: tuple[int, int]) -> list[Tensor]:
        """See `Stock`."""
        corners = torch.tensor([[left, top, right, bottom] for top, left, bottom, right in boxes], dtype=torch.float32)
        scale = self._scale(size)
        corners = corners * torch.cat([scale, scale])
        # SAM's encoder adds half a pixel: its corners are pixels, ours the edges between them
        return self._decode(image, self.prompts(None, (corners - 0.5).to(image[0].device), None), size)

    def by_points(self, image: Encoded, points: Sequence[tuple[int, int]], size: tuple[int, int]) -> list[Tensor]:
        """See `Stock`."""
        places = torch.tensor([[x + 0.5, y + 0.5] for y, x in points], dtype=torch.float32) * self._scale(size) - 0.5
        labels = torch.ones(len(places), 1, dtype=torch.int64, device=image[0].device)
        return self._decode(image, self.prompts((places[:, None].to(image[0].device), labels), None, None), size)

    def by_masks(self, image: Encoded, logits: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """See `Stock`."""
        side = 4 * self.model.config.grid
        given = torch.stack([resize(one[None, None].float(), (side, side))[0] for one in logits])
        return self._decode(image, self.prompts(None, None, given), size)

    def _scale(self, size: tuple[int, int]) -> Tensor:
        return torch.tensor([self.side / size[1], self.side / size[0]])

    def _decode(self, image: Encoded, given: tuple[Tensor, Tensor], size: tuple[int, int]) -> list[Tensor]:
        sparse, dense = given
        n = len(dense)
        maps = [level.expand(n, -1, -1, -1) for level in image]
        if isinstance(self.model, SAM):
            masks, _ = self.model.mask_decoder(maps[0], self.model.code(self.model.config.grid), sparse, dense)
        else:
            masks = self.model.decode(Pyramid(*maps), sparse, dense).masks
        square = F.interpolate(masks[:, :1].float(), (self.side, self.side), mode="bilinear", align_corners=False)
        return [resize(one[None], size)[0, 0] > 0 for one in square]


SMALL = "mini:sam2"
"""For a small model that starts from no SAM that takes points and boxes; it knows synthetic scenes only."""

_SIZES: dict[str, SAMConfig | SAM2Config] = {
    "mini:sam": SAM_MINI,
    "mini:sam2": SAM2_MINI,
    "sam-vit-large": SAM_L,
    "sam-vit-base": SAM_B,
    "sam_vit_l": SAM_L,
    "sam_vit_b": SAM_B,
    "hiera-large": SAM2_L,
    "hiera-base-plus": SAM2_B_PLUS,
    "hiera-small": SAM2_S,
    "hiera-tiny": SAM2_T,
    "hiera_large": SAM2_L,
    "hiera_base_plus": SAM2_B_PLUS,
    "hiera_small": SAM2_S,
    "hiera_tiny": SAM2_T,
}
"""What a source is called -> its sizes, the miniatures' whole names first."""


def own_source(model: ReferringSegmenter) -> str | None:
    """Return the source of the SAM that a model starts from.

    If it starts from none that takes points and boxes, `SMALL` for a tiny or miniature model, and None for others: no
    stock SAM is theirs.
    """
    sizes = model.stock(model.config)
    for name, known in model.card.presets.items() if sizes is not None else ():
        if "sam" in known.weights and model.stock(model.presets[name]) == sizes:
            return known.weights["sam"]
    n = sum(p.numel() for p in model.parameters())  # settings may differ from those of every preset
    nearest = min(model.card.presets.values(), key=lambda known: abs(known.parameters - n))
    return SMALL if nearest.small else None


def open_stock(source: str, device: torch.device) -> StockSAM:
    """Return a stock SAM.

    Args:
        source: ``mini:sam``, ``mini:sam2``, or a source of SAM's or SAM 2's released weights whose name says its size.
        device: where it computes.

    Raises:
        ConfigError: a source that does not say which SAM it is.
        MissingWeightsError, WeightsMismatchError: no file, or one that does not fit.
    """
    parsed = parse_source(source)
    sizes = next(
        (config for name, config in _SIZES.items() if (source == name if ":" in name else name in source)), None
    )
    if sizes is None:
        known = ", ".join(dict.fromkeys(_SIZES))
        raise ConfigError(f"--stock {source}: which SAM is it? Give a source with one of these in its name: {known}")
    files = SAM_FILES if isinstance(sizes, SAMConfig) else (*SAM21_FILES, *SAM2_FILES, *TRANSFORMERS_FILES)
    path = resolve(parsed, files, "the stock SAM (--stock)")
    with torch.random.fork_rng(devices=[]):
        built: SAM | SAM2 = SAM(sizes) if isinstance(sizes, SAMConfig) else SAM2(sizes)
    (fill_sam if isinstance(built, SAM) else fill_sam2)(built, path)
    return StockSAM(built.to(device), source)
