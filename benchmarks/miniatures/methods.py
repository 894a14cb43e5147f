"""Make the trained miniatures that the package ships: `make trained-miniatures`, after `make benchmark`.

Each is the best checkpoint of one training of the embedded suite, without the weights of its foundation models, which
the package has already; rounded to float16, tested and calibrated in this form, and described by a card.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import rrsis_zoo
from rrsis_zoo.data.synthetic import GENERATOR_VERSION
from rrsis_zoo.files import read_json, write_json
from rrsis_zoo.methods.registry import card, list_models
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.metrics.samples import read_samples
from rrsis_zoo.metrics.scores import sample_iou
from rrsis_zoo.metrics.statistics import scene_interval
from rrsis_zoo.pretrained.trained import save_trained
from rrsis_zoo.provenance import code_version
from rrsis_zoo.weights.folders import PRESENCE, WEIGHTS
from rrsis_zoo.weights.sources import MiniSource

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "benchmarks" / "embedded.yaml"
CARD = "card.json"
METHODS = tuple(name for name in list_models() if "mini" in card(name).presets and not card(name).training_free)
FIRST = 20
"""Scenes of the test split whose score a test computes again."""


def make(name: str, runs: Path, seed: int) -> dict[str, Any]:
    """Write a method's miniature into the package and return its card.

    Args:
        name: of the method.
        runs: folder of the finished embedded suite.
        seed: of the training.
    """
    job = runs / f"{name}--synthetic--seed{seed}"
    record = read_json(job / "job.json")
    trained = rrsis_zoo.load_model(job / "fit/version_0/checkpoints/best.ckpt")
    folder = MiniSource(name).folder
    shutil.rmtree(folder, ignore_errors=True)
    save_trained(trained, folder, card(name).presets["mini"].weights)
    content = {
        "name": name,
        "what": "a miniature trained on synthetic scenes by rrsis-zoo; it knows nothing but these scenes",
        "made_by": f"python benchmarks/miniatures/methods.py {name} --seed {seed}",
        "suite": "benchmarks/embedded.yaml",
        "job": job.name,
        "seed": seed,
        "scenes": {"generator": GENERATOR_VERSION},
        "parameters": sum(p.numel() for p in trained.parameters()),
        "sha256": sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
        "scores": scores_of(test(name)),
        "suite_miou": round(record["result"]["metrics"]["miou"], 2),  # of the same checkpoint before rounding
        "training": {"cpu_s": round(record["fit"]["cpu_s"])},
        "code": code_version(),
    }
    write_json(folder / CARD, content)
    calibrate(name)
    return content


def arguments(name: str) -> list[str]:
    """Return the configuration of a method's row in the embedded suite, as arguments of ``rrsis``."""
    suite = yaml.safe_load(SUITE.read_text(encoding="utf-8"))
    configs = [*suite["models"][name]["configs"], *suite["datasets"]["synthetic"]["configs"]]
    return [word for config in configs for word in ("--config", str(ROOT / config))]


def test(name: str) -> Path:
    """Test the shipped miniature on the whole split and return the file of its samples."""
    place = Path(tempfile.mkdtemp())
    command = [
        sys.executable, "-m", "rrsis_zoo.cli", "test", *arguments(name), f"--model.init_args.weights=mini:{name}",
        "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(place), "--trainer.logger.name", "test",
        "--trainer.logger.version", "0", "--trainer.enable_progress_bar", "false",
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT)
    return place / "test/version_0/test_samples.jsonl.gz"


def calibrate(name: str) -> None:
    """Write the presence of the shipped miniature's answers beside its weights."""
    out = MiniSource(name).folder / PRESENCE
    command = [sys.executable, "-m", "rrsis_zoo.cli", "calibrate", "--ckpt", f"mini:{name}", "--out", str(out)]
    subprocess.run([*command, *arguments(name)], check=True, cwd=ROOT)


def scores_of(file: Path) -> dict[str, Any]:
    """Return mIoU with its interval by scene, oIoU, and the mIoU of the first scenes, all in percent."""
    samples = read_samples(file)
    scenes = [subject.scene_id for subject in samples.subjects]
    counts = samples.counts
    iou = sample_iou(counts.intersection, counts.union, get_protocol("canonical"))
    interval = scene_interval(iou, scenes)
    first = set(list(dict.fromkeys(scenes))[:FIRST])
    rows = np.array([scene in first for scene in scenes])
    return {
        "miou": round(100 * float(np.mean(iou)), 2),
        "miou_interval": [round(100 * interval.low, 2), round(100 * interval.high, 2)],
        "oiou": round(100 * float(counts.intersection.sum() / counts.union.sum()), 2),
        "n": len(iou),
        "scenes": len(set(scenes)),
        f"miou_of_{FIRST}_scenes": round(100 * float(np.mean(iou[rows])), 2),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Make the miniatures named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=METHODS, metavar="METHOD", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "embedded", help="folder of the finished suite")
    parser.add_argument("--seed", type=int, default=1, help="of the training (1)")
    options = parser.parse_args(words)
    for name in options.names:
        print(json.dumps(make(name, options.runs, options.seed), indent=1), flush=True)


if __name__ == "__main__":
    main()
