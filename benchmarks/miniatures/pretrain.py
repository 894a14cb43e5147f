"""Pretrain a miniature foundation model: `make miniatures`, or `python benchmarks/miniatures/pretrain.py NAME`.

Each takes some minutes of a GPU; those that were made on one thread of a CPU took 13 to 43. A run that was stopped goes
on where it was (the same steps as without the stop: each draws its chance from seed and number alone; on a CPU, to the
same weights). What is written is what the package ships: float16 weights in the official names, tokenizer files, and a
card.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from image_text import Contrastive, Matching, grounding, retrieval
from promptable import Promptable
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rrsis_zoo.data.synthetic import GENERATOR_VERSION
from rrsis_zoo.provenance import code_version
from scenes import SEED, UNSEEN_SEED, PretrainingScene, scenes


@dataclass(frozen=True)
class Recipe:
    """How long a miniature learns: optimiser steps, images a step, scenes to draw from; and the seed of what ships."""

    steps: int
    images: int
    scenes: int
    seed: int = 0


RECIPES = {
    "sam": Recipe(3_000, 12, 5_000),
    "sam2": Recipe(3_000, 12, 5_000),
    "sam3": Recipe(1_500, 24, 20_000),
    "siglip": Recipe(2_400, 24, 5_000),
    "beit3": Recipe(5_000, 24, 20_000, seed=1),  # the better one of 0 and 1 on scenes that are not those of the scores
}
"""Miniature -> how it is made."""

LEARNING_RATE, WARMUP, WEIGHT_DECAY, FLOOR = 2e-3, 200, 0.05, 0.02

WEIGHTS, CARD = "model.safetensors", "card.json"
UNSEEN = 300  # scenes for the scores
SAVE_EVERY_S = 60.0
LOG_EVERY = 50  # steps


def build(name: str, texts: Sequence[str], seed: int) -> Promptable | Contrastive | Matching:
    """Make a miniature with random weights; the vocabulary of those that read is learned from the texts."""
    torch.manual_seed(seed)
    if name in ("sam", "sam2", "sam3"):
        return Promptable(name)
    kind = Contrastive if name == "siglip" else Matching
    return kind(kind.tokenizer_kind.from_expressions(texts, *kind.text_limits))


def train(
    model: Promptable | Contrastive | Matching,
    data: Sequence[PretrainingScene],
    recipe: Recipe,
    run: Path,
    workers: int = 0,
) -> dict[str, float]:
    """Train to the last step, from where an earlier call was stopped; return processor and wall time in seconds.

    Args:
        model: on its device.
        data: scenes to draw from.
        recipe: its steps, images a step and seed.
        run: folder of checkpoint and log.
        workers: processes that draw the steps' questions; none draws them here.
    """
    run.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    optimiser = torch.optim.AdamW(_groups(model), lr=LEARNING_RATE, betas=(0.9, 0.98))
    done, spent, saved = 0, {"cpu_s": 0.0, "wall_s": 0.0}, run / "last.pt"
    if saved.is_file():
        state = torch.load(saved, weights_only=True, map_location=device)
        if state["recipe"] != [recipe.steps, recipe.images] or state["seed"] != recipe.seed:
            raise SystemExit(f"{saved} is of another run ({state['recipe']}, seed {state['seed']}): remove it")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        done, spent = state["done"], state["spent"]
        print(f"going on after step {done}", flush=True)
    cpu, wall, last = time.process_time(), time.perf_counter(), time.perf_counter()
    sums: dict[str, Tensor] = {}
    model.train()
    steps = DataLoader(
        _Steps(model, data, recipe, done), batch_size=None, num_workers=workers, pin_memory=device.type == "cuda"
    )
    for step, asked in enumerate(steps, done):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * _schedule(step, recipe.steps)
        terms = model.loss({name: tensor.to(device, non_blocking=True) for name, tensor in asked.items()})
        optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        for key, value in terms.items():
            sums[key] = sums.get(key, 0.0) + value.detach() / LOG_EVERY
        end = step + 1 == recipe.steps
        if (step + 1) % LOG_EVERY == 0:
            entry = {key: round(float(value), 5) for key, value in sums.items()}
            seconds = round(spent["wall_s"] + time.perf_counter() - wall, 2)
            with (run / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps({"step": step + 1, "wall_s": seconds, **entry}) + "\n")
            sums = {}
        if end or time.perf_counter() - last > SAVE_EVERY_S:
            last = time.perf_counter()
            now = {"cpu_s": spent["cpu_s"] + time.process_time() - cpu, "wall_s": spent["wall_s"] + last - wall}
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "done": step + 1}
            torch.save(
                {**state, "recipe": [recipe.steps, recipe.images], "seed": recipe.seed, "spent": now}, run / "new.pt"
            )
            (run / "new.pt").replace(saved)
            if end:
                return now
    return spent


class _Steps(Dataset):
    """What every step asks, from the first that is not done to the last."""

    def __init__(
        self, model: Promptable | Contrastive | Matching, data: Sequence[PretrainingScene], recipe: Recipe, done: int
    ) -> None:
        self.draw, self.data, self.recipe, self.done = model.draw, data, recipe, done

    def __len__(self) -> int:
        return self.recipe.steps - self.done

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        chance = np.random.default_rng([self.recipe.seed, self.done + index])
        chosen = chance.choice(len(self.data), self.recipe.images, replace=False)
        return self.draw([self.data[i] for i in chosen], chance)


def _groups(model: nn.Module) -> list[dict[str, object]]:
    """Weight decay for matrices and kernels only."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    return [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]


