"""What `rrsis_zoo.segment` returns: masks with what they are of, to compute with and to look at. No torch."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.figures import heat_overlay
from rrsis_zoo.models.marks import Marks
from rrsis_zoo.outputs.drawing import Drawn, drawing, panel_size, panels
from rrsis_zoo.outputs.found import mean_inside
from rrsis_zoo.outputs.marks import PLAIN, with_marks
from rrsis_zoo.outputs.shapes import resized

_LISTED = 4  # sentences in a repr


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """The output for N sentences about one image of H × W pixels. A notebook shows it as its `figure`.

    Attributes:
        masks: bool (N, H, W).
        probabilities: float32 (N, H, W) in [0, 1]; masks are where they exceed the threshold, by default 0.5.
        heatmaps: float32 (N, g, g) in [0, 1], where the localiser expects the referent.
        texts: the N sentences.
        image: uint8 RGB (H, W, 3), as the model was given it; it shares memory with the argument if that is a tensor.
        presence: float (N,) in [0, 1], the probability that the referent is there at all; None if the model has no
            calibration (`rrsis calibrate`). Below ``model.calibration.threshold`` there is none.
        marks: N sets of boxes and points that the localiser wrote, in pixels of the image; None if it writes none.
    """

    masks: NDArray[np.bool_]
    probabilities: NDArray[np.float32]
    heatmaps: NDArray[np.float32]
    texts: tuple[str, ...]
    image: NDArray[np.uint8]
    presence: NDArray[np.float64] | None = None
    marks: tuple[Marks, ...] | None = None

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """Mean probability inside each mask, (N,); NaN where a mask is empty."""
        return np.array([mean_inside(mask, p)[1] for mask, p in zip(self.masks, self.probabilities, strict=True)])

    def picture(self, prompts: bool = False) -> Image.Image:
        """Return the image with all masks in it and the sentences below, as `rrsis segment` draws it.

        Args:
            prompts: whether the `marks` are drawn too, as `rrsis segment --prompts` does.
        """
        return drawing(self.image, self._drawn(prompts))

    def figure(self) -> Image.Image:
        """Return a line for each sentence: image, heat map with the `marks`, mask, below the sentence and its score.

        ``result.figure().save("figure.png")`` writes it.
        """
        native = (self.image.shape[0], self.image.shape[1])
        small = resized(self.image, panel_size(*native))
        heat = [heat_overlay(small, one) for one in self.heatmaps]
        if self.marks is not None:
            heat = [with_marks(one, native, [(marks, PLAIN)]) for one, marks in zip(heat, self.marks, strict=True)]
        return panels(self.image, self._drawn(), heat, prompts=self.marks is not None)

    def show(self) -> None:
        """Show the `figure`: in a notebook below the cell, otherwise in the desktop's image viewer.

        Raises:
            ConfigError: there is neither.
        """
        figure = self.figure()
        if _in_notebook():
            from IPython.display import display

            display(figure)
            return
        from PIL import ImageShow  # it imports IPython, where that is installed

        if not ImageShow.show(figure, "rrsis-zoo"):
            raise ConfigError('there is no image viewer here: result.figure().save("figure.png") writes a file')

    def _drawn(self, prompts: bool = False) -> list[Drawn]:
        presence = [None] * len(self.texts) if self.presence is None else self.presence.tolist()
        marks = self.marks if prompts and self.marks is not None else [None] * len(self.texts)
        return [
            Drawn(text, mask, None if np.isnan(score) else float(score), float(mask.mean()), there, marks=written)
            for text, mask, score, there, written in zip(
                self.texts, self.masks, self.scores, presence, marks, strict=True
            )
        ]

    def __repr__(self) -> str:
        said = [f"{one.text!r}: {one.remark}" for one in self._drawn()[:_LISTED]]
        if len(self.texts) > _LISTED:
            said.append(f"and {len(self.texts) - _LISTED} more")
        height, width = self.masks.shape[1:]
        return f"Segmentation({height} x {width} pixels; {'; '.join(said)})"

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows."""
        out = io.BytesIO()
        self.figure().save(out, "PNG")
        return out.getvalue()


def _in_notebook() -> bool:
    """Return whether this is a notebook's kernel; IPython in a terminal cannot show pictures."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")
