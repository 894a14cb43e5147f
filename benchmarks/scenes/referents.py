"""What is found in large scenes: by windows, by an overview, by both; and all that fits, with and without presence.

    make referents
    make referents ARGS="--model rsrefseg2 --sizes 512 --scenes 12"

On synthetic scenes whose sentences fit one object of the whole scene (`rrsis data make --layout scene`):

* the share of referents found (IoU of the answer's best polygon with the true one at least 0.5), by kind of sentence,
  with `levels` finest (windows alone), overview (the whole scene in one window), and all (coarse to fine, the default);
* F1 of `--find all` for "the ship" and "the red ship": polygons are paired with true ones, one to one, where their IoU
  is at least 0.5. With the presence that the model's calibration asks for, and without. Also asked for what the scene
  does not have.

Answers are kept in `runs/referents`, one file for each scene and setting, and not asked again; remove the folder to do
so. Tables go to `benchmarks/results/scenes`. Intervals are by scene.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import torch

from rrsis_zoo import load_model
from rrsis_zoo.data.synthetic import CATEGORIES, WIDE_KINDS, make_scenes
from rrsis_zoo.data.synthetic.language import CONFUSABLE_CATEGORIES
from rrsis_zoo.metrics.statistics import Interval, scene_interval
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.scenes import segment_scene
from rrsis_zoo.tables.estimates import in_percent
from rrsis_zoo.tables.formats import Cell, Column, Table, number
from rrsis_zoo.version import __version__

LEVELS = {"finest": "windows alone", "overview": "overview alone", "all": "coarse to fine"}
PRESENCE = {"off": "presence off", "calibrated": "presence as calibrated"}
FOUND = 0.5
"""Least IoU of what is found."""

ABSENT = 4
"""Categories that a scene does not have, and that are asked for all the same."""

SPECK_M2 = 15.0
"""What `--min-area` would leave out in the third column: two thirds of the smallest object of a scene."""

RUNS, RESULTS = Path("runs/referents"), Path("benchmarks/results/scenes")


@dataclass(frozen=True)
class Job:
    """One question to one scene: ``find`` and either the levels or the presence."""

    model: str
    seed: int
    size: int
    scene: int
    find: str
    setting: str

    @property
    def path(self) -> Path:
        return RUNS / self.model / f"{self.size}-{self.seed}-{self.scene:03}-{self.find}-{self.setting}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="rsrefseg", help="a trained miniature")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--scenes", type=int, nargs="+", default=[24, 12, 4], help="of each size")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    parser.add_argument("--only", choices=["one", "all"], help="--find one, or --find all")
    options = parser.parse_args()
    if len(options.sizes) != len(options.scenes):
        parser.error("--sizes and --scenes must be as many")
    torch.set_num_threads(1)
    model = load_model(f"mini:{options.model}")
    jobs = planned(options.model, options.seed, options.sizes, options.scenes, options.only)
    for job in jobs:
        if not job.path.is_file():
            root = RUNS / "scenes" / f"{job.size}-{options.seed}"
            count = dict(zip(options.sizes, options.scenes, strict=True))[job.size]
            raster = scene_file(root, job.size, count, options.seed, job.scene)
            write(job.path, ask(model, job, raster))
    answers = [(job, json.loads(job.path.read_text(encoding="utf-8"))) for job in jobs]
    RESULTS.mkdir(parents=True, exist_ok=True)
    for table in tables(options.model, answers):
        (RESULTS / f"{table.name}.md").write_text(table.markdown(), encoding="utf-8")
        (RESULTS / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
        print(table.markdown(), flush=True)


def planned(model: str, seed: int, sizes: Sequence[int], scenes: Sequence[int], only: str | None = None) -> list[Job]:
    """Return all questions, the small scenes first."""
    settings = [("one", name) for name in LEVELS] + [("all", name) for name in PRESENCE]
    return [
        Job(model, seed, size, scene, find, setting)
        for size, count in zip(sizes, scenes, strict=True)
        for scene in range(count)
        for find, setting in settings
        if only in (None, find)
    ]


def scene_file(root: Path, size: int, count: int, seed: int, index: int) -> Path:
    """Return a scene's raster; scenes are made where there are too few."""
    path = root / f"scene_{index:03}.tif"
    if not path.is_file():
        make_scenes(root, scenes=count, size=size, seed=seed, processes=1, overwrite=root.exists())
    return path


def write(path: Path, answer: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(answer), encoding="utf-8")
    temporary.replace(path)


# -- asking ------------------------------------------------------------------------------------------------------------


def ask(model: ReferringSegmenter, job: Job, raster: Path) -> dict[str, Any]:
    """Return the answers to all sentences about a scene, measured."""
    return one_of(model, job.setting, raster) if job.find == "one" else all_of(model, job.setting, raster)


