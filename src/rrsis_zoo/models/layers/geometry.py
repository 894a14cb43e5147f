"""Conversion between native images and a method's square input: resizing of images, masks and logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rrsis_zoo.models.layers.host import constant

_LARGE = 2**26
"""Values of an image beyond which a float32 copy of all of it is avoided; 256 MiB."""
_AT_ONCE = 2**24
"""Values of the maps that are restored together; 64 MiB."""


def normalise(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract channel means and divide by deviations; image (…, 3, H, W) in [0, 1]."""
    centre, spread = (constant(v, image)[:, None, None] for v in (mean, std))
    return (image - centre) / spread


def stretch(image: Tensor, side: int) -> Tensor:
    """Resize a uint8 image to a square like OpenCV's bilinear ``resize``, without keeping the aspect ratio.

    No anti-aliasing, values rounded to whole levels; OpenCV's fixed-point weights differ by at most one level.

    Args:
        image: uint8 (3, H, W), or several of one size (G, 3, H, W).
        side: side of the result in pixels.

    Returns:
        float32 (3, side, side) or (G, 3, side, side) in [0, 1], multiples of 1/255.
    """
    return _levels(image, (side, side)) / 255


def fitted_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the largest (height, width) with the image's aspect ratio inside a square, halves rounded up."""
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def fit(image: Tensor, side: int) -> Tensor:
    """Resize a uint8 image to `fitted_size` like `stretch`, then pad it with 0 on the right and at the bottom.

    Args:
        image: uint8 (3, H, W), or several of one size (G, 3, H, W).
        side: side of the result in pixels.

    Returns:
        float32 (3, side, side) or (G, 3, side, side) in [0, 1].
    """
    height, width = fitted_size(image.shape[-2], image.shape[-1], side)
    return F.pad(_levels(image, (height, width)) / 255, (0, side - width, 0, side - height))


