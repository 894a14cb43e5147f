"""Pictures of large scenes for the documentation: `make figures`. What is there, and what a miniature finds."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import geopandas
import rasterio
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image

import rrsis_zoo
from rrsis_zoo.data.synthetic import make_scenes
from rrsis_zoo.outputs.drawing import COLOURS
from rrsis_zoo.scenes import segment_scene

FOLDER = Path(__file__).parent
MODEL = "mini:rsrefseg"
SHOWN = (1, 4, 8, 12, 16, 17)
"""Sentences of the scene that are shown: of each kind, and a second relation."""
ALL = ("the building", "the vehicle", "the storage tank")
"""What is asked for with find all."""


def main() -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        raster = make_scenes(Path(folder) / "scenes", scenes=1, size=1024, processes=1).scenes[0]
        model = rrsis_zoo.load_model(MODEL)
        save(truth(raster), "scene-truth.webp")
        save(levels(model, raster), "scene-levels.webp")
        save(everything(model, raster), "scene-everything.webp")


def truth(raster: Path) -> Figure:
    """Return a scene with some of its sentences and the objects that they fit."""
    referents = geopandas.read_file(raster.with_suffix(".gpkg"), layer="referents").iloc[list(SHOWN)]
    figure = canvas(10.8, 6.5)
    picture, words = figure.subplots(1, 2, width_ratios=[7.2, 3.4])
    backdrop(picture, raster)
    words.set_axis_off()
    words.set(xlim=(0, 1), ylim=(0, 1))
    for n, (colour, (_, row)) in enumerate(zip(colours(), referents.iterrows(), strict=False), start=1):
        outline(picture, [row.geometry], colour)
        label(picture, row.geometry, str(n), colour)
        y = 0.94 - 0.11 * (n - 1)
        words.text(0.02, y, str(n), color="black", fontsize=11, weight="bold", bbox={"fc": colour, "ec": "none"})
        words.text(0.12, y, row["text"], fontsize=10, wrap=True)
        words.text(0.12, y - 0.036, row["kind"], fontsize=9, color="0.45")
    return figure


def levels(model: Any, raster: Path) -> Figure:
    """Return what windows alone, the overview alone and coarse to fine answer to all sentences of a kind."""
    referents = geopandas.read_file(raster.with_suffix(".gpkg"), layer="referents")
    figure = canvas(12.4, 4.55)
    names = {"finest": "windows alone", "overview": "overview alone", "all": "coarse to fine"}
    for axis, (name, title) in zip(figure.subplots(1, 3), names.items(), strict=True):
        found = segment_scene(model, raster, list(referents["text"]), levels=name, presence="off")
        backdrop(axis, raster, shade=0.45)
        hits = 0
        for text, shape in zip(referents["text"], referents.geometry, strict=True):
            own = found[found["text"] == text]
            if own.empty:
                continue
            best = own.iloc[int((own["score"] * own["presence"]).to_numpy().argmax())].geometry
            common = best.intersection(shape).area
            hit = common / (best.area + shape.area - common) >= 0.5
            hits += hit
            outline(axis, [best], "#2fd96b" if hit else "#ff5a4d", filled=True)
            if not hit:
                axis.annotate(
                    "",
                    shape.centroid.coords[0],
                    best.centroid.coords[0],
                    arrowprops={"arrowstyle": "->", "color": "#ff5a4d", "lw": 0.8, "alpha": 0.7},
                )
        axis.set_title(f"{title}: {hits} of {len(referents)} found", fontsize=11)
    return figure


def everything(model: Any, raster: Path) -> Figure:
    """Return what find all gives with and without presence."""
    fitting = geopandas.read_file(raster.with_suffix(".gpkg"), layer="fitting")
    figure = canvas(12.4, 4.95)
    axes = figure.subplots(1, 3)
    options = {"presence off": "off", "presence as calibrated": None}
    for axis, (title, presence) in zip(axes, options.items(), strict=False):
        found = segment_scene(model, raster, list(ALL), find="all", presence=presence)
        panel(axis, raster, found, f"{title}: {len(found)} polygons")
    true = fitting[fitting["text"].isin(ALL)]
    panel(axes[2], raster, true, f"truth: {len(true)} polygons")
    handles = [axes[1].plot([], [], color=colour, lw=4)[0] for colour, _ in zip(colours(), ALL, strict=False)]
    figure.legend(handles, ALL, loc="outside lower center", ncols=len(ALL), frameon=False, fontsize=10)
    return figure


def panel(axis: Axes, raster: Path, layer: geopandas.GeoDataFrame, title: str) -> None:
    """Draw a layer on the scene, a colour for each sentence."""
    backdrop(axis, raster, shade=0.45)
    for colour, text in zip(colours(), ALL, strict=False):
        outline(axis, layer[layer["text"] == text].geometry, colour, filled=True)
    axis.set_title(title, fontsize=11)


# -- parts -------------------------------------------------------------------------------------------------------------


def canvas(width: float, height: float) -> Figure:
    """Return an empty figure, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure


def backdrop(axis: Axes, raster: Path, shade: float = 1.0) -> None:
    """Show the scene in map coordinates, darker where ``shade`` is below 1."""
    with rasterio.open(raster) as scene:
        pixels, bounds = scene.read().transpose(1, 2, 0), scene.bounds
    extent = (bounds.left, bounds.right, bounds.bottom, bounds.top)
    axis.imshow((pixels * shade).astype("uint8"), extent=extent, interpolation="antialiased")
    axis.set_axis_off()


def outline(axis: Axes, shapes: Iterable[Any], colour: Any, filled: bool = False) -> None:
    """Draw the borders of polygons."""
    for shape in shapes:
        for part in getattr(shape, "geoms", [shape]):
            x, y = part.exterior.xy
            if filled:
                axis.fill(x, y, color=colour, alpha=0.75, lw=0)
            axis.plot(x, y, color="black", lw=2.6, alpha=0.6)
            axis.plot(x, y, color=colour, lw=1.4)


def label(axis: Axes, shape: Any, text: str, colour: Any) -> None:
    """Write beside a polygon."""
    x, _, _, y = shape.bounds
    halo = [withStroke(linewidth=3, foreground="black")]
    axis.annotate(
        text, (x, y), xytext=(-4, 4), textcoords="offset points", color=colour, fontsize=14, weight="bold",
        path_effects=halo, ha="right",
    )  # fmt: skip


def colours() -> Sequence[tuple[float, float, float]]:
    """Return the colours of drawings, as matplotlib takes them."""
    return [(r / 255, g / 255, b / 255) for r, g, b in COLOURS]


def save(figure: Figure, name: str) -> None:
    """Write a figure as WebP."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    Image.open(content).convert("RGB").save(FOLDER / name, quality=82, method=6)
    print(f"{FOLDER / name}: {(FOLDER / name).stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main()
