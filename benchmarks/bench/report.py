"""The report of a suite: a single HTML file that works without network. No torch.

Results come first: the main table, the quality of each method, the hardest samples of the gallery; everything else is
folded below. Everything comes from the folder of the runs: the tables of ``rrsis_zoo.tables.suite_tables``, curves and
bars from the jobs' per-sample files and records, costs from their profiles, pictures from their galleries.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench import pictures
from bench.charts import (
    Axis,
    Point,
    Series,
    Spread,
    bars,
    curves,
    dots,
    linear,
    logarithmic,
    scatter,
    start_note,
    zoomed,
)
from rrsis_zoo.escape import slug
from rrsis_zoo.files import write_text
from rrsis_zoo.methods.registry import methods
from rrsis_zoo.metrics.breakdown import NO_CATEGORY
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.metrics.scores import sample_iou, score
from rrsis_zoo.tables.formats import Cell, Table, caption, html_prose
from rrsis_zoo.tables.published import has_ours
from rrsis_zoo.tables.records import on_made_scenes
from rrsis_zoo.tables.runs import JobRecord, Model, Runs, read_runs
from rrsis_zoo.tables.suite_tables import tables_of

THRESHOLDS = tuple(round(0.02 * i, 2) for i in range(1, 50))
"""Thresholds t of the curves of Pr@t."""


def write_report(runs_folder: str | Path, out: str | Path, tables: Mapping[str, Table] | None = None) -> Path:
    """Write the report of a suite's runs.

    Args:
        runs_folder: of the suite, with ``suite.json``.
        out: the HTML file; its folder is created.
        tables: name -> table; None for all of ``rrsis_zoo.tables.suite_tables.tables_of``, without the literature.

    Returns:
        ``out``.

    Raises:
        MissingDataError: the runs do not exist.
        DataFormatError: they are damaged.
        OutputError: the file cannot be written.
    """
    runs, out = read_runs(runs_folder), Path(out)
    page = render(runs, list((tables_of(runs) if tables is None else tables).values()))
    write_text(out, page)
    return out


def render(runs: Runs, tables: Sequence[Table]) -> str:
    """Return the page."""
    main = {_main_of(runs, name): name for name in runs.datasets}
    shown = [table for table in tables if table.name != "published" or has_ours(table)]  # else: a table of "not run"
    said = {str(note) for table in shown if table.name in main for note in table.remarks()}
    results = {main[table.name]: table for table in shown if table.name in main}
    return _page(
        name=runs.name,
        title=runs.title,
        caption=runs.caption,
        statement=statement(runs),
        reading=[reading(name) for name in _distinct(runs, "protocol")],
        facts=_facts(runs),
        datasets=[_dataset(runs, name, title, results.get(name)) for name, title in runs.datasets.items()],
        tables=[_folded(table, runs, said) for table in shown if table.name not in main],
        jobs=[_job(job) for job in runs.jobs],
        not_run=_not_run(runs),
        left_out=runs.left_out,
        machines=_machines(runs),
    )


def _page(**content: Any) -> str:
    environment = Environment(
        loader=PackageLoader("bench", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "prose": lambda text: Markup(html_prose(caption(text))),
        "percent": lambda x: "–" if x is None else f"{x:.1f}",
    }
    script, _, _ = environment.loader.get_source(environment, "report.js")  # type: ignore[union-attr]
    return environment.get_template("report.html.j2").render(
        **content,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        truth_colour=_css(pictures.TRUE),
        mask_colour=_css(pictures.PREDICTED),
    )


def _main_of(runs: Runs, dataset: str) -> str:
    """Return the name of a data set's main table."""
    return "main" if len(runs.datasets) == 1 else f"main--{slug(dataset)}"


# -- meaning of the numbers --------------------------------------------------------------------------------------------


def statement(runs: Runs) -> str:
    """Return the meaning of the numbers according to the results: miniatures, synthetic scenes, or neither."""
    results = [job.result for job in _finished(runs)]
    if not results:
        return "No job has finished yet: there are no numbers."
    tiny = any(_tiny(r) for r in results)
    made = any(on_made_scenes(r) for r in results)
    parts = []
    if tiny:
        parts.append(
            "The models are miniatures: the methods' own programs at a small fraction of the published sizes, trained "
            "for minutes."
        )
    if made:
        parts.append("The synthetic scenes are drawn by a program; they are no aerial photographs.")
    if parts:
        parts.append(
            "The numbers show that the methods learn and run. They are not a ranking of the published methods and must "
            "not be put beside published results."
        )
    else:
        parts.append(
            "Every number comes from a training of this project, not from a paper; only the table of published results "
            "repeats what papers print."
        )
    return " ".join(parts)