def one_of(model: ReferringSegmenter, levels: str, raster: Path) -> dict[str, Any]:
    """Return for every sentence with one referent the IoU of what was found."""
    truth = geopandas.read_file(raster.with_suffix(".gpkg"), layer="referents")
    began = time.process_time()
    # Every referent is there: which one it is, is the question, not whether.
    found = segment_scene(model, raster, list(truth["text"]), find="one", levels=levels, presence="off")
    seconds = time.process_time() - began
    rows = []
    for text, kind, shape in zip(truth["text"], truth["kind"], truth.geometry, strict=True):
        best = best_polygon(found[found["text"] == text])
        rows.append(
            {
                "text": text,
                "kind": kind,
                "iou": 0.0 if best is None else iou(best.geometry, shape),
                "gsd_m": None if best is None else best["gsd_m"],
            }
        )
    return {"seconds": seconds, "rows": rows}


def best_polygon(found: geopandas.GeoDataFrame) -> Any:
    """Return the row with the highest score × presence, None where there is none: an overview may give several."""
    if found.empty:
        return None
    rank = found["score"] * found["presence"].fillna(1.0)
    return found.iloc[int(np.argmax(rank.to_numpy()))]


def all_of(model: ReferringSegmenter, presence: str, raster: Path) -> dict[str, Any]:
    """Return for every sentence with all its objects how many were found and how many polygons are none of them."""
    truth = geopandas.read_file(raster.with_suffix(".gpkg"), layer="fitting")
    objects = geopandas.read_file(raster.with_suffix(".gpkg"), layer="objects")
    asked = dict(iter(truth.groupby("text", sort=True)))
    nothing = absent(set(objects["category"]))
    began = time.process_time()
    found = segment_scene(model, raster, [*asked, *nothing], find="all", presence="off" if presence == "off" else None)
    seconds = time.process_time() - began
    rows = []
    for text in (*asked, *nothing):
        kind = asked[text]["kind"].iloc[0] if text in asked else "absent"
        true = list(asked[text].geometry) if text in asked else []
        own = found[found["text"] == text]
        large = own[own["area_m2"] >= SPECK_M2]
        rows.append(
            {"text": text, "kind": kind, "true": len(true)}
            | dict(zip(("hits", "found"), matched(true, list(own.geometry)), strict=True))
            | dict(zip(("large_hits", "large_found"), matched(true, list(large.geometry)), strict=True))
        )
    return {"seconds": seconds, "rows": rows}


def absent(present: set[str]) -> list[str]:
    """Return sentences about categories that a scene does not have, nor anything that looks like them."""
    alike = {name for pair in CONFUSABLE_CATEGORIES if pair & present for name in pair}
    return [f"the {name}" for name in sorted(CATEGORIES) if name not in present | alike][:ABSENT]


def matched(true: Sequence[Any], found: Sequence[Any]) -> tuple[int, int]:
    """Return how many true polygons were found, and how many polygons there are.

    At an IoU of 0.5 or more no polygon can have two partners, if those of either side do not overlap each other.
    """
    hits = sum(any(shape.intersects(other) and iou(shape, other) >= FOUND for other in found) for shape in true)
    return hits, len(found)


def iou(first: Any, second: Any) -> float:
    """Return the IoU of two polygons."""
    common = first.intersection(second).area
    return float(common / (first.area + second.area - common))


# -- tables ------------------------------------------------------------------------------------------------------------

Answers = Iterable[tuple[Job, dict[str, Any]]]


def tables(model: str, answers: Answers) -> list[Table]:
    """Return the tables of all answers of one model."""
    answers = list(answers)
    sizes = sorted({job.size for job, _ in answers})
    out = []
    if any(job.find == "one" for job, _ in answers):
        out.append(referents_table(model, sizes, answers))
    if any(job.find == "all" for job, _ in answers):
        out.append(everything_table(model, sizes, answers))
    return out


def referents_table(model: str, sizes: Sequence[int], answers: Answers) -> Table:
    columns = [Column("size", "scene, px"), Column("kind", "sentences", False), Column("sentences", "N")]
    columns += [Column(name, f"{title} [95 %]") for name, title in LEVELS.items()]
    columns += [Column("gain", "coarse to fine − windows [95 %]"), Column("coarse", "answered by a coarse level")]
    rows = []
    for size in sizes:
        for kind in (*WIDE_KINDS, "all kinds"):
            hits, scenes, coarse = {}, [], []
            for name in LEVELS:
                own = _rows(answers, size, "one", name, kind)
                hits[name] = np.array([row["iou"] >= FOUND for _, row in own], float)
                scenes = [scene for scene, _ in own]
                if name == "all":
                    finest = min((row["gsd_m"] for _, row in own if row["gsd_m"]), default=0.5)
                    coarse = [bool(row["gsd_m"]) and row["gsd_m"] > 0.55 for _, row in own]
                    assert finest < 0.55 or all(coarse)
            if not scenes:
                continue
            cells = [_percent(scene_interval(hits[name], scenes)) for name in LEVELS]
            gain = scene_interval(hits["all"] - hits["finest"], scenes)
            first = [Cell(f"{size:,}", size), Cell(kind), Cell(str(len(scenes)), len(scenes))]
            share = 100 * float(np.mean(coarse))
            rows.append([*first, *cells, _points(gain), Cell(f"{number(share, 0)} %", share)])
    counts = ", ".join(f"{len(_scenes(answers, size))} of {size:,} px" for size in sizes)
    return Table(
        f"referents--{model}",
        f"Referents found in large synthetic scenes, in percent: mini:{model}",
        "Sentences that fit one object of the whole scene; found means an IoU of at least 0.5 with its true polygon. "
        "Presence rejects nothing here, since every referent is there.",
        columns,
        rows,
        ["Brackets are 95 % bootstrap intervals that resample whole scenes."],
        {"model": f"mini:{model}", "scenes": counts, "code": __version__},
    )


