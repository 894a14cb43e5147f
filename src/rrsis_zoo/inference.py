"""One image, some sentences, masks: `rrsis_zoo.segment`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rrsis_zoo.data.dataset import as_tensor
from rrsis_zoo.data.pixels import read_rgb, to_array
from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.files import expanded
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.marks import Marks, marks_of
from rrsis_zoo.models.presence import evidence_of, presence_of
from rrsis_zoo.models.types import ImageState, Prediction
from rrsis_zoo.segmentation import Segmentation


class Answer(NamedTuple):
    """The output for one sentence about an image of H × W pixels.

    Attributes:
        mask: bool (H, W).
        probabilities: float32 (H, W) in [0, 1].
        heatmap: float32 (g, g) in [0, 1].
        presence: in [0, 1], the probability that there is a referent at all; None if the model has no calibration
            (`rrsis calibrate`). Below ``model.calibration.threshold`` there is none.
        marks: boxes and points that the localiser wrote; None if it writes none.
    """

    mask: NDArray[np.bool_]
    probabilities: NDArray[np.float32]
    heatmap: NDArray[np.float32]
    presence: float | None = None
    marks: Marks | None = None


@torch.inference_mode()
def segment(
    model: ReferringSegmenter,
    image: Any,
    texts: str | Sequence[str],
    *,
    threshold: float = 0.5,
    state: ImageState | None = None,
) -> Segmentation:
    """Segment what each sentence refers to; the image is encoded once, and each sentence is read on its own.

    Args:
        model: from `rrsis_zoo.load_model`; it is left in evaluation mode.
        image: path, PIL image, uint8 array (H, W, 3) or (H, W), or uint8 tensor (3, H, W). RGB.
        texts: one sentence or several.
        threshold: probability above which a pixel is in the mask, between 0 and 1.
        state: ``model.encode_image([pixels])`` of this image, if it is at hand; None encodes it.

    Example:
        >>> import rrsis_zoo
        >>> model = rrsis_zoo.load_model("control", preset="tiny", weights="none")  # random weights
        >>> model.fit_tokenizer(["the ship", "the pier"])
        >>> result = segment(model, np.zeros((90, 120, 3), np.uint8), ["the ship", "the pier"])
        >>> result.masks.shape, result.masks.dtype, result.heatmaps.shape
        ((2, 90, 120), dtype('bool'), (2, 8, 8))

    Raises:
        ConfigError: an image of another kind, no sentence, or a threshold outside its range.
        DataFormatError: a file that cannot be read.
        WeightsMismatchError: weights or outputs that are not finite.
    """
    expressions = [texts] if isinstance(texts, str) else list(texts)
    if not expressions:
        raise ConfigError("texts is empty: give at least one sentence")
    if others := [type(text).__name__ for text in expressions if not isinstance(text, str)]:
        raise ConfigError(f"texts must be a sentence or a list of sentences, got a list with {others[0]}")
    check_threshold(threshold)
    if cut := model.cut(expressions):
        warnings.warn(cut, stacklevel=3)  # past the wrapper of inference_mode
    pixels = as_rgb(image)
    n, (height, width) = len(expressions), pixels.shape[-2:]
    masks, probabilities = np.empty((n, height, width), np.bool_), np.empty((n, height, width), np.float32)
    heatmaps: list[NDArray[np.float32]] = []
    presence: list[float | None] = []
    marks: list[Marks] = []
    stream = answers(model, pixels, expressions, threshold, state)
    for i in range(n):
        answer = next(stream)
        masks[i], probabilities[i] = answer.mask, answer.probabilities
        heatmaps.append(answer.heatmap)
        presence.append(answer.presence)
        marks += [] if answer.marks is None else [answer.marks]
        del answer  # before the next one is made
    shown = pixels.permute(1, 2, 0).cpu().numpy()
    known = None if model.calibration is None else np.array(presence, np.float64)
    written = tuple(marks) or None
    return Segmentation(masks, probabilities, np.stack(heatmaps), tuple(expressions), shown, known, written)


def answers(
    model: ReferringSegmenter,
    pixels: Tensor,
    expressions: Sequence[str],
    threshold: float = 0.5,
    state: ImageState | None = None,
) -> Iterator[Answer]:
    """Yield the answer to each sentence; the image is encoded once.

    Whoever drops an answer before asking for the next has one map of the image's size in memory at a time: more would
    take gigabytes for a large scene. (``zip`` and ``enumerate`` keep the last one.)

    Args:
        model: it is left in evaluation mode.
        pixels: uint8 RGB (3, H, W).
        expressions: at least one sentence.
        threshold, state: as in `segment`.

    Raises:
        WeightsMismatchError: weights or outputs that are not finite.
    """
    # not one decorator around all: torch's for generators keeps what was yielded last
    model.eval()
    with torch.inference_mode():
        if state is None:
            state = model.encode_image([pixels])
        tokens = model.tokenize(expressions, "independent")
        index = torch.zeros(len(expressions), dtype=torch.int64, device=model.device)
        parts = model.refer_in_groups(state, tokens, index)
    while (part := _next(parts)) is not None:
        check_finite(model, part)
        for i in range(len(part)):
            yield _answer(model, part, i, threshold)


@torch.inference_mode()
def _next(parts: Iterator[Prediction]) -> Prediction | None:
    return next(parts, None)


@torch.inference_mode()
def _answer(model: ReferringSegmenter, part: Prediction, i: int, threshold: float) -> Answer:
    """Return the answer to one of the sentences of a group."""
    logits = model.restore_each(part)[i]
    presence = None
    if model.calibration is not None:
        presence = float(presence_of(model.calibration, evidence_of(part[i : i + 1], [logits]))[0])
    inside = (logits > 0).cpu().numpy() if threshold == 0.5 else None
    probabilities = logits.float().sigmoid_().cpu().numpy()
    heatmap = part.prompts.heatmap[i, 0].float().cpu().numpy()
    mask = probabilities > threshold if inside is None else inside
    return Answer(mask, probabilities, heatmap, presence, marks_of(part.prompts, i))


def check_threshold(threshold: float) -> None:
    """Refuse a threshold that no probability, or every one, exceeds.

    Raises:
        ConfigError: not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise ConfigError(f"threshold must be between 0 and 1, got {threshold}")


