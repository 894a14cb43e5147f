"""Every method's answer and training step side by side: eager and compiled, in one run.

    make speed
    make speed ARGS="--methods rsrefseg control --rounds 20 --steps"

The tiny presets with random weights, on one thread of the CPU: an answer goes from a 128 x 128 image to native masks
for 1 and for 16 sentences; a step is forward pass, loss, backward pass and AdamW's update for 8 expressions. Ways take
turns, the number is the median of the rounds; ``x`` is how many times as fast as eager. Compiling takes minutes.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from bench.profile import device_name, versions
from bench.timing import Times, side_by_side, table
from rrsis_zoo.errors import unknown_name
from rrsis_zoo.files import make_folder, write_json
from rrsis_zoo.inference import segment
from rrsis_zoo.methods.registry import card, list_models, method_named
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.types import Batch
from rrsis_zoo.terminal import guarded

SENTENCES = [
    f"the {colour} {thing} {place}"
    for colour in ("red", "large white")
    for thing in ("ship", "storage tank", "vehicle", "tennis court")
    for place in ("on the left", "in the upper right corner of the image")
]
WAYS = ("eager", "compiled")
SIDE = 128


def model_of(method: str, way: str) -> ReferringSegmenter:
    """Return a method's tiny preset; equal weights for all ways."""
    torch.manual_seed(0)
    model = method_named(method).model().from_preset("tiny")
    if not model.tokenizer_ready:
        model.fit_tokenizer(SENTENCES)
    if way == "compiled":
        model.use_compile("default")
    return model


def answer(model: ReferringSegmenter, sentences: int) -> Callable[[], object]:
    image = torch.randint(0, 256, (3, SIDE, SIDE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return lambda: segment(model.eval(), image, SENTENCES[:sentences])


def step(model: ReferringSegmenter) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, SIDE, SIDE), generator=generator, dtype=torch.uint8) for _ in range(8)]
    masks = [torch.rand(SIDE, SIDE, generator=generator) > 0.9 for _ in images]
    batch = Batch(images, SENTENCES[:8], torch.arange(8), masks)
    optimiser = torch.optim.AdamW([p for group in model.parameter_groups().values() for p in group], lr=1e-9)

    def call() -> None:
        model.train()
        optimiser.zero_grad()
        model.loss(model(batch, "published"), batch)["loss"].backward()
        optimiser.step()

    return call


def compare(method: str, ways: list[str], rounds: int, steps: bool) -> dict[str, dict[str, Times]]:
    """Return the times of every way of a method: what is timed -> way -> times."""
    models = {way: model_of(method, way) for way in ways}
    cases: dict[str, Callable[[ReferringSegmenter], Callable[[], object]]] = {
        "1 sentence": lambda model: answer(model, 1),
        "16 sentences": lambda model: answer(model, 16),
    }
    if steps and not card(method).training_free:
        cases["step"] = step
    return {
        what: side_by_side({way: make(model) for way, model in models.items()}, torch.device("cpu"), rounds)
        for what, make in cases.items()
    }


def text(found: dict[str, dict[str, dict[str, Times]]], ways: list[str]) -> str:
    """Return the table: milliseconds, and how many times as fast as the first way."""
    head = ["method, what", *(f"{way} ms" for way in ways), *(f"{way} x" for way in ways[1:]), "first call s"]
    rows = []
    for method, cases in found.items():
        for what, times in cases.items():
            medians = [times[way].median for way in ways]
            row = [f"{method}, {what}", *(f"{1000 * median:.1f}" for median in medians)]
            row += [f"{medians[0] / median:.2f}" for median in medians[1:]]
            rows.append([*row, f"{times[ways[-1]].first:.1f}"])
    return table(head, rows)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--methods", nargs="+", default=list_models(), help="all by default")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="all by default")
    parser.add_argument("--rounds", type=int, default=10, help="timed calls (default: %(default)s)")
    parser.add_argument("--steps", action="store_true", help="training steps too")
    parser.add_argument("--out", type=Path, default=Path("runs/speed.json"), help="default: %(default)s")
    options = parser.parse_args(words)
    for method in options.methods:
        if method not in list_models():
            raise unknown_name("method", method, list_models())
    torch.set_num_threads(1)
    make_folder(options.out.parent)
    found = {}
    for method in options.methods:
        print(method, file=sys.stderr, flush=True)
        found[method] = compare(method, options.ways, options.rounds, options.steps)
        torch._dynamo.reset()
    shown = text(found, options.ways)
    print(shown)
    plain = {
        method: {what: {way: dataclasses.asdict(t) for way, t in times.items()} for what, times in cases.items()}
        for method, cases in found.items()
    }
    content = {"device": device_name(torch.device("cpu")), "versions": versions(), "methods": plain, "table": shown}
    write_json(options.out, content)
    print(f"\nwrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