def _tiny(result: Mapping[str, Any]) -> bool:
    known, name = methods().get(result["model"]), str(result.get("preset") or "")
    if known is None or name not in known.card.presets:  # of another version
        return name.startswith(("tiny", "mini"))
    return known.card.presets[name].small


def reading(name: str) -> str:
    """Return a protocol's rules as text."""
    p = get_protocol(name)
    grid = "at the size of their image" if p.eval_size == "native" else f"at {p.eval_size} × {p.eval_size} pixels"
    empty = "has no IoU" if math.isnan(p.both_empty) else f"scores {p.both_empty:.0f}"
    sentences = "every sentence is a sample" if p.sentences == "all" else "only a reference's first sentence is one"
    text = (
        "each sentence is read as if it were alone"
        if p.text_mode == "independent"
        else "sentences are padded together with their batch mates, as in the published programs"
    )
    sign = "≥" if p.comparison == ">=" else ">"
    return (
        f"Protocol {p.name}: masks are compared {grid}; oIoU is the sum of intersections over the sum of unions, mIoU "
        f"the mean of the samples' IoU; Pr@t is the share of samples with IoU {sign} t; a pair of two empty masks "
        f"{empty}; {sentences}. Text mode {p.text_mode}: {text}. Numbers under another protocol or text mode answer "
        "another question and are not comparable."
    )


def _folded(table: Table, runs: Runs, said: Iterable[str]) -> dict[str, Any]:
    """Return a table below the results, without the notes that stand there already."""
    brief = table.title.removeprefix(runs.title).lstrip(" :") or table.title
    brief = brief if brief.startswith("mIoU") else brief[0].upper() + brief[1:]
    return {
        "name": table.name,
        "brief": brief,
        "rows": Markup(table.html_rows()),
        "notes": [Markup(html_prose(note)) for note in table.remarks() if str(note) not in said],
    }


def _facts(runs: Runs) -> list[tuple[str, str]]:
    finished = _finished(runs)
    results_of = {job.record["dataset"]: job.result for job in finished}
    data = [
        f"{name}, {results_of[name]['split']}: {results_of[name]['n']:,} expressions"
        for name in runs.datasets
        if name in results_of
    ]
    return [
        ("Data", "; ".join(data) or "–"),
        ("Protocol", ", ".join(_distinct(runs, "protocol")) or "–"),
        ("Text mode", ", ".join(_distinct(runs, "text_mode")) or "–"),
        ("Seeds", ", ".join(map(str, sorted({j.seed for j in runs.jobs if j.seed is not None}))) or "–"),
        ("Jobs", _counted(runs)),
        ("Code", "; ".join(sorted({_commit(job.result) for job in finished})) or "–"),
    ]


def _counted(runs: Runs) -> str:
    """Return how many of the suite's trainings are finished; a baseline is no training."""
    trained = [job for job in runs.jobs if runs.model(job.record["model"]).role != "baseline"]
    number = len(runs.datasets) * sum(len(model.seeds) for model in runs.models if model.role != "baseline")
    words = [job.word for job in trained if not job.finished] + ["not run"] * (number - len(trained))
    rest = [f"{words.count(word)} {word}" for word in dict.fromkeys(words)]
    rest += [f"and {n} baseline{'s' if n != 1 else ''}"] if (n := len(runs.jobs) - len(trained)) else []
    return ", ".join([f"{number - len(words)} of {number} finished", *rest])


def _not_run(runs: Runs) -> list[str]:
    """Return what the suite has and no job has done yet."""
    known = {(job.record["model"], job.record["dataset"], job.seed) for job in runs.jobs}
    return [
        f"{model.title}, {dataset}{'' if seed is None else f', seed {seed}'}"
        for dataset in runs.datasets
        for model in runs.models
        for seed in model.seeds
        if (model.name, dataset, seed) not in known
    ]


def _distinct(runs: Runs, key: str) -> list[str]:
    return sorted({str(job.result[key]) for job in _finished(runs) if key in job.result})  # a baseline has no text mode


def _commit(result: Mapping[str, Any]) -> str:
    code = result["code"]
    commit = code.get("commit")
    return (
        f"{code['version']}" + (f" at {commit[:10]}" if commit else "") + (", changed" if code.get("changed") else "")
    )