def check_finite(model: ReferringSegmenter, part: Prediction) -> None:
    """Refuse outputs that are not finite.

    Raises:
        WeightsMismatchError: log-odds or a heat map with infinities or NaN.
    """
    if part.mask_logits.isfinite().all() & part.prompts.heatmap.isfinite().all():  # one question to the device
        return
    spoiled = [name for name, p in model.state_dict().items() if p.is_floating_point() and not p.isfinite().all()]
    if spoiled:
        more = f" and {len(spoiled) - 3} more" if len(spoiled) > 3 else ""
        raise WeightsMismatchError(
            f"the weights of this {model.name} are not finite: {', '.join(spoiled[:3])}{more}; use a checkpoint from "
            "before the training failed"
        )
    kind = str(model.dtype).removeprefix("torch.")
    raise WeightsMismatchError(
        f"this {model.name} outputs infinities or NaN in {kind}, though its weights are finite: "
        + ("use model.float() or model.bfloat16()" if kind == "float16" else "they are not trained weights")
    )


def as_rgb(image: Any) -> Tensor:
    """Return an image as uint8 RGB (3, H, W), as displayed: the EXIF orientation of files and PIL images is applied.

    Raises:
        ConfigError: not a path, PIL image, or uint8 array or tensor of a valid shape.
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
            image = np.require(image, requirements=["C", "W"])  # torch warns about read-only arrays
            return torch.from_numpy(image).permute(2, 0, 1).contiguous()
        raise ConfigError(f"an array must be uint8 (H, W, 3) or (H, W), got {image.dtype} {image.shape}")
    if isinstance(image, Tensor):
        if image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == 3 and image.numel():
            return image
        kind = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
        raise ConfigError(f"a tensor must be uint8 (3, H, W), got {kind}")
    raise ConfigError(f"image must be a path, a PIL image, an array or a tensor, got {type(image).__name__}")


def _name(image: Image.Image) -> str:
    """Return a PIL image's name for error messages: the file it was opened from, if any."""
    name = getattr(image, "filename", "")
    return name if isinstance(name, str) and name else "the image"
