"""From records to samples to batches: native uint8 images and bool masks, nothing resized for any model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from rrsis_zoo.data.foreign import ForeignSentences
from rrsis_zoo.data.imagery.picture import picture_size, read_picture
from rrsis_zoo.data.masks import at_image_size
from rrsis_zoo.data.pixels import image_size, read_rgb
from rrsis_zoo.data.records import Record
from rrsis_zoo.data.samplers import Draw
from rrsis_zoo.data.transforms import Augmentation
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.models.types import Batch
from rrsis_zoo.shown import short_repr


@dataclass(frozen=True)
class Sample:
    """One record with its pixels.

    Attributes:
        record: what the dataset says.
        image: native image, uint8 RGB (3, H, W).
        mask: native mask of the image's size, bool (H, W).
        expression: the sentence: the record's, or what augmentation made of it.
        augmented: whether image and mask belong to this sample alone, not to its scene.
        absent: whether the sentence has no referent: it was taken from another scene, or the dataset says so. None in
            a dataset where every sentence has one, as far as it says.
    """

    record: Record
    image: Tensor
    mask: Tensor
    expression: str
    augmented: bool = False
    absent: bool | None = None

    __repr__ = short_repr


class RRSISDataset(Dataset[Sample]):
    """The records of one split as samples; item n is record n.

    torch's DataLoader hands all indices of a batch to ``__getitems__``, which decodes each distinct scene once.

    Args:
        records: as returned by ``read_rrsisd`` and similar readers.
        augmentation: applied to samples that a `TrainingSampler` draws; samples requested by number are unchanged.
        foreign: sentences for the samples without a referent that a `ForeignSampler` draws.
        seed: of their choice, non-negative.
    """

    def __init__(
        self,
        records: Sequence[Record],
        augmentation: Augmentation | None = None,
        foreign: ForeignSentences | None = None,
        seed: int = 0,
    ) -> None:
        self.records = tuple(records)
        self.augmentation = augmentation
        self.foreign, self.seed = foreign, seed
        # the same for every batch of every process: processes must agree on which losses leave something out
        self._may_lack = foreign is not None or any(record.no_target for record in self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int | Draw) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int | Draw]) -> list[Sample]:
        images: dict[str, Tensor] = {}
        samples: list[Sample] = []
        for item in indices:
            record = self.records[item.sample if isinstance(item, Draw) else item]
            image = images.get(record.scene_id)
            if image is None:
                read = read_any_image if record.any_depth else read_image
                image = images[record.scene_id] = read(record.image_path)
            with _part_of_a_dataset():
                mask = at_image_size(record.mask.decode(), (image.shape[1], image.shape[2]))
            absent = record.no_target and not mask.any()
            if isinstance(item, Draw) and item.foreign is not None:
                record, absent = self._foreign(record, item), True
            if self.augmentation is None or not isinstance(item, Draw):
                sample = Sample(record, image, torch.from_numpy(mask), record.expression)
            else:  # around the host's referent also where it is not asked for: else the picture would give it away
                sample = _augmented(record, image, mask, item, self.augmentation, self.records[item.sample])
            if absent:
                sample = replace(sample, mask=torch.zeros_like(sample.mask))
            samples.append(replace(sample, absent=absent) if self._may_lack else sample)
        return samples

    def _foreign(self, host: Record, draw: Draw) -> Record:
        assert self.foreign is not None  # who draws them gives them
        assert draw.foreign is not None
        rng = np.random.default_rng((self.seed, draw.epoch, draw.sample, 2, draw.foreign))
        (place,) = self.foreign.draw(host.scene_id, 1, rng)
        return self.foreign.asked_of(host, place, draw.foreign)

    def misaligned(self) -> list[str]:
        """Return the ids of samples whose annotation and image differ in size, so that the mask is resized.

        Reads the header of every image file, but no pixels.

        Raises:
            DataFormatError: an image that cannot be read.
        """
        sizes: dict[str, tuple[int, int]] = {}
        with _part_of_a_dataset():
            for record in self.records:
                if record.scene_id not in sizes:
                    size_of = picture_size if record.any_depth else image_size
                    sizes[record.scene_id] = size_of(record.image_path)
            return [r.sample_id for r in self.records if sizes[r.scene_id] != (r.height, r.width)]


def _augmented(
    record: Record, image: Tensor, mask: NDArray[np.bool_], draw: Draw, augmentation: Augmentation, host: Record
) -> Sample:
    native = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    new, mask, expression = augmentation(native, mask, record.expression, host.reference_id, draw.epoch, draw.sample)
    own = new is not native
    return Sample(record, as_tensor(new) if own else image, torch.from_numpy(mask), expression, own)


def read_image(path: Path) -> Tensor:
    """Read an image file of a dataset as uint8 RGB (3, H, W).

    Raises:
        DataFormatError: as `rrsis_zoo.data.pixels.read_rgb`.
    """
    with _part_of_a_dataset():
        return as_tensor(read_rgb(path))


def read_any_image(path: Path) -> Tensor:
    """Read an image file of any depth as uint8 RGB (3, H, W), as `rrsis segment` does.

    Raises:
        DataFormatError: as `rrsis_zoo.data.imagery.picture.read_picture`.
    """
    with _part_of_a_dataset():
        return as_tensor(read_picture(path).pixels)


@contextlib.contextmanager
def _part_of_a_dataset() -> Iterator[None]:
    """Add to the error for a missing file where to get it."""
    try:
        yield
    except DataFormatError as cause:
        if isinstance(cause.__cause__, MissingDataError):
            raise DataFormatError(f"{cause}; fetch the dataset's images again") from cause
        raise


def as_tensor(image: NDArray[np.uint8]) -> Tensor:
    """Return uint8 RGB (H, W, 3) as (3, H, W)."""
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def collate(samples: Sequence[Sample]) -> Batch:
    """Make a batch of N samples; each scene is stored once.

    Returns:
        A batch with M <= N images in the order of their first sample; the other fields in the order of the samples.
    """
    position: dict[str, int] = {}
    images: list[Tensor] = []
    image_index: list[int] = []
    for number, sample in enumerate(samples):
        image = f"{sample.record.scene_id} {number}" if sample.augmented else sample.record.scene_id
        if image not in position:
            position[image] = len(images)
            images.append(sample.image)
        image_index.append(position[image])
    return Batch(
        images=images,
        expressions=[sample.expression for sample in samples],
        image_index=torch.tensor(image_index, dtype=torch.int64),
        masks=[sample.mask for sample in samples],
        sample_ids=[sample.record.sample_id for sample in samples],
        absent=[] if any(sample.absent is None for sample in samples) else [bool(s.absent) for s in samples],
    )