def _job(job: JobRecord) -> dict[str, Any]:
    record = job.record
    result = record["result"] if job.finished else {}
    trained = job.finished and bool(record.get("fit"))
    return {
        "name": job.name,
        "title": record["title"],
        "dataset": record["dataset"],
        "seed": "–" if job.seed is None else str(job.seed),
        "status": record["status"] if job.finished else job.word,
        "reason": "" if job.finished else job.reason,
        "minutes": f"{record['fit']['cpu_s'] / 60:.1f}" if trained else "–",
        "miou": result["metrics"].get("miou") if result else None,
        "code": _commit(result) if result else "–",
        "weights": str(result.get("weights_sha256") or "–")[:12],
        "data": str(result.get("annotations_sha256") or "–")[:12],
        "key": str(record["key"])[:12],
    }


def _machines(runs: Runs) -> list[str]:
    machines = []
    for job in runs.jobs:
        if profile := job.record.get("profile"):
            versions = ", ".join(f"{name} {v}" for name, v in profile["versions"].items() if v)
            machines.append(f"{profile['device']}, {profile['dtype']}, threads: {profile['threads']}; {versions}")
    return sorted(set(machines))


# -- charts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A model on one dataset.

    Attributes:
        model: the row of the suite.
        series: its appearance.
        jobs: its finished jobs.
    """

    model: Model
    series: Series
    jobs: tuple[JobRecord, ...]

    def metric(self, name: str) -> list[float]:
        """Return a metric of each job, in percent."""
        values = [job.result["metrics"].get(name) for job in self.jobs]
        return [float(v) for v in values if v is not None]

    def profile(self) -> Mapping[str, Any] | None:
        """Return the first profile."""
        return next((job.record["profile"] for job in self.jobs if job.record.get("profile")), None)


def rows_of(runs: Runs, dataset: str) -> list[Row]:
    """Return the models with results on a dataset; a model has the same appearance on all of them."""
    rows = []
    # the first colours for those that compete
    for i, model in enumerate(sorted(runs.models, key=lambda m: not m.ranked)):
        jobs = tuple(job for job in runs.of(model.name, dataset) if job.finished)
        if jobs:
            rows.append(Row(model, Series(model.title, i, model.ranked), jobs))
    return rows


def _dataset(runs: Runs, dataset: str, title: str, main: Table | None) -> dict[str, Any]:
    rows = _signed(rows_of(runs, dataset), main)
    competing = [row for row in rows if row.model.ranked]
    first = [quality_chart(rows, main), cost_chart(competing, "parameters")]
    more = [
        precision_chart(rows),
        cost_chart(competing, "latency"),
        class_chart(rows, "kind", "mIoU by kind of expression"),
        class_chart(competing, "category", "mIoU by category of the referent"),
    ]
    return {
        "name": slug(dataset),
        "title": title,
        "main": main and _main_table(main),
        "legend": [{"title": row.series.title, "swatch": Markup(row.series.swatch())} for row in rows],
        "first": [_drawn(chart) for chart in first if chart],
        "more": [_drawn(chart) for chart in more if chart],
        "without_profile": [row.model.title for row in competing if row.profile() is None],
        "gallery": gallery(rows),
    }


def _main_table(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "rows": Markup(table.html_rows()),
        "footnotes": [
            {"sign": note.sign, "text": note.text, "kind": "warns" if note.warns else "says"}
            for note in table.footnotes
        ],
        "notes": [Markup(html_prose(note)) for note in table.notes],
        "provenance": table.provenance_line(),
    }


def _drawn(chart: Mapping[str, str]) -> dict[str, str]:
    return {**chart, "svg": Markup(chart["svg"])}


def quality_chart(rows: Sequence[Row], main: Table | None) -> dict[str, str] | None:
    """Return the mIoU of every method, with the interval of the main table and each training run.

    Where the axis begins at 0, everything is drawn. Otherwise baselines and ablations are drawn if they lie where the
    methods do, and are named below if not.
    """
    cells = _scores(main)
    spreads = []
    for row in rows:
        if not (values := row.metric("miou")):
            continue
        cell = cells.get(row.model.title)
        interval = None if cell is None or cell.low is None or cell.high is None else (cell.low, cell.high)
        spreads.append((row, Spread(row.series, math.fsum(values) / len(values), values, interval)))
    competing = [spread for row, spread in spreads if row.model.ranked] or [spread for _, spread in spreads]
    if not competing:
        return None
    axis = zoomed("mIoU, %", [v for s in competing for v in (*s.runs, *(s.interval or ()))])
    if axis.low <= 0:
        axis = linear(axis.label, [v for _, s in spreads for v in (*s.runs, *(s.interval or ()))], low=0)
    drawn = [s for row, s in spreads if s in competing or axis.low <= s.value <= axis.high]
    outside = [f"{s.series.title} {s.value:.1f}" for _, s in spreads if s not in drawn]
    notes = ["Mark: mean." + (" Small dots: single training runs." if any(len(s.runs) > 1 for s in drawn) else "")]
    notes += ["Whisker: 95 % interval."] if any(s.interval for s in drawn) else []
    notes += [start_note(axis)] if axis.low > 0 else []
    notes += [f"Off the axis: {'; '.join(outside)}."] if outside else []
    aside = [spread for row, spread in spreads if _sign(row, cells)]
    notes += ["‡: contaminated, so not ranked."] if aside else []
    drawn.sort(key=lambda spread: (spread in aside, -spread.value))
    title = "mIoU of every method"
    return {"title": title, "svg": dots(title, axis, drawn, " %"), "note": " ".join(notes)}


def _scores(main: Table | None) -> dict[str, Cell]:
    """Return title of a row -> its mIoU in the main table."""
    if main is None:
        return {}
    (place,) = [i for i, column in enumerate(main.columns) if column.key == "miou"]
    return {row[0].text: row[place] for row in main.rows}


def _signed(rows: Sequence[Row], main: Table | None) -> list[Row]:
    """Return the rows with the signs of their footnotes behind the titles of those that are contaminated."""
    cells = _scores(main)
    titles = [f"{row.series.title} {_sign(row, cells)}".strip() for row in rows]
    return [replace(row, series=replace(row.series, title=title)) for row, title in zip(rows, titles, strict=True)]


def _sign(row: Row, cells: Mapping[str, Cell]) -> str:
    """Return the sign of a contaminated row's footnote; empty for any other."""
    cell = cells.get(row.model.title)
    return "" if cell is None or cell.footnote is None or not cell.footnote.warns else cell.footnote.sign


