"""One image, some sentences, masks: `rrsis_zoo.segment`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rrsis_zoo.data.dataset import as_tensor
from rrsis_zoo.data.pixels import read_rgb, to_array
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import expanded
from rrsis_zoo.models.base import ReferringSegmenter


@dataclass(frozen=True)
class Segmentation:
    """What a model says of N sentences about one image of H × W pixels.

    Attributes:
        masks: bool (N, H, W).
        probabilities: float32 (N, H, W) in [0, 1]; a mask is where the model decides for the referent, > 0.5.
        heatmaps: float32 (N, g, g) in [0, 1], where the localiser believes the referent to be.
    """

    masks: NDArray[np.bool_]
    probabilities: NDArray[np.float32]
    heatmaps: NDArray[np.float32]


@torch.inference_mode()
def segment(model: ReferringSegmenter, image: Any, texts: str | Sequence[str]) -> Segmentation:
    """Segment what each sentence refers to; the image is encoded once, every sentence is read as if alone.

    Beside the answer it takes the memory of one map: five bytes a pixel for every sentence, and at most sixteen a pixel
    besides. Sentences are answered in groups of ``model.max_expressions``.

    Args:
        model: from `rrsis_zoo.load_model`, in any float; it is left in evaluation mode.
        image: path, PIL image, uint8 array (H, W, 3) or (H, W), or uint8 tensor (3, H, W). RGB.
        texts: one sentence or several.

    Example:
        >>> import rrsis_zoo
        >>> model = rrsis_zoo.load_model("control", weights="none", preset="tiny")  # random: it answers nothing yet
        >>> model.fit_tokenizer(["the ship", "the pier"])
        >>> result = segment(model, np.zeros((90, 120, 3), np.uint8), ["the ship", "the pier"])
        >>> result.masks.shape, result.masks.dtype, result.heatmaps.shape
        ((2, 90, 120), dtype('bool'), (2, 8, 8))

    Raises:
        ConfigError: an image of another kind, no sentence, or a model that cannot be computed with.
        DataFormatError: a file that cannot be read.
        WeightsMismatchError: the model answers what is not a number, because its weights are not.
    """
    expressions = [texts] if isinstance(texts, str) else list(texts)
    if not expressions:
        raise ConfigError("texts is empty: give at least one sentence")
    if others := [type(text).__name__ for text in expressions if not isinstance(text, str)]:
        raise ConfigError(f"texts must be a sentence or a list of sentences, got {others[0]} among them")
    if not isinstance(model, ReferringSegmenter) and not isinstance(
        getattr(model, "_orig_mod", None), ReferringSegmenter
    ):
        raise ConfigError(f"model must be one of rrsis_zoo.load_model, got {type(model).__name__}")
    model.eval()
    picture = as_rgb(image)
    n, size = len(expressions), (picture.shape[-2], picture.shape[-1])
    state = model.encode_image([picture])
    del picture
    index = torch.zeros(n, dtype=torch.int64, device=model.device)
    prediction = model.refer(state, model.tokenize(expressions, "independent"), index)
    masks, probabilities = torch.empty(n, *size, dtype=torch.bool), torch.empty(n, *size)
    for logits, mask, probability in zip(model.restored(prediction), masks, probabilities, strict=True):
        model.check_answer(logits)
        mask.copy_(logits > 0)
        probability.copy_(logits)
        probability.sigmoid_()
    return Segmentation(
        masks=masks.numpy(),
        probabilities=probabilities.numpy(),
        heatmaps=prediction.prompts.heatmap[:, 0].float().cpu().numpy(),
    )


def as_rgb(image: Any) -> Tensor:
    """Return an image as uint8 RGB (3, H, W), as it is shown: files and PIL images are turned as their EXIF says.

    Raises:
        ConfigError: neither path, PIL image, uint8 array nor uint8 tensor of a fitting shape.
        DataFormatError: a file or PIL image that cannot be read exactly, see `rrsis_zoo.data.pixels`.
    """
    if isinstance(image, str | Path):
        return as_tensor(read_rgb(expanded(image)))
    if isinstance(image, Image.Image):
        return as_tensor(to_array(image, "RGB", _name(image)))
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            image = np.require(image, requirements=["C", "W"])  # torch warns of arrays that cannot be written to
            return torch.from_numpy(image).permute(2, 0, 1)
        raise ConfigError(f"an array must be uint8 (H, W, 3) or (H, W), got {image.dtype} {image.shape}")
    if isinstance(image, Tensor):
        if image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == 3 and image.numel():
            return image
        given = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
        raise ConfigError(f"a tensor must be uint8 (3, H, W), got {given}")
    raise ConfigError(f"image must be a path, a PIL image, an array or a tensor, got {type(image).__name__}")


def _name(image: Image.Image) -> str:
    """Return what a PIL image is called in an error: the file that it was opened from, if any."""
    name = getattr(image, "filename", "")
    return name if isinstance(name, str) and name else "the image"