def _schedule(step: int, steps: int) -> float:
    if step < WARMUP:
        return (step + 1) / WARMUP
    share = (step - WARMUP) / max(1, steps - WARMUP)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * share))


def score(model: Promptable | Contrastive | Matching, unseen: Sequence[PretrainingScene]) -> dict[str, float]:
    """Return the scores of the card."""
    return model.score(unseen) if isinstance(model, Promptable) else retrieval(model, unseen) | grounding(model, unseen)


def write(model: Promptable | Contrastive | Matching, out: Path) -> str:
    """Write weights and tokenizers; return the weights' SHA-256. The model gets the rounded values too."""
    out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for parameter in (*model.parameters(), *model.buffers()):
            if parameter.is_floating_point():
                parameter.copy_(parameter.half())
        state = {name: t.half() if t.is_floating_point() else t for name, t in model.exported().items()}
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, out / WEIGHTS)
    if isinstance(model, Contrastive):
        pieces = bytes(model.tokenizer.state()["model"].numpy().tobytes())
        (out / "spiece.model").write_bytes(pieces)
        (out / "tokenizer.json").write_text(as_tokenizer_json(pieces), encoding="utf-8")
    elif isinstance(model, Matching):
        (out / "beit3.spm").write_bytes(model.tokenizer.state()["model"].numpy().tobytes())
    return sha256((out / WEIGHTS).read_bytes()).hexdigest()


def as_tokenizer_json(model: bytes) -> str:
    """Write a sentencepiece unigram model as a ``tokenizer.json`` with the same ids, for SigLIP 2's convention."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    rows = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(pieces.get_piece_size())]
    rows[0], rows[1] = ("<pad>", 0.0), ("<eos>", 0.0)
    made = Tokenizer(models.Unigram(rows, unk_id=pieces.unk_id(), byte_fallback=False))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made.to_str()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--device", help="cuda or cpu (a GPU where there is one)")
    parser.add_argument("--steps", type=int, help="optimiser steps (the recipe's)")
    parser.add_argument("--images", type=int, help="images a step (the recipe's)")
    parser.add_argument("--scenes", type=int, help="training scenes (the recipe's)")
    parser.add_argument("--seed", type=int, help="of initial weights and of what is drawn (the recipe's)")
    parser.add_argument("--out", type=Path, help="folder for the weights (the package's)")
    parser.add_argument("--runs", type=Path, default=Path("runs/miniatures"), help="folder of checkpoints and logs")
    parser.add_argument("--data", type=Path, default=Path("datasets/miniatures"), help="folder of the scenes")
    parser.add_argument(
        "--processes", type=int, default=2, help="for making scenes, and on a GPU for drawing from them"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")  # of GPUs
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    keys = ("steps", "images", "scenes", "seed")
    chosen = {key: value for key in keys if (value := getattr(options, key)) is not None}
    recipe = replace(RECIPES[options.name], **chosen)
    out = options.out or Path(__file__).parents[2] / "src" / "rrsis_zoo" / "miniatures" / options.name

    data = scenes(recipe.scenes, SEED, options.data, options.processes)
    unseen = scenes(UNSEEN, UNSEEN_SEED, options.data, options.processes)
    texts = [text for scene in data for text in (*scene.phrases, *(said for said, _ in scene.sentences))]
    model = build(options.name, texts, recipe.seed).to(device)
    workers = options.processes if device.type == "cuda" else 0
    spent = train(model, data, recipe, options.runs / f"{options.name}_{recipe.seed}", workers)
    model.cpu()  # scores are those of the written weights on a CPU
    digest = write(model, out)
    scores = score(model, unseen)
    card = {
        "name": options.name,
        "what": "a miniature pretrained on synthetic scenes by rrsis-zoo; it shows methods, it is no foundation model",
        "made_by": f"python benchmarks/miniatures/pretrain.py {options.name}",
        "steps": recipe.steps,
        "images_a_step": recipe.images,
        "seed": recipe.seed,
        "scenes": {"generator": GENERATOR_VERSION, "seed": SEED, "count": recipe.scenes, "unseen_seed": UNSEEN_SEED},
        "parameters": sum(tensor.numel() for tensor in load_file(out / WEIGHTS).values()),
        "sha256": digest,
        "licence": "Apache-2.0",
        "scores": {key: round(value, 2) for key, value in scores.items()},
        "training": {"device": _name(device), **{key: round(value) for key, value in spent.items()}},
        "code": {key: value for key, value in code_version().items() if key in ("version", "commit")},
    }
    (out / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(card["scores"]))
    return 0


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


if __name__ == "__main__":
    sys.exit(main())