def precision_chart(rows: Sequence[Row]) -> dict[str, str] | None:
    """Return Pr@t over t, averaged over a model's training runs, from the per-sample counts."""
    lines = []
    for row in rows:
        values = []
        for job in row.jobs:
            protocol = get_protocol(job.result["protocol"])
            counts = job.samples.counted(protocol).counts
            numbers = score(counts.intersection, counts.union, protocol, THRESHOLDS)
            values.append([numbers[f"pr@{t}"] for t in THRESHOLDS])
        lines.append((row.series, list(zip(THRESHOLDS, np.mean(values, axis=0).tolist(), strict=True))))
    if not lines:
        return None
    title = "Precision at every threshold"
    axes = Axis("IoU threshold t", 0, 1), Axis("Pr@t, % of the samples", 0, 100)
    note = "Further up is better; tables print t = 0.5 to 0.9. Mean over seeds."
    return {"title": title, "svg": curves(title, *axes, lines), "note": note}


def cost_chart(rows: Sequence[Row], cost: str) -> dict[str, str] | None:
    """Return mIoU over ``latency`` of one image with one expression, or over ``parameters``; None without values."""
    points = []
    for row in rows:
        miou, profile = row.metric("miou"), row.profile()
        if not miou:
            continue
        mean, y_range = math.fsum(miou) / len(miou), (min(miou), max(miou)) if len(miou) > 1 else None
        if cost == "parameters":
            parameters = row.jobs[0].result.get("parameters")
            if not parameters or not parameters["total"]:
                continue  # unknown; a logarithmic axis has no 0
            total = parameters["total"] / 1e6
            points.append(Point(row.series, total, mean, f"{total:.2f} M parameters, mIoU {mean:.1f}", None, y_range))
        elif profile and (one := [i for i in profile["inference"] if i["expressions"] == 1]):
            time = {name: 1000 * one[0]["latency_s"][name] for name in ("median", "low", "high")}
            parameters = f"{time['median']:.1f} ms, mIoU {mean:.1f}"
            points.append(Point(row.series, time["median"], mean, parameters, (time["low"], time["high"]), y_range))
    if not points:
        return None
    what, label, note = {
        "parameters": ("mIoU and parameters", "parameters, million (logarithmic)", ""),
        "latency": (
            "mIoU and latency",
            "time for one image and one expression, ms (logarithmic)",
            "Whiskers across: 10th to 90th percentile of the calls. ",
        ),
    }[cost]
    spread = "Whiskers up and down: lowest and highest seed." if any(p.y_range for p in points) else ""
    x_values = [x for p in points for x in (p.x, *(p.x_range or ()))]
    y_values = [y for p in points for y in (p.y, *(p.y_range or ()))]
    axes = logarithmic(label, x_values), zoomed("mIoU, %", y_values)
    return {
        "title": what,
        "svg": scatter(what, *axes, points),
        "note": f"Further up and left is better. {note}{spread} {start_note(axes[1])}".strip(),
    }


