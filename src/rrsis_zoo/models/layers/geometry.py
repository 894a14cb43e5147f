"""Conversion between native images and a method's square input: resizing of images, masks and logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_LARGE = 2**26
"""Values of an image beyond which a float32 copy of all of it is avoided; 256 MiB."""


def normalise(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract channel means and divide by deviations; image (…, 3, H, W) in [0, 1]."""
    centre, spread = (torch.tensor(v, dtype=image.dtype, device=image.device)[:, None, None] for v in (mean, std))
    return (image - centre) / spread


def stretch(image: Tensor, side: int) -> Tensor:
    """Resize a uint8 image to a square like OpenCV's bilinear ``resize``, without keeping the aspect ratio.

    No anti-aliasing, values rounded to whole levels; OpenCV's fixed-point weights differ by at most one level.

    Args:
        image: uint8 (3, H, W).
        side: side of the result in pixels.

    Returns:
        float32 (3, side, side) in [0, 1], multiples of 1/255.
    """
    return _levels(image, (side, side)) / 255


def fitted_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the largest (height, width) with the image's aspect ratio inside a square, halves rounded up."""
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def fit(image: Tensor, side: int) -> Tensor:
    """Resize a uint8 image to `fitted_size` like `stretch`, then pad it with 0 on the right and at the bottom.

    Args:
        image: uint8 (3, H, W).
        side: side of the result in pixels.

    Returns:
        float32 (3, side, side) in [0, 1].
    """
    height, width = fitted_size(image.shape[-2], image.shape[-1], side)
    return F.pad(_levels(image, (height, width)) / 255, (0, side - width, 0, side - height))


def _levels(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of a uint8 image to whole levels 0-255, as float32."""
    if image.shape[-2:] == size:
        return image.to(torch.float32)
    few = image.device.type == "cpu" and image.numel() > _LARGE and image.shape[-2] > 4 * size[0]
    wide = _read_rows(image, size[0]) if few else _interleaved(image)
    return resize(wide, size)[0].contiguous().round_()


def _interleaved(image: Tensor) -> Tensor:
    """Return (3, H, W) as float32 (1, 3, H, W), the channels of a pixel side by side in memory.

    The CPU's bilinear resize needs this layout: it copies others, which takes gigabytes for a large scene.
    """
    return image[None].to(torch.float32, memory_format=torch.channels_last)


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
        image: uint8 (3, H, W).
        side: side of the result in pixels.

    Returns:
        float32 (3, side, side) in [0, 1], multiples of 1/255.
    """
    if image.shape[-2:] == (side, side):
        return image.to(torch.float32) / 255
    # the channels of a large image one by one: as float32 it has gigabytes
    parts = image.split(1) if image.numel() > _LARGE else (image,)
    levels = [
        F.interpolate(part[None].to(torch.float32), (side, side), mode="bilinear", align_corners=False, antialias=True)
        for part in parts
    ]
    return torch.cat(levels, dim=1)[0].round_() / 255


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (N, C, h, w), ``align_corners=False``, no anti-aliasing; half types become float32."""
    if maps.shape[-2:] == size:
        return maps
    wide = maps if maps.dtype == torch.float64 else maps.float()
    return F.interpolate(wide, size=size, mode="bilinear", align_corners=False)


def stretch_mask(mask: Tensor, side: int) -> Tensor:
    """Resize a bool mask (H, W) to a square like OpenCV's nearest ``resize`` (source = floor(i · in / out))."""
    return F.interpolate(mask[None, None].to(torch.uint8), size=(side, side), mode="nearest")[0, 0]


def stretch_mask_centred(mask: Tensor, side: int) -> Tensor:
    """Resize a bool mask (H, W) to a square like Pillow's nearest ``resize`` (source = floor((i + ½) · in / out))."""
    return F.interpolate(mask[None, None].to(torch.uint8), size=(side, side), mode="nearest-exact")[0, 0]


def fit_mask(mask: Tensor, side: int, padding: int) -> Tensor:
    """Resize a bool mask (H, W) to `fitted_size` like `stretch_mask`, then pad it on the right and at the bottom.

    Returns:
        uint8 (side, side) of 0, 1 and ``padding``.
    """
    height, width = fitted_size(mask.shape[-2], mask.shape[-1], side)
    small = F.interpolate(mask[None, None].to(torch.uint8), size=(height, width), mode="nearest")[0, 0]
    return F.pad(small, (0, side - width, 0, side - height), value=padding)


def restore_each(
    logits: Tensor, image_index: Tensor, sizes: Tensor, side: int, fitted: Tensor | None = None
) -> Iterator[Tensor]:
    """Resize log-odds to native size: first bilinear to the square input, then bilinear to the image.

    One expression at a time: N maps of native size at once would take gigabytes for large scenes.

    Args:
        logits: (N, 1, h, w).
        image_index: (N,) into the images.
        sizes: (M, 2) native sizes.
        side: side of the method's square input.
        fitted: (M, 2) size of the content inside the square, to remove the padding in between; None if the image fills
            the square.

    Yields:
        float32 (H_i, W_i), in the order of the expressions.
    """
    native, content = sizes.tolist(), None if fitted is None else fitted.tolist()
    for row, i in zip(logits.split(1), image_index.tolist(), strict=True):
        square = resize(row.float(), (side, side))
        if content is not None:
            square = square[..., : content[i][0], : content[i][1]]
        height, width = native[i]
        yield resize(square, (height, width))[0, 0]
