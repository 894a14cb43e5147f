"""Augmentation of training samples; the only file that uses albumentations. Off by default: the papers use only the
black squares.

The random choices for a sample depend only on the seed, the epoch and the sample, not on the number of loading
processes or on which of them loads it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.data.describe import bounding_box
from rrsis_zoo.data.directions import Symmetry, is_local, rewrite
from rrsis_zoo.errors import ConfigError, unknown_name

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it would check the network for a newer version

AUGMENTATIONS = ("random_boxes", "photometric", "crops", "flips", "rotations")
"""``random_boxes``: 20 to 60 black squares of 32 px on the native image, redrawn every epoch, on a share of the
references that is chosen once (RMSIN, and RS2-SAM2 on RRSIS-D: 0.2). ``photometric``: brightness, contrast and gamma,
blur, noise or JPEG artefacts; no hue, since sentences name colours. ``crops``: a window of 60 to 100 % of each side
that contains the whole mask, only if the sentence mentions nothing around the referent. ``flips``: left-right and
top-bottom, independently. ``rotations``: by 90, 180 or 270 degrees. Flips and rotations rewrite the sentence or are
skipped, see `rrsis_zoo.data.directions`."""

BOXES, BOX_SIDE = (20, 60), 32
_LEAST_CROP = 0.6

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuse an unknown augmentation or an invalid share.

    Raises:
        ConfigError: an unknown name, or a share outside 0 to 1.
    """
    for name, share in shares.items():
        if name not in AUGMENTATIONS:
            raise unknown_name("augmentation in data.augment", name, AUGMENTATIONS)
        if not 0 <= share <= 1:
            raise ConfigError(f"data.augment.{name} must be a share from 0 to 1, got {share}")


class Augmentation:
    """Changes image, mask and sentence of training samples together.

    Args:
        shares: name of an augmentation -> share of samples that get it (of references for ``random_boxes``).
        seed: non-negative.
        references: the reference of every training sample, for the choice of ``random_boxes``.

    Raises:
        ConfigError: as `check_shares`.
    """

    def __init__(self, shares: Mapping[str, float], seed: int, references: Sequence[str]) -> None:
        check_shares(shares)
        self.shares, self.seed = dict(shares), seed
        names = list(dict.fromkeys(references))
        number = round(self.shares.get("random_boxes", 0) * len(names))
        order = np.random.default_rng((seed, len(names))).permutation(len(names))[:number]
        self.boxed = frozenset(names[i] for i in order)
        self._photometric: Any = None

    def __call__(
        self, image: Image, mask: Mask, expression: str, reference: str, epoch: int, index: int
    ) -> tuple[Image, Mask, str]:
        """Return the sample as augmented in this epoch.

        Args:
            image: uint8 RGB (H, W, 3); not modified.
            mask: bool (H, W); not modified.
            expression: the sentence.
            reference: that the sentence belongs to.
            epoch: non-negative.
            index: number of the sample in its split.
        """
        rng = np.random.default_rng((self.seed, epoch, index))
        # draw every decision even if it cannot be applied, so that the sentence does not shift later draws
        photometric, crop, hflip, vflip, rotation = rng.random(5)
        symmetry: Symmetry = rng.choice(["rot90", "rot180", "rot270"])  # type: ignore[assignment]
        if reference in self.boxed:
            image = random_boxes(image, rng)
        if photometric < self._share("photometric"):
            image = self._photometrically(image, int(rng.integers(2**31)))
        if crop < self._share("crops") and is_local(expression):
            image, mask = crop_around(image, mask, rng)
        for wanted, name in (
            (hflip < self._share("flips"), "hflip"),
            (vflip < self._share("flips"), "vflip"),
            (rotation < self._share("rotations"), symmetry),
        ):
            if wanted:
                image, mask, expression = transform(image, mask, expression, name)  # type: ignore[arg-type]
        return image, mask, expression

    def _share(self, name: str) -> float:
        return self.shares.get(name, 0.0)

    def _photometrically(self, image: Image, seed: int) -> Image:
        if self._photometric is None:
            import albumentations as A

            self._photometric = A.Compose(
                [
                    A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.15, p=1),
                    A.RandomGamma(gamma_limit=(85, 118), p=0.3),
                    A.OneOf(
                        [
                            A.GaussianBlur(blur_limit=(3, 5)),
                            A.GaussNoise(std_range=(0.01, 0.04)),
                            A.ImageCompression(quality_range=(50, 95)),
                        ],
                        p=0.3,
                    ),
                ]
            )
        self._photometric.set_random_seed(seed)
        return self._photometric(image=image)["image"]


def random_boxes(image: Image, rng: np.random.Generator) -> Image:
    """Return the image with 20 to 60 black squares of 32 px.

    As published: upper left corners are uniform in 0 to width − 32 on *both* axes; parts outside are clipped.
    """
    image = image.copy()
    number = rng.integers(BOXES[0], BOXES[1] + 1)
    corners = rng.integers(0, max(0, image.shape[1] - BOX_SIDE) + 1, size=(number, 2))
    for x, y in corners:
        image[y : y + BOX_SIDE, x : x + BOX_SIDE] = 0
    return image


def crop_around(image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Return a random window that contains the whole mask; with an empty mask, nothing changes."""
    box = bounding_box(mask)
    if box is None:
        return image, mask
    import albumentations as A

    window = []
    for side, (first, last) in zip(mask.shape[::-1], (box[0::2], box[1::2]), strict=True):
        length = max(int(np.ceil(side * rng.uniform(_LEAST_CROP, 1))), last + 1 - first)
        start = int(rng.integers(max(0, last + 1 - length), min(first, side - length) + 1))
        window += [start, start + length]
    x0, x1, y0, y1 = window
    cropped = A.Compose([A.Crop(x0, y0, x1, y1)])(image=image, mask=mask.astype(np.uint8))
    return cropped["image"], cropped["mask"].astype(bool)


def transform(image: Image, mask: Mask, expression: str, symmetry: Symmetry) -> tuple[Image, Mask, str]:
    """Mirror or rotate image and mask and rewrite the sentence; change nothing if no exact sentence is known.

    Args:
        image: uint8 RGB (H, W, 3).
        mask: bool (H, W).
        expression: the sentence.
        symmetry: what to do.
    """
    new = rewrite(expression, symmetry)
    if new is None:
        return image, mask, expression
    import albumentations as A

    steps = {
        "hflip": [A.HorizontalFlip(p=1)],
        "vflip": [A.VerticalFlip(p=1)],
        "rot90": [A.Transpose(p=1), A.VerticalFlip(p=1)],
        "rot180": [A.HorizontalFlip(p=1), A.VerticalFlip(p=1)],
        "rot270": [A.VerticalFlip(p=1), A.Transpose(p=1)],
    }
    changed = A.Compose(steps[symmetry])(image=image, mask=mask.astype(np.uint8))
    return np.ascontiguousarray(changed["image"]), np.ascontiguousarray(changed["mask"]).astype(bool), new