def class_chart(rows: Sequence[Row], name: str, title: str) -> dict[str, str] | None:
    """Return bars of mIoU by ``kind`` or ``category``, means over seeds, the easiest class first."""
    values_of: dict[str, list[tuple[Series, float]]] = {}
    sizes: dict[str, int] = {}
    for row in rows:
        tables = [job.result.get("breakdown", {}).get(f"per_{name}_miou", {}) for job in row.jobs]
        for job in row.jobs:
            sizes |= job.result.get("breakdown", {}).get(f"per_{name}_n", {})
        for key in sorted({key for table in tables for key in table}):
            values = [table[key] for table in tables if table.get(key) is not None]
            if values:
                values_of.setdefault(key, []).append((row.series, math.fsum(values) / len(values)))
    if not values_of or set(values_of) == {NO_CATEGORY}:
        return None
    order = sorted(values_of, key=lambda key: -math.fsum(value for _, value in values_of[key]) / len(values_of[key]))
    most = max(value for values in values_of.values() for _, value in values)
    groups = [(f"{key} ({sizes[key]})" if key in sizes else key, values_of[key]) for key in order]
    svg = bars(title, linear("mIoU, %", [0, most], low=0), groups, " %")
    return {"title": title, "svg": svg, "note": "In brackets: number of expressions. Mean over seeds."}


# -- gallery -----------------------------------------------------------------------------------------------------------


def gallery(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Return the pictures of each model's first training run; None if no job has any.

    IoU is that of the per-sample file, under the protocol of the run.
    """
    methods, cards = [], {}
    for row in rows:
        job = row.jobs[0]
        shown = pictures.read_gallery(job.place)
        if not shown:
            continue
        methods.append({"name": row.model.name, "title": row.model.title, "seed": job.seed})
        iou = _iou(job)
        for sample in shown:
            name = sample["sample_id"]
            if name not in cards:
                cards[name] = _card(sample, len(cards))
            value = iou.get(name)
            cards[name]["iou"][row.model.name] = value
            cards[name]["answers"][row.model.name] = {
                "mask": pictures.predicted(sample["mask"]),
                "heat": pictures.heat(sample["heatmap"]),
                "score": "no IoU" if value is None else f"{value:.2f}",
            }
    if not methods:
        return None
    for card in cards.values():
        card["iou_json"] = json.dumps(card["iou"])
        card["best"] = max((value for value in card["iou"].values() if value is not None), default=2.0)
    return {
        "methods": methods,
        "trainings": _trainings(methods),
        "cards": sorted(cards.values(), key=lambda card: card["best"]),  # the hardest for all first
        "kinds": sorted({card["kind"] for card in cards.values() if card["kind"]}),
        "categories": sorted({card["category"] for card in cards.values() if card["category"]}),
    }


def _trainings(methods: Sequence[Mapping[str, Any]]) -> str:
    """Return the shown training run of each method, as the end of a sentence."""
    seeds = {m["seed"] for m in methods}
    if len(seeds) == 1:
        return f"; shown are the trainings with seed {seeds.pop()}"
    return "; shown are the trainings " + ", ".join(f"{m['title']}, seed {m['seed']}" for m in methods)


def _card(sample: Mapping[str, Any], chosen: int) -> dict[str, Any]:
    uri, width, height = pictures.photograph(sample["image"])
    return {
        "chosen": chosen,
        "sample_id": sample["sample_id"],
        "expression": sample["expression"],
        "category": sample["category"] or "",
        "kind": sample["kind"] or "",
        "no_target": sample.get("no_target", False),
        "photo": Markup(uri),
        "width": width,
        "height": height,
        "truth": Markup(pictures.true(sample["truth"])),
        "outline": Markup(pictures.outline(sample["truth"])),
        "iou": {},
        "answers": {},
    }


def _iou(job: JobRecord) -> dict[str, float | None]:
    protocol = get_protocol(job.result["protocol"])
    samples = job.samples.counted(protocol)
    values = sample_iou(samples.counts.intersection, samples.counts.union, protocol).tolist()
    return {s.sample_id: None if math.isnan(v) else v for s, v in zip(samples.subjects, values, strict=True)}


# -- small things ------------------------------------------------------------------------------------------------------


def _finished(runs: Runs) -> list[JobRecord]:
    return [job for job in runs.jobs if job.finished]


def _css(colour: Iterable[int]) -> str:
    return "rgb({} {} {})".format(*colour)
