"""Records to samples, samples to batches: native uint8 images and native bool masks, nothing resized for any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from rrsis_zoo.data.masks import fit_mask
from rrsis_zoo.data.pixels import image_size, read_rgb, to_array
from rrsis_zoo.data.records import Record
from rrsis_zoo.models.base import Batch


@dataclass(frozen=True)
class Sample:
    """One record with its pixels.

    Attributes:
        record: what the dataset says.
        image: native image, uint8 RGB (3, H, W).
        mask: native mask of the image's size, bool (H, W).
    """

    record: Record
    image: Tensor
    mask: Tensor


class RRSISDataset(Dataset[Sample]):
    """The records of one split as samples; item n is record n.

    torch's DataLoader hands all indices of a batch to ``__getitems__``, which decodes each distinct scene once.

    Args:
        records: what ``read_rrsisd`` and its like return.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = tuple(records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        images: dict[str, Tensor] = {}
        samples: list[Sample] = []
        for index in indices:
            record = self.records[index]
            image = images.get(record.scene_id)
            if image is None:
                image = images[record.scene_id] = read_image(record.image_path)
            mask = fit_mask(record.mask.decode(), (image.shape[1], image.shape[2]))
            samples.append(Sample(record, image, torch.from_numpy(mask)))
        return samples

    def misaligned(self) -> list[str]:
        """Return the sample ids whose annotation is not of its image's size, so that the mask is resized.

        Reads the header of every image file, no pixels.

        Raises:
            DataFormatError: an image that cannot be read.
        """
        sizes: dict[str, tuple[int, int]] = {}
        for record in self.records:
            if record.scene_id not in sizes:
                sizes[record.scene_id] = image_size(record.image_path)
        return [r.sample_id for r in self.records if sizes[r.scene_id] != (r.height, r.width)]


def read_image(path: Path) -> Tensor:
    """Read an image file as uint8 RGB (3, H, W).

    Raises:
        DataFormatError: a file that is missing, damaged, no image, or deeper than 8 bits (PIL would clip it).
    """
    return _tensor(read_rgb(path))


def to_rgb(image: Image.Image, what: str) -> Tensor:
    """Return a PIL image as uint8 RGB (3, H, W); grey is repeated, an alpha channel left out.

    Raises:
        DataFormatError: deeper than 8 bits (PIL would clip it).
    """
    return _tensor(to_array(image, "RGB", what))


def _tensor(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def collate(samples: Sequence[Sample]) -> Batch:
    """Make a batch of N samples; equal scenes are held once.

    Returns:
        A batch with M <= N images in the order of their first sample; the other fields in the order of the samples.
    """
    position: dict[str, int] = {}
    images: list[Tensor] = []
    for sample in samples:
        if sample.record.scene_id not in position:
            position[sample.record.scene_id] = len(images)
            images.append(sample.image)
    return Batch(
        images=images,
        expressions=[sample.record.expression for sample in samples],
        image_index=torch.tensor([position[sample.record.scene_id] for sample in samples], dtype=torch.int64),
        masks=[sample.mask for sample in samples],
        sample_ids=[sample.record.sample_id for sample in samples],
    )
