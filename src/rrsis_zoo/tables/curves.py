"""Curves of training runs, from the ``metrics.csv`` in their folders: loss, validation scores, learning rate."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.figures import save_figure
from rrsis_zoo.files import read_text
from rrsis_zoo.shown import short_repr

LOG = "metrics.csv"
_LIMIT = 2**28  # bytes; a step's row takes some 300

_SCORES = {"val/miou": "-", "val/oiou": "--"}
"""Validation scores that are drawn, with their line styles."""

_SMOOTHED = 200
"""Steps from which the loss of single steps is drawn pale, with its running mean over a fiftieth of the run."""

Points = list[tuple[int, float]]


@dataclass(frozen=True)
class Curves:
    """The log of one run.

    Attributes:
        name: of the run.
        points: column -> (optimiser step, value) in order, without gaps and values that are not finite.
    """

    name: str
    points: Mapping[str, Points]

    __repr__ = short_repr


def read_curves(folder: str | Path) -> Curves:
    """Read the log of a training run.

    Args:
        folder: of the run, or its ``metrics.csv``.

    Raises:
        MissingDataError: there is no log.
        DataFormatError: it is not one, or has no value that can be drawn.
    """
    path = Path(folder)
    path = path if path.name == LOG else path / LOG
    try:
        text = read_text(path, _LIMIT, DataFormatError)
    except MissingDataError as error:
        inner = sorted(found.parent.name for found in Path(folder).glob(f"*/{LOG}"))
        hint = f"; it contains the runs {', '.join(inner)}" if inner else "; give the folder of a run of rrsis fit"
        raise MissingDataError(f"{error}{hint}") from error
    try:  # without a line that is just being written
        rows = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))
    except csv.Error as error:
        raise DataFormatError(f"{path} is not a CSV file ({error})") from error
    if not rows or "step" not in rows[0]:
        raise DataFormatError(f"{path} is not the log of a run: it has no rows with a column 'step'")
    points: dict[str, Points] = {}
    for number, row in enumerate(rows, start=2):
        for column, value in row.items():
            if column in ("step", "epoch", None) or not value:
                continue
            try:
                step, parsed = int(row["step"]), float(value)
            except (TypeError, ValueError) as error:
                raise DataFormatError(
                    f"{path}, line {number}: {column} is {value!r} at step {row['step']!r}"
                ) from error
            if math.isfinite(parsed):
                points.setdefault(column, []).append((step, parsed))
    if not any(_panel(column) for column in points):
        raise DataFormatError(f"{path} has neither a loss nor validation scores nor learning rates")
    return Curves(path.parent.name, points)


def named_apart(runs: Sequence[Curves], folders: Sequence[str | Path]) -> list[Curves]:
    """Return the runs under names that differ: with as many parent folders as that takes."""
    parts = [Path(folder).absolute().parts for folder in folders]
    parts = [part[:-1] if part[-1] == LOG else part for part in parts]
    depth = 2  # the folder above says of which method version_0 is
    while len({part[-depth:] for part in parts}) < len(parts) and depth < max(map(len, parts)):
        depth += 1
    names = ["/".join(part[-depth:]) for part in parts]
    return [Curves(name, run.points) for name, run in zip(names, runs, strict=True)]


def curves_figure(runs: Sequence[Curves], path: str | Path) -> None:
    """Draw the curves of several runs into one figure, a colour per run, and write it.

    Raises:
        ConfigError, OutputError: as `rrsis_zoo.figures.save_figure`.
    """
    save_figure(drawn_curves(runs), path)


def drawn_curves(runs: Sequence[Curves]) -> Any:
    """Return the curves of several runs as a ``matplotlib.figure.Figure``."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    panels = [panel for panel in _PANELS if any(_panel(column) == panel for run in runs for column in run.points)]
    figure = Figure(figsize=(4.6 * len(panels), 3.6 + 0.22 * len(runs)), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    axes = dict(zip(panels, figure.subplots(1, len(panels), squeeze=False, sharex=True)[0], strict=True))
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    for number, run in enumerate(runs):
        colour = colours[number % len(colours)]
        for panel, axis in axes.items():
            _PANELS[panel](axis, run, colour)
    for panel, axis in axes.items():
        axis.set_title(panel, fontsize=10)
        axis.set_xlabel("optimiser step", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.yaxis.get_offset_text().set_fontsize(8)
        axis.grid(color="0.9", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        if panel == _VALIDATION:
            axis.set_ylim(bottom=0)
    handles = [Line2D([], [], color=colours[i % len(colours)], label=_text(run.name)) for i, run in enumerate(runs)]
    legend = figure.legend(handles=handles, loc="outside lower center", fontsize=8, frameon=False, ncols=1)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _panel(column: str) -> str | None:
    if column == "train/loss":
        return _LOSS
    if column in _SCORES:
        return _VALIDATION
    return _RATE if column.startswith("lr-") else None


def _draw_loss(axis: Any, run: Curves, colour: Any) -> None:
    points = run.points.get("train/loss", [])
    steps, values = [p[0] for p in points], [p[1] for p in points]
    if len(points) < _SMOOTHED:
        axis.plot(steps, values, color=colour, linewidth=1.4, **_marks(points))
        return
    width = len(points) // 50
    axis.plot(steps, values, color=colour, linewidth=0.6, alpha=0.25)
    means = [sum(values[i - width : i]) / width for i in range(width, len(values) + 1)]
    axis.plot(steps[width - 1 :], means, color=colour, linewidth=1.6)


def _draw_scores(axis: Any, run: Curves, colour: Any) -> None:
    for column, style in _SCORES.items():
        points = run.points.get(column, [])
        axis.plot(*_columns(points), style, color=colour, linewidth=1.4, **_marks(points))
    axis.set_ylabel("%", fontsize=9)


def _draw_rates(axis: Any, run: Curves, colour: Any) -> None:
    drawn: list[Points] = []
    for column, points in run.points.items():
        if _panel(column) == _RATE and points not in drawn:  # most groups have the same
            drawn.append(points)
            axis.plot(*_columns(points), color=colour, linewidth=1.4, **_marks(points))
    axis.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))


def _columns(points: Points) -> tuple[list[int], list[float]]:
    return [p[0] for p in points], [p[1] for p in points]


def _marks(points: Points) -> dict[str, Any]:
    """Return the marks of few points, which a line alone would hide."""
    return {"marker": "o", "markersize": 3.5} if len(points) <= 25 else {}


def _text(name: str) -> str:
    return "".join(c if c.isprintable() else " " for c in name)


_LOSS, _VALIDATION, _RATE = "training loss", "validation: mIoU (line), oIoU (dashed)", "learning rates"
_PANELS = {_LOSS: _draw_loss, _VALIDATION: _draw_scores, _RATE: _draw_rates}
