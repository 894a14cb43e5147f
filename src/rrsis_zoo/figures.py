"""Figures of predictions, for people to look at."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import writing
from rrsis_zoo.models.marks import Marks
from rrsis_zoo.shown import short_repr


@dataclass(frozen=True)
class Shown:
    """One row of the figure.

    Attributes:
        image: uint8 RGB (H, W, 3).
        expression: the sentence.
        heatmap: float (g, g) in [0, 1], from the localiser.
        mask: bool (H, W), predicted.
        truth: bool (H, W), or None if unknown.
        marks: boxes and points that the localiser wrote; None if it writes none.
    """

    image: NDArray[np.uint8]
    expression: str
    heatmap: NDArray[np.float32]
    mask: NDArray[np.bool_]
    truth: NDArray[np.bool_] | None
    marks: Marks | None = None

    __repr__ = short_repr

    @property
    def iou(self) -> float | None:
        """IoU of mask and truth, 0 if both are empty; None without a truth."""
        if self.truth is None:
            return None
        union = int((self.mask | self.truth).sum())
        return int((self.mask & self.truth).sum()) / union if union else 0.0

    @property
    def verdict(self) -> str:
        """What came of it in words: the IoU, or what was predicted where there is nothing; empty without a truth."""
        if self.truth is None:
            return ""
        if self.truth.any():
            return f"IoU {self.iou:.2f}"
        predicted = int(self.mask.sum())
        return f"no target: {f'{predicted:,} pixels predicted' if predicted else 'rightly nothing predicted'}"


_LINES = 4
"""Most lines of a sentence; more would push the images out of the figure."""

PREDICTED, TRUE = (255, 176, 0), (0, 190, 255)  # orange and blue: distinguishable to the colour-blind


def prediction_figure(rows: Sequence[Shown], path: Path, title: str = "") -> None:
    """Write a PNG with a line per row: image, heat map, predicted mask, true mask, below the expression.

    Boxes and points that the localiser wrote are drawn into the heat map.

    Raises:
        ValueError: no rows.
        ConfigError, OutputError: as `save_figure`.
    """
    if not rows:
        raise ValueError("there is no prediction to show")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    written = any(row.marks is not None for row in rows)
    columns = ("image", f"heat map{' and prompts' if written else ''} (localise)", "mask (segment)", "truth")
    figure = Figure(figsize=(10.4, 2.95 * len(rows) + 0.4), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(_line(title), fontsize=12, parse_math=False)
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for line, (part, row) in enumerate(zip(parts, rows, strict=True)):
        score = f"   {row.verdict}" if row.verdict else ""
        # a sentence is never a formula, whatever its characters
        lines = textwrap.wrap(f"“{_line(row.expression)}”{score}", 110, max_lines=_LINES, placeholder=f" …”{score}")
        part.suptitle("\n".join(lines), fontsize=10, x=0.01, ha="left", parse_math=False)
        axes = part.subplots(1, len(columns))
        grey = _grey(row.image)
        axes[0].imshow(row.image)
        axes[1].imshow(heat_overlay(row.image, row.heatmap))
        if row.marks is not None:
            _draw_marks(axes[1], row.marks)
        axes[2].imshow(_tint(grey, row.mask, PREDICTED))
        axes[3].imshow(grey if row.truth is None else _tint(grey, row.truth, TRUE))
        for axis, mask, text in ((axes[2], row.mask, "nothing"), (axes[3], row.truth, "no target")):
            if mask is not None and not mask.any():
                _note(axis, text)
        for name, axis in zip(columns, axes, strict=True):
            axis.set_axis_off()
            if line == 0:
                axis.set_title(name, fontsize=9, color="0.3")
    save_figure(figure, path)


def _note(axis: Any, text: str) -> None:
    """Write a word into the middle of a picture that shows nothing."""
    box = {"boxstyle": "round", "facecolor": "white", "alpha": 0.85, "linewidth": 0}
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=9, color="0.2", bbox=box)


def _draw_marks(axis: Any, marks: Marks) -> None:
    """Draw boxes and points on the axis of an image, white with a dark rim, as far as they are on it."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    limits = axis.get_xlim(), axis.get_ylim()
    rim = [Stroke(linewidth=3.2, foreground="0.1"), Normal()]
    shown = marks.scaled(1, 1)
    for x0, y0, x1, y1 in (shown.boxes - 0.5).tolist():  # the centre of the first pixel is at 0
        box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="white", linewidth=1.6, path_effects=rim)
        axis.add_patch(box)
    for (x, y), inside in zip((shown.points - 0.5).tolist(), shown.inside.tolist(), strict=True):
        fill = "white" if inside else "none"
        axis.plot([x], [y], "o", markersize=5, markerfacecolor=fill, markeredgecolor="0.1" if inside else "white")
    axis.set_xlim(limits[0])
    axis.set_ylim(limits[1])


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a matplotlib figure, completely or not at all; the suffix decides the format.

    Args:
        figure: a ``matplotlib.figure.Figure``.
        path: of the file; its folder is created.

    Raises:
        ConfigError: a suffix of a format that matplotlib cannot write.
        OutputError: the file cannot be written.
    """
    check_figure_name(path)
    with writing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box is drawn instead
        figure.savefig(temporary)


def check_figure_name(path: str | Path) -> None:
    """Refuse a figure's name that matplotlib cannot write, before the figure is made.

    Raises:
        ConfigError: the suffix is not that of a format that matplotlib can write.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".").lower() not in known:
        raise ConfigError(f"{path}: a figure's name must end in one of {', '.join(f'.{name}' for name in known)}")


def heat_overlay(image: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a heat map over the pale grey image, which stays visible where the heat map is low.

    Args:
        image: uint8 RGB (H, W, 3).
        heatmap: float (g, g) in [0, 1].

    Returns:
        uint8 RGB (H, W, 3).
    """
    from matplotlib import colormaps

    height, width = image.shape[:2]
    heat = Image.fromarray(heatmap.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    strength = np.clip(np.asarray(heat), 0, 1)
    share = np.sqrt(strength)[..., None]
    colours = 255 * np.asarray(colormaps["inferno"](strength))[..., :3]
    return (share * colours + (1 - share) * (_grey(image) // 2 + 100)).round().astype(np.uint8)


def _line(text: str) -> str:
    """Return a sentence that a font can show: without line breaks, control characters and lone surrogates."""
    return "".join(c if c.isprintable() else " " for c in text)


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(image.mean(-1, keepdims=True), 3, -1).astype(np.uint8)


def _tint(grey: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    shown = grey.astype(np.float32)
    shown[mask] = 0.35 * shown[mask] + 0.65 * np.array(colour, np.float32)
    return shown.astype(np.uint8)
