"""Do EviSAM3's experts do anything? Gradients, size of the correction, score with and without them.

make experts

Trains the tiny preset on the synthetic scenes, once a seed and once a start: `published` begins with gate and factors
of 2.5e-6 together, `open` with 1/2 (setting `expert_start`). All else is equal, the initial weights and the order of
samples included. Finished runs in `runs/experts` are kept.
"""

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from bench.capacity import mean_iou
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.dataset import RRSISDataset, collate
from rrsis_zoo.methods.evisam3.model import EviSAM3
from rrsis_zoo.models.types import Batch

PARTS = {  # parameters of the expert module by what they do
    "heads": ("dense_heads.", "token_heads."),
    "router": ("router.", "beta_text"),
    "gate": ("gate_fc.",),
    "factors": ("gamma",),
    "experts": ("experts.", "clutter_norm."),
}
RATE = 2e-3
SCENES = 8  # a step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300, help="processor time of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--starts", nargs="+", default=["published", "open"])
    parser.add_argument("--samples", type=int, default=450, help="validation expressions that are scored")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = RRSISDataModule("synthetic")
    data.prepare_data()
    runs = [
        run(data, start, seed, options.seconds, options.samples)
        for seed in range(options.seeds)
        for start in options.starts
    ]
    for start in options.starts:
        print_table(start, [r for r in runs if r["start"] == start])


def run(data: RRSISDataModule, start: str, seed: int, seconds: float, samples: int) -> dict:
    """Train and measure once; from the file if it has been done."""
    path = Path("runs/experts") / f"{start}-{seed}-{seconds:g}s-{samples}.json"
    if path.is_file():
        return json.loads(path.read_text())
    torch.manual_seed(seed)
    model = EviSAM3.from_preset("tiny", expert_start=start)
    train = RRSISDataset(data.records("train"))
    model.fit_tokenizer([record.expression for record in train.records])
    parameters = [p for group in model.parameter_groups().values() for p in group]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    began, sizes, step = time.process_time(), [], 0
    for batch in batches(train, seed):
        share = (time.process_time() - began) / seconds
        if share >= 1:
            break
        optimiser.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / 50) * (1 + math.cos(math.pi * share)) / 2
        model.train()
        optimiser.zero_grad()
        model.loss(model(batch, "published"), batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        sizes.append(gradient_sizes(model))
        optimiser.step()
        step += 1
    val = RRSISDataset(data.records("val"))
    result = {
        "start": start,
        "seed": seed,
        "steps": step,
        "gradients_first": sizes[0],
        "gradients_last_tenth": {p: statistics.fmean(s[p] for s in sizes[-max(1, step // 10) :]) for p in PARTS},
        **compare(model, val, samples),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result))
    print(json.dumps(result), flush=True)
    return result


def batches(dataset: RRSISDataset, seed: int) -> Iterator[Batch]:
    """Draw scenes with all their expressions, without end."""
    scenes: dict[str, list[int]] = {}
    for i, record in enumerate(dataset.records):
        scenes.setdefault(record.scene_id, []).append(i)
    order, rng = list(scenes.values()), random.Random(seed)
    while True:
        rng.shuffle(order)
        for first in range(0, len(order) - SCENES + 1, SCENES):
            rows = [i for scene in order[first : first + SCENES] for i in scene]
            yield collate(dataset.__getitems__(rows))


def gradient_sizes(model: EviSAM3) -> dict[str, float]:
    """Root mean square of the clipped gradient over the scalars of each part."""
    out = {}
    for part, prefixes in PARTS.items():
        squares, count = 0.0, 0
        for name, parameter in model.experts.named_parameters():
            if name.startswith(prefixes):
                assert parameter.grad is not None
                squares += parameter.grad.double().square().sum().item()
                count += parameter.numel()
        out[part] = math.sqrt(squares / count)
    return out


@torch.no_grad()
def compare(model: EviSAM3, dataset: RRSISDataset, samples: int) -> dict:
    """Score the same weights with the experts and with their two factors at 0, and say how far apart the two are."""
    model.eval()
    factors = (model.experts.gamma, model.experts.gamma_tok)
    trained = [factor.item() for factor in factors]
    rows = range(min(samples, len(dataset)))
    chunks = [collate(dataset.__getitems__(rows[i : i + 48])) for i in range(0, len(rows), 48)]
    readings, scores, flipped, pixels = [], {"with": [], "without": []}, 0, 0
    for batch in chunks:
        answers = {}
        for way in scores:
            for factor, value in zip(factors, trained, strict=True):
                factor.fill_(value if way == "with" else 0.0)
            scores[way].append(mean_iou(model, batch) * len(batch))
            answers[way] = model(batch)
            if way == "with":
                readings.append({k: v.item() for k, v in model.readings(answers[way]).items()})
        decided = [answers[way].mask_logits > 0 for way in scores]
        flipped += (decided[0] != decided[1]).sum().item()
        pixels += decided[0].numel()
    return {
        "readings": {name: statistics.fmean(r[name] for r in readings) for name in readings[0]},
        "miou_with": 100 * sum(scores["with"]) / len(rows),
        "miou_without": 100 * sum(scores["without"]) / len(rows),
        "flipped": flipped / pixels,
    }


def print_table(start: str, runs: list[dict]) -> None:
    print(f"\nstart `{start}`")
    print("| | " + " | ".join(f"seed {r['seed']}" for r in runs) + " |")
    print("|---|" + "---:|" * len(runs))
    lines = {
        "steps": [str(r["steps"]) for r in runs],
        "mIoU with experts": [f"{r['miou_with']:.2f}" for r in runs],
        "mIoU without": [f"{r['miou_without']:.2f}" for r in runs],
        "decisions that differ": [f"{100 * r['flipped']:.4f} %" for r in runs],
        "correction of z, rms": [f"{r['readings']['expert_correction']:.1e}" for r in runs],
        "spread of z0": [f"{r['readings']['prior_spread']:.2f}" for r in runs],
        "extra token, norm": [f"{r['readings']['extra_token']:.1e}" for r in runs],
        "gate": [f"{r['readings']['expert_gate']:.5f}" for r in runs],
        "gamma": [f"{r['readings']['expert_gamma']:.2e}" for r in runs],
        "rectification of vision, gate · scale": [f"{r['readings']['rectify_vision']:.1e}" for r in runs],
    }
    for part in PARTS:
        lines[f"gradient of {part}, first step"] = [f"{r['gradients_first'][part]:.1e}" for r in runs]
        lines[f"gradient of {part}, last tenth"] = [f"{r['gradients_last_tenth'][part]:.1e}" for r in runs]
    for name, cells in lines.items():
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