def everything_table(model: str, sizes: Sequence[int], answers: Answers) -> Table:
    columns = [Column("size", "scene, px"), Column("kind", "sentences", False), Column("sentences", "N")]
    for name, title in PRESENCE.items():
        columns += [Column(f"{name}_f1", f"F1, {title} [95 %]"), Column(f"{name}_precision", "precision")]
        columns += [Column(f"{name}_recall", "recall"), Column(f"{name}_large", f"F1, --min-area {SPECK_M2:g}")]
    rows = []
    for size in sizes:
        for kind in ("category", "attribute", "absent"):
            cells: list[Cell] = []
            count = 0
            for name in PRESENCE:
                own = _rows(answers, size, "all", name, kind)
                count = len(own)
                cells += _absent_cells(own) if kind == "absent" else _f1_cells(own)
            if count:
                rows.append([Cell(f"{size:,}", size), Cell(kind), Cell(str(count), count), *cells])
    counts = ", ".join(f"{len(_scenes(answers, size))} of {size:,} px" for size in sizes)
    return Table(
        f"everything--{model}",
        f"Polygons of --find all in large synthetic scenes, in percent: mini:{model}",
        "Sentences such as *the ship* and *the red ship*, each with all objects that it fits; a polygon is right if "
        "its IoU with one of them is at least 0.5. Rows *absent*: categories that the scene does not have; instead of "
        "F1, the polygons found for one such sentence, all of them wrong.",
        columns,
        rows,
        ["Brackets are 95 % bootstrap intervals that resample whole scenes."],
        {"model": f"mini:{model}", "scenes": counts, "code": __version__},
    )


def _f1_cells(own: list[tuple[str, dict[str, Any]]]) -> list[Cell]:
    if not own:
        return [Cell("–")] * 4
    scenes = [scene for scene, _ in own]

    def of(key: str) -> np.ndarray:
        return np.array([row[key] for _, row in own], float)

    true, hits, found = of("true"), of("hits"), of("found")
    f1 = scene_interval(2 * hits, scenes, weights=true + found)
    large = 200 * of("large_hits").sum() / (true + of("large_found")).sum()
    precision, recall = 100 * hits.sum() / max(1.0, found.sum()), 100 * hits.sum() / true.sum()
    return [_percent(f1), *(Cell(number(value, 1), float(value)) for value in (precision, recall, large))]


def _absent_cells(own: list[tuple[str, dict[str, Any]]]) -> list[Cell]:
    if not own:
        return [Cell("–")] * 4
    mean = scene_interval([row["found"] for _, row in own], [scene for scene, _ in own])
    large = float(np.mean([row["large_found"] for _, row in own]))
    shown = f"{number(mean.mean, 1)} polygons"
    first = Cell(shown, mean.mean, "", _ends(mean), mean.low, mean.high)
    if np.isnan(mean.low):  # a single scene
        first = Cell(shown, mean.mean)
    return [first, Cell("–"), Cell("–"), Cell(f"{number(large, 1)} polygons", large)]


def _rows(answers: Answers, size: int, find: str, setting: str, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (scene, row) of all sentences of a kind."""
    return [
        (str(job.scene), row)
        for job, answer in answers
        if (job.size, job.find, job.setting) == (size, find, setting)
        for row in answer["rows"]
        if kind in (row["kind"], "all kinds")
    ]


def _scenes(answers: Answers, size: int) -> set[int]:
    return {job.scene for job, _ in answers if job.size == size}


def _percent(interval: Interval) -> Cell:
    one = in_percent(interval)
    return Cell(number(one.mean, 1), one.mean, "", _ends(one), one.low, one.high)


def _points(interval: Interval) -> Cell:
    mean, low, high = (100 * value for value in (interval.mean, interval.low, interval.high))
    shown = f"[{number(low, 1, True)}, {number(high, 1, True)}]"
    return Cell(number(mean, 1, True), mean, "", shown, low, high)


def _ends(interval: Interval) -> str:
    return f"[{number(interval.low, 1)}, {number(interval.high, 1)}]"


if __name__ == "__main__":
    main()