def _levels(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of uint8 images (3, H, W) or (G, 3, H, W) to whole levels 0-255, as float32."""
    if image.shape[-2:] == size:
        return image.to(torch.float32)
    images = image if image.ndim == 4 else image[None]
    few = image.device.type == "cpu" and len(images) == 1 and image.numel() > _LARGE and image.shape[-2] > 4 * size[0]
    wide = _read_rows(images[0], size[0]) if few else _interleaved(images)
    levels = resize(wide, size)
    return (levels if image.ndim == 4 else levels[0]).contiguous().round_()


def _interleaved(images: Tensor) -> Tensor:
    """Return (G, 3, H, W) as float32, the channels of a pixel side by side in memory.

    The CPU's bilinear resize needs this layout: it copies others, which takes gigabytes for a large scene.
    """
    return images.to(torch.float32, memory_format=torch.channels_last)


def _read_rows(image: Tensor, height: int) -> Tensor:
    """Return what `_interleaved` does, with only those rows filled that a bilinear resize to ``height`` rows reads.

    Memory that is never written is not taken from the machine: for 20,000 rows this is half a gigabyte, not 4.8.
    """
    rows, width = image.shape[-2:]
    centres = (torch.arange(height, dtype=torch.float64) + 0.5) * (rows / height) - 0.5
    near = torch.stack([centres - 0.01, centres + 0.01, centres + 0.99, centres + 1.01])  # float32 may round either way
    wide = torch.empty(1, 3, rows, width, dtype=torch.float32, memory_format=torch.channels_last)
    for row in near.floor().long().clamp_(0, rows - 1).unique().tolist():
        wide[0, :, row] = image[:, row]
    return wide


def stretch_smoothly(image: Tensor, side: int) -> Tensor:
    """Resize a uint8 image to a square like Pillow's bilinear ``resize``, without keeping the aspect ratio.

    Anti-aliased when shrinking, values rounded to whole levels; Pillow also rounds between its two passes, a difference
    of at most one level.

    Args:
        image: uint8 (3, H, W), or several of one size (G, 3, H, W).
        side: side of the result in pixels.

    Returns:
        float32 (3, side, side) or (G, 3, side, side) in [0, 1], multiples of 1/255.
    """
    if image.shape[-2:] == (side, side):
        return image.to(torch.float32) / 255
    images = image if image.ndim == 4 else image[None]
    # the channels of a large image one by one: as float32 it has gigabytes
    parts = images.split(1, dim=1) if image.numel() > _LARGE else (images,)
    parts = [
        F.interpolate(part.to(torch.float32), (side, side), mode="bilinear", align_corners=False, antialias=True)
        for part in parts
    ]
    levels = torch.cat(parts, dim=1).round_() / 255
    return levels if image.ndim == 4 else levels[0]


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (N, C, h, w), ``align_corners=False``, no anti-aliasing; half types become float32."""
    if maps.shape[-2:] == size:
        return maps
    wide = maps if maps.dtype == torch.float64 else maps.float()
    return F.interpolate(wide, size=size, mode="bilinear", align_corners=False)


def stretch_mask(mask: Tensor, side: int) -> Tensor:
    """Resize bool masks (…, H, W) to a square like OpenCV's nearest ``resize`` (source = floor(i · in / out))."""
    return _nearest(mask, (side, side), "nearest")


def stretch_mask_centred(mask: Tensor, side: int) -> Tensor:
    """Resize bool masks (…, H, W) to a square like Pillow's nearest ``resize`` (source = floor((i + ½) · in / out))."""
    return _nearest(mask, (side, side), "nearest-exact")


def _nearest(mask: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize bool masks (H, W) or (G, H, W) to uint8 of 0 and 1."""
    masks = mask if mask.ndim == 3 else mask[None]
    small = F.interpolate(masks[:, None].to(torch.uint8), size=size, mode=mode)[:, 0]
    return small if mask.ndim == 3 else small[0]


def fit_mask(mask: Tensor, side: int, padding: int) -> Tensor:
    """Resize bool masks (…, H, W) to `fitted_size` like `stretch_mask`, then pad them on the right and at the bottom.

    Returns:
        uint8 (…, side, side) of 0, 1 and ``padding``.
    """
    height, width = fitted_size(mask.shape[-2], mask.shape[-1], side)
    small = _nearest(mask, (height, width), "nearest")
    return F.pad(small, (0, side - width, 0, side - height), value=padding)


def restore_each(
    logits: Tensor, image_index: Tensor | Sequence[int], sizes: Tensor, side: int, fitted: Tensor | None = None
) -> Iterator[Tensor]:
    """Resize log-odds to native size: first bilinear to the square input, then bilinear to the image.

    A few expressions at a time: N maps of native size at once would take gigabytes for large scenes.

    Args:
        logits: (N, 1, h, w).
        image_index: (N,) into the images; numbers on the host where nothing may wait for a GPU.
        sizes: (M, 2) native sizes.
        side: side of the method's square input.
        fitted: (M, 2) size of the content inside the square, to remove the padding in between; None if the image fills
            the square.

    Yields:
        float32 (H_i, W_i), in the order of the expressions.
    """
    native, content = sizes.tolist(), None if fitted is None else fitted.tolist()
    targets = [(tuple(size), None if content is None else tuple(content[i])) for i, size in enumerate(native)]

    def restored(maps: Tensor, target: tuple[tuple[int, int], tuple[int, int] | None]) -> Tensor:
        (height, width), inside = target
        square = resize(maps.float(), (side, side))
        if inside is not None:
            square = square[..., : inside[0], : inside[1]]
        return resize(square, (height, width))

    for (size, inside), maps in runs(logits, image_index, targets):
        for part in maps.split(max(1, _AT_ONCE // max(side**2, size[0] * size[1]))):
            yield from restored(part, (size, inside))[:, 0].unbind()


def runs(logits: Tensor, image_index: Tensor | Sequence[int], targets: Sequence[Any]) -> Iterator[tuple[Any, Tensor]]:
    """Divide N maps where the target of their image changes.

    Args:
        logits: (N, …).
        image_index: (N,) into the targets. A tensor is only looked at if they differ.
        targets: M values that can be compared.

    Yields:
        A target, and the maps that go there, (·, …).
    """
    if len(set(targets)) <= 1:
        if len(logits):
            yield targets[0], logits
        return
    numbers = image_index.tolist() if isinstance(image_index, Tensor) else image_index
    start = 0
    for target, group in groupby(targets[i] for i in numbers):
        stop = start + sum(1 for _ in group)
        yield target, logits[start:stop]
        start = stop
