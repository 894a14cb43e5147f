"""Folders of runs as the engine leaves them, with made-up counts."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rrsis_zoo.metrics.breakdown import breakdown, evaluate, without_nan
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.metrics.samples import Counts, Samples, Subject, write_samples

CODE = {"version": "0.1.0", "commit": "c0ffee" * 6 + "abcd", "changed": False, "python": "3.11.7"}
SIDE = 64


@dataclass
class Row:
    """A row of the suite.

    ``quality``: about its mIoU as a ratio, None for a job that fails. ``more``: what else the record of its test says.
    """

    name: str
    quality: float | None
    role: str = "method"
    against: list = field(default_factory=list)
    title: str = ""
    model: str = "rsrefseg"
    preset: str = "tiny"
    more: dict = field(default_factory=dict)


def subjects(dataset, n):
    """Three expressions a scene; four categories, three kinds."""
    texts = ["the red ship", "the ship left of the pier", "a ship", "the large ship in the upper left", "the tank"]
    return [
        Subject(
            f"{dataset}/test/{i // 3}/{i % 3}",
            f"scene{i // 3}",
            texts[i % len(texts)],
            ["ship", "pier", "storage tank", "ship"][i % 4],
            "label",
            ["position", "relation", "category"][i % 3],
        )
        for i in range(n)
    ]


def samples(dataset, n, quality, seed, spread=0.12):
    """Counts of a method of some quality on ``n`` samples; what they are about depends on ``n`` alone."""
    what, how = np.random.default_rng(0), np.random.default_rng((7, seed, int(1e6 * quality)))
    target = what.integers(2, 1500, n)
    hard = np.repeat(what.normal(0, 0.15, n // 3 + 1), 3)[:n]
    share = np.clip(quality + hard + how.normal(0, spread, n) + how.normal(0, 0.02), 0, 1)
    both = np.round(target * share).astype(np.int64)
    predicted = both + how.integers(0, 1 + target // 4)
    either = target + predicted - both
    truth = np.stack([_box(pixels, what) for pixels in target])
    box = np.stack([_box(pixels, how) if pixels else np.zeros(4, np.int64) for pixels in predicted])
    # what two masks have in common lies in both of their boxes
    common = np.clip(np.minimum(box[:, 2:], truth[:, 2:]) - np.maximum(box[:, :2], truth[:, :2]), 0, None).prod(axis=1)
    far, dot = common < both, predicted == 1
    box[far & ~dot] = truth[far & ~dot] = [0, 0, SIDE, SIDE]
    box[far & dot] = np.concatenate([truth[far & dot, :2], truth[far & dot, :2] + 1], axis=1)
    edge = np.stack([both // 3, np.maximum(either // 2, 1)], axis=1)
    size = np.full((n, 2), SIDE)
    rows = np.column_stack([both, either, predicted, size, edge, box, truth, (share > 0.3) & (both > 0)])
    return Samples(subjects(dataset, n), Counts.from_rows(rows))


def _box(pixels, random):
    """Return a box that may hold so many pixels: top, left, bottom, right."""
    height = int(random.integers(-(-pixels // SIDE), SIDE + 1)) if pixels > 1 else 1
    width = int(random.integers(max(-(-pixels // height), 1), SIDE + 1)) if pixels > 1 else 1
    if pixels > 1 and height * width == 1:
        width = 2
    top, left = int(random.integers(0, SIDE - height + 1)), int(random.integers(0, SIDE - width + 1))
    return np.array([top, left, top + height, left + width])


def make(folder, rows, datasets=("synthetic",), seeds=(1, 2), n=45, protocol="canonical", profile=False, split="test"):
    """Write ``suite.json`` and a job for every row, data set and seed; return the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    suite = {
        "schema": 1,
        "name": folder.name,
        "title": "Made up",
        "caption": "Made-up numbers, **not a ranking**; `canonical` & 100 % invented.",
        "protocol": protocol,
        "seeds": list(seeds),
        "datasets": [{"name": d, "title": f"set {d}"} for d in datasets],
        "models": [{"name": r.name, "title": title(r), "role": r.role, "against": r.against} for r in rows],
        "limits": {},
    }
    (folder / "suite.json").write_text(json.dumps(suite))
    for row in rows:
        for dataset in datasets:
            for seed in [None] if row.role == "baseline" else seeds:
                write_job(folder, row, dataset, seed, n, protocol, profile, split)
    return folder


def title(row):
    return row.title or row.name.capitalize()


def write_job(folder, row, dataset, seed, n=45, protocol="canonical", profile=False, split="test"):
    name = f"{row.name}--{dataset}" + ("" if seed is None else f"--seed{seed}")
    home = folder / name
    home.mkdir(exist_ok=True)
    record = {
        "schema": 1,
        "suite": folder.name,
        "name": name,
        "model": row.name,
        "dataset": dataset,
        "seed": seed,
        "title": title(row),
        "key": "k",
        "role": row.role,
        "against": row.against,
        "status": "failed",
        "reason": "Traceback (most recent call last):\nRuntimeError: out of | patience",
        "fit": {"status": 0, "wall_s": 100.0, "cpu_s": 60.0 * (seed or 0) + 30.0, "end": []},
        "result": None,
        "profile": None,
    }
    if row.quality is not None:
        mine = samples(dataset, n, row.quality, seed or 0)
        place = home / "test" / "version_0"
        place.mkdir(parents=True, exist_ok=True)
        write_samples(place / "test_samples.jsonl.gz", mine)
        result = made_result(dataset, row.quality, seed or 0, n, protocol, split, row.model, row.preset)
        result |= row.more
        if row.role == "baseline":
            result = {k: v for k, v in result.items() if k not in ("text_mode", "parameters")}
        record |= {"status": "finished", "reason": "", "result": result}
        record["profile"] = made_profile(row.quality) if profile and row.role != "baseline" and seed == 1 else None
    (home / "job.json").write_text(json.dumps(record))
    return home


def made_result(dataset, quality, seed, n=45, protocol="canonical", split="test", model="rsrefseg", preset="tiny"):
    """``test.json`` of a whole test."""
    mine, rules = samples(dataset, n, quality, seed), get_protocol(protocol)
    return {
        "model": model,
        "preset": preset,
        "protocol": protocol,
        "eval_size": rules.eval_size,
        "text_mode": rules.text_mode,
        "dataset": dataset,
        "split": split,
        "n": n,
        "n_empty": 0,
        "metrics": without_nan(evaluate(mine, rules)),
        "breakdown": without_nan(breakdown(mine, rules)),
        "parameters": {"total": 551_024, "trainable": 500_000, "trained": 400_000},
        "annotations_sha256": "ab" * 32,
        "code": CODE,
    }


def made_profile(x):
    def costs(factor):
        latency = {"median": 0.2 * factor * x, "low": 0.19 * factor * x, "high": 0.23 * factor * x, "n": 9}
        return {
            "flops": int(1e10 * factor * x),
            "latency_s": latency,
            "per_second": 7.5 / factor,
            "peak_bytes": int(2e8 * factor) if factor < 6 else None,
        }

    return {
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,
        "versions": {"torch": "2.15.0"},
        "image": [64, 96],
        "parameters": {"total": 551_024, "trained": 400_000},
        "step": {"batch": 8, **costs(6)},
        "inference": [{"expressions": 1, **costs(1)}, {"expressions": 16, **costs(4)}],
    }
