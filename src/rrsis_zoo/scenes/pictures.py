"""A scene's outcome as a drawing and as a record, the same as those of a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.data.masks import RunLengths, encode_runs
from rrsis_zoo.files import write_json, writing
from rrsis_zoo.outputs.drawing import Drawn, drawing, drawing_size
from rrsis_zoo.outputs.found import Findings, Found
from rrsis_zoo.outputs.record import record
from rrsis_zoo.outputs.shapes import resized
from rrsis_zoo.scenes.outcome import Outcome
from rrsis_zoo.scenes.raster import Source
from rrsis_zoo.scenes.view import View
from rrsis_zoo.scenes.windows import Window
from rrsis_zoo.version import __version__

_BLOCK = 2**22  # pixels of a mask at once


def write_drawing(outcome: Outcome, path: Path) -> None:
    """Write the scene, shrunk, with masks, sentences and scores.

    Raises:
        DataFormatError: the raster has changed or gone.
        OutputError: it cannot be written.
    """
    raster = outcome.raster
    size = drawing_size(raster.height, raster.width)
    limits = None if outcome.limits is None else np.array(outcome.limits)
    with Source(raster) as source:
        view = View(source, min(size[0], raster.height), min(size[1], raster.width), limits)
        pixels = view.read(Window(0, 0, view.height, view.width))[0].transpose(1, 2, 0)
    shown = resized(np.ascontiguousarray(pixels), size)
    drawn = []
    for n, text in enumerate(outcome.texts):
        mask = outcome.mask(n, 0, 0, (view.height, view.width), view.factors)
        area, score = _area(outcome, n), _score(outcome, n)
        presence, needed = _presence(outcome, n)
        drawn.append(Drawn(text, mask, score, area / (raster.height * raster.width), presence, needed))
    footer = f"{outcome.model.method} ({outcome.model.given}), rrsis-zoo {__version__}"
    with writing(path) as temporary:
        Image.Image.save(drawing(shown, drawn, footer), temporary, "PNG")


def write_record(outcome: Outcome, path: Path) -> None:
    """Write COCO run lengths with sentences and scores.

    Raises:
        OutputError: it cannot be written.
    """
    write_json(path, scene_record(outcome))


def scene_record(outcome: Outcome) -> dict:
    """Return the record as plain values, as `rrsis_zoo.outputs.record.record`."""
    raster = outcome.raster
    found = []
    for n, text in enumerate(outcome.texts):
        runs = RunLengths((_runs(outcome, n),), raster.height, raster.width)
        presence, needed = _presence(outcome, n)
        found.append(Found(text, runs, _area(outcome, n), _box(outcome, n), _score(outcome, n), presence, needed))
    findings = Findings(
        raster.path,
        raster.height,
        raster.width,
        tuple(found),
        outcome.settings.threshold,
        outcome.model,
        outcome.limits,
    )
    return record(findings)


def _area(outcome: Outcome, n: int) -> int:
    return sum(region.pixels for region, _ in outcome.answers[n].regions)


def _score(outcome: Outcome, n: int) -> float | None:
    """Return the mean probability inside all polygons of a sentence."""
    regions = [region for region, _ in outcome.answers[n].regions]
    if not regions:
        return None
    return sum(region.score * region.pixels for region in regions) / sum(region.pixels for region in regions)


def _presence(outcome: Outcome, n: int) -> tuple[float | None, float | None]:
    """Return the highest presence of a sentence's polygons, else of its windows, and what was needed."""
    found = [region.presence for region, _ in outcome.answers[n].regions if region.presence is not None]
    if found:
        return max(found), outcome.needed
    seen = [float(tally.presence[n]) for tally in outcome.tallies if tally.presence is not None]
    return (max(seen), outcome.needed) if seen else (None, None)


def _box(outcome: Outcome, n: int) -> tuple[int, int, int, int] | None:
    bounds = np.array([region.polygon.bounds for region, _ in outcome.answers[n].regions])
    if not len(bounds):
        return None
    left, top, right, bottom = (*bounds[:, :2].min(axis=0).astype(int), *bounds[:, 2:].max(axis=0).astype(int))
    return int(left), int(top), int(right - left), int(bottom - top)


def _runs(outcome: Outcome, n: int) -> bytes:
    """Return the run lengths of a mask, down the columns, some columns at a time."""
    raster = outcome.raster
    columns = max(1, _BLOCK // raster.height)
    changes: list[NDArray[np.int64]] = []
    last, done = False, 0
    for left in range(0, raster.width, columns):
        shape = (raster.height, min(columns, raster.width - left))
        flat = outcome.mask(n, 0, left, shape).ravel(order="F")
        changes.append(np.flatnonzero(np.diff(flat, prepend=last)) + done)
        last, done = bool(flat[-1]), done + flat.size
    ends = np.concatenate([*changes, [done]])
    return encode_runs(np.diff(ends, prepend=0).tolist(), raster.height, raster.width)
