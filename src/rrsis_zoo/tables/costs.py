"""The table of what methods cost, from the profiles in the jobs' records. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rrsis_zoo.tables.formats import Cell, Column, Table, millions, number
from rrsis_zoo.tables.runs import Runs, code_versions


def cost_tables(runs: Runs) -> Iterator[Table]:
    """Yield the table of costs, if any job has a profile."""
    profiles: dict[str, Mapping[str, Any]] = {}
    codes = []
    for job in runs.jobs:
        if job.finished and job.record.get("profile") and job.record["model"] not in profiles:
            profiles[job.record["model"]] = job.record["profile"]
            codes.append(job.result["code"])
    if not profiles:
        return
    columns = [Column("method", "method", numeric=False), Column("run", "run", numeric=False)]
    columns += [Column("parameters", "parameters"), Column("trained", "trained"), Column("gflops", "GFLOP")]
    columns += [Column("latency_ms", "latency, ms"), Column("per_second", "expressions / s")]
    columns.append(Column("peak_mb", "peak MB"))
    rows = []
    for model in runs.models:
        if model.role == "baseline":
            continue
        if model.name not in profiles:
            rows.append([Cell(model.title), Cell("not measured"), *[Cell("not measured")] * 6])
            continue
        profile = profiles[model.name]
        size = [millions(profile["parameters"][name]) for name in ("total", "trained")]
        step, inference = profile["step"], profile["inference"]
        parts = [(f"training step, batch {step['batch']}", step)]
        parts += [(_asked(part["expressions"]), part) for part in inference]
        rows += [[Cell(model.title), Cell(what), *size, *_costs(part)] for what, part in parts]
    notes = ["Latency: median after warm-up; in brackets the 10th and 90th percentile of the calls."]
    machines: dict[str, list[str]] = {}
    for name, profile in profiles.items():
        machines.setdefault(_machine(profile), []).append(runs.model(name).title)
    for text, titles in machines.items():
        notes.append(f"{text}: {'; '.join(titles)}" if len(machines) > 1 else text)
    yield Table(
        "profile", f"{runs.title}: cost", "", columns, rows, notes, {"suite": runs.name, "code": code_versions(codes)}
    )


def _asked(expressions: int) -> str:
    return f"inference, {expressions} expression{'s' if expressions > 1 else ''} an image"


def _costs(part: Mapping[str, Any]) -> list[Cell]:
    latency = {name: 1e3 * part["latency_s"][name] for name in ("median", "low", "high")}
    digits = 0 if latency["median"] >= 100 else 1
    shown_ = {name: number(value, digits) for name, value in latency.items()}
    return [
        Cell(number(part["flops"] / 1e9, 1 if part["flops"] < 1e11 else 0), part["flops"] / 1e9),
        Cell(
            shown_["median"],
            latency["median"],
            detail=f"[{shown_['low']}, {shown_['high']}]",
            low=latency["low"],
            high=latency["high"],
        ),
        Cell(number(part["per_second"], 1), part["per_second"]),
        _megabytes(part["peak_bytes"]),
    ]


def _megabytes(count: int | None) -> Cell:
    return Cell("not measured") if count is None else Cell(number(count / 1e6, 0), count / 1e6)


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    image = f", images of {machine['image'][0]} × {machine['image'][1]} pixels" if machine.get("image") else ""
    return f"Measured on {machine['device']}, {machine['dtype']}, threads: {machine['threads']}{image}; {versions}"
