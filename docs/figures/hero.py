"""The picture at the top of the README: `make figures`. Four unseen synthetic scenes, not chosen by score."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import rrsis_zoo
from rrsis_zoo.data.synthetic import make_sample
from rrsis_zoo.figures import PREDICTED, TRUE, heat_overlay, save_figure

OUT = Path(__file__).with_name("hero.png")
MODEL = "mini:rsrefseg"
SAMPLES = ((0, 0), (10, 1), (20, 2), (30, 0))
"""Scene of the test split, and which of its expressions: evenly spaced, so that failures are among them."""


def main() -> None:
    """Write the picture."""
    model = rrsis_zoo.load_model(MODEL)
    figure = Figure(figsize=(12.4, 5.0), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    for part, (index, which) in zip(figure.subfigures(2, 2, wspace=0.03, hspace=0.02).flat, SAMPLES, strict=True):
        sample = make_sample("test", index=index)
        expression = sample.expressions[which]
        image, truth = sample.scene.image, sample.scene.objects[expression.referent].mask
        result = rrsis_zoo.segment(model, image, expression.text)
        mask = result.masks[0]
        union = (mask | truth).sum()
        part.suptitle(f"“{expression.text}”   IoU {(mask & truth).sum() / union:.2f}", fontsize=11, x=0.01, ha="left")
        axes = part.subplots(1, 3)
        axes[0].imshow(image)
        axes[1].imshow(heat_overlay(image, result.heatmaps[0]))
        axes[2].imshow(masked(image, mask))
        axes[2].contour(truth, [0.5], colors=[np.array(TRUE) / 255], linewidths=1.6)
        for axis, title in zip(axes, ("image", "where: heat map", "what: mask (blue: truth)"), strict=True):
            axis.set_axis_off()
            axis.set_title(title, fontsize=9, color="0.35")
    save_figure(figure, OUT)


def masked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the image in grey with the mask in colour, uint8 (H, W, 3)."""
    shown = np.repeat(image.mean(-1, keepdims=True), 3, -1)
    shown[mask] = 0.3 * shown[mask] + 0.7 * np.array(PREDICTED)
    return shown.round().astype(np.uint8)


if __name__ == "__main__":
    main()
