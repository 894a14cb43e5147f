"""The costs of a model: parameters, operations, time and memory of a training step and of inference.

    python benchmarks/costs.py --config configs/rsrefseg.yaml --config configs/overlays/rsrefseg_tiny.yaml \\
        --config configs/overlays/synthetic.yaml --out profile.json

takes the arguments of ``rrsis fit``. Weights are random, since neither time nor memory depends on their values; images,
sentences, batch size, device and precision are those of the configuration. Run it alone on its machine.

* A **training step** is forward pass, loss, backward pass, clipping where the configuration clips, and AdamW's update,
  on the first batch of training; **inference** goes from one native image and its sentences to masks of native size,
  reading included. Loading of files and transfers to the device are left out.
* **FLOPs**: what ``torch.utils.flop_counter`` counts, a multiplication and an addition being two: matrix products,
  convolutions and fused attention. Left out are additions, norms, activations, softmax, resizing, gathering and the
  update of the weights. A training step includes the backward pass, and work that checkpointing computes twice is
  counted twice.
* **Latency** is wall-clock time after warm-up calls, including synchronisation with the device; throughput is
  expressions per second at the median.
* **Peak memory**: on a GPU the maximum that torch had allocated (``max_memory_allocated``), including weights and
  optimiser. On a CPU the peak resident memory above that before the first of these calls, plus the weights; without
  pages of libraries, but with gaps left by the allocator. Only Linux provides it; elsewhere it is None.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from rrsis_zoo.errors import ConfigError, OutputError, RRSISError
from rrsis_zoo.files import make_folder, write_json
from rrsis_zoo.models.base import ReferringSegmenter, count_parameters
from rrsis_zoo.models.types import Batch, TextMode
from rrsis_zoo.training.memory import PeakMemory, wait
from rrsis_zoo.version import __version__

Context = Callable[[], AbstractContextManager[Any]]

_SAME_FLOPS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: torch.ops.aten._scaled_dot_product_flash_attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        torch.ops.aten._scaled_dot_product_flash_attention_backward
    ),
}
"""Fused attention on a CPU, for which torch 2.11 has no formula -> the GPU's, with the same first arguments."""


@dataclass(frozen=True)
class Effort:
    """Effort for timing each of the three cases.

    Attributes:
        warm_up: calls before timing starts.
        least, most: minimum and maximum number of timed calls.
        seconds: between the two, calls are repeated until this time has passed.
    """

    warm_up: int = 2
    least: int = 5
    most: int = 50
    seconds: float = 1.0


def profile(
    model: ReferringSegmenter,
    batch: Batch,
    *,
    expressions: Sequence[int] = (1, 16),
    text_mode: TextMode = "published",
    clip: float | None = None,
    precision: str = "32-true",
    context: Context = nullcontext,
    effort: Effort | None = None,
) -> dict[str, Any]:
    """Measure a model on its device.

    Args:
        model: with a tokenizer. Its weights change by a few updates of negligible size.
        batch: of training, with masks, on the same device. Inference uses its first image, and repeats its sentences.
        expressions: numbers of sentences per image, one inference each.
        text_mode: of the training step; inference reads every sentence as if alone.
        clip: largest norm of the gradients; None for no clipping.
        precision: Lightning's name, for the record.
        context: creates the context of forward passes, autocast for instance.
        effort: of the measurement.

    Returns:
        ``schema``, ``model``, ``device``, ``dtype``, ``threads``, ``versions``, ``image`` (height and width of the
        image of inference), ``parameters`` (``total``, ``trained``), ``step`` (``batch`` expressions on ``images``
        images) and ``inference``, a list with ``expressions`` on one image. These have ``flops``, ``latency_s``
        (``median``; ``low`` and ``high``, the 10th and 90th percentile; ``n`` calls), ``per_second`` (expressions) and
        ``peak_bytes``.

    Raises:
        ConfigError: the batch has no masks or no expression, or a number of expressions below 1.
    """
    if batch.masks is None or not len(batch):
        raise ConfigError("a training step is measured on a batch of expressions with masks, but this one has none")
    if min(expressions) < 1:
        raise ConfigError(f"inference is measured with 1 expression or more, got {list(expressions)}")
    effort = effort or Effort()
    counts = count_parameters(model)
    inference = [
        {"expressions": n, **measure(_inference(model, batch, n, context), n, model, effort)} for n in expressions
    ]
    step = measure(_step(model, batch, text_mode, clip, context), len(batch), model, effort)
    return {
        "schema": 1,
        "model": model.name,
        "device": device_name(model.device),
        "dtype": dtype_name(precision),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "image": list(batch.images[0].shape[-2:]),
        "parameters": {"total": counts.total, "trained": counts.trained},
        "step": {"batch": len(batch), "images": len(batch.images), **step},
        "inference": inference,
    }


def measure(
    call: Callable[[], object], expressions: int, model: torch.nn.Module, effort: Effort
) -> dict[str, int | float | dict[str, float] | None]:
    """Measure one call.

    Args:
        call: to measure; it processes ``expressions`` expressions.
        expressions: per call, for the throughput.
        model: its weights count as memory of the call, and its device is synchronised.
        effort: of the measurement.

    Returns:
        ``flops``, ``latency_s``, ``per_second``, ``peak_bytes``, as in `profile`.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    memory = PeakMemory(model, device)
    for _ in range(effort.warm_up):
        call()
    wait(device)
    times: list[float] = []
    while len(times) < effort.least or (len(times) < effort.most and sum(times) < effort.seconds):
        start = time.perf_counter()
        call()
        wait(device)
        times.append(time.perf_counter() - start)
    peak = memory.peak()
    counter = FlopCounterMode(display=False)  # after time and memory: it slows down and keeps tensors
    for operation, same in _SAME_FLOPS.items():
        counter.flop_registry.setdefault(operation, counter.flop_registry[same])
    counter.mod_tracker = _NoModules()
    with counter:
        call()
    median, low, high = (float(value) for value in np.quantile(times, (0.5, 0.1, 0.9)))
    return {
        "flops": counter.get_total_flops(),
        "latency_s": {"median": median, "low": low, "high": high, "n": len(times)},
        "per_second": expressions / median,
        "peak_bytes": peak,
    }


class _NoModules(ModuleTracker):
    """Does not track modules: only the total is needed, and torch's hooks fail on parameters as inputs of modules."""

    def __enter__(self) -> _NoModules:
        return self

    def __exit__(self, *args: object) -> None:
        pass


# -- the measured calls ------------------------------------------------------------------------------------------------


def _inference(model: ReferringSegmenter, batch: Batch, expressions: int, context: Context) -> Callable[[], object]:
    sentences = list(islice(cycle(batch.expressions), expressions))
    index = torch.zeros(expressions, dtype=torch.int64, device=model.device)
    asked = Batch(batch.images[:1], sentences, index)

    @torch.no_grad()
    def call() -> list[Tensor]:
        model.eval()
        with context():
            return model.restore(model(asked, "independent"))

    return call


def _step(
    model: ReferringSegmenter, batch: Batch, text_mode: TextMode, clip: float | None, context: Context
) -> Callable[[], object]:
    parameters = [p for group in model.parameter_groups().values() for p in group]
    # the same work as with any other rate, with almost unchanged weights
    optimiser = torch.optim.AdamW(parameters, lr=1e-9)

    def call() -> None:
        model.train()
        optimiser.zero_grad()
        with context():
            loss = model.loss(model(batch, text_mode), batch)["loss"]
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimiser.step()

    return call


# -- the record --------------------------------------------------------------------------------------------------------


def device_name(device: torch.device) -> str:
    """Return ``cpu (x86_64)`` or a GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()})"


def dtype_name(precision: str) -> str:
    """Return ``float32`` for ``32-true``, ``bfloat16, mixed`` for ``bf16-mixed``."""
    bits, _, how = precision.partition("-")
    names = {"64": "float64", "32": "float32", "16": "float16", "bf16": "bfloat16"}
    if bits not in names:
        return precision
    return names[bits] + (", mixed" if how == "mixed" else "")


def versions() -> dict[str, str | None]:
    """Return the versions that affect timing."""
    return {
        "rrsis_zoo": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
    }


def main(words: Sequence[str] | None = None) -> int:
    """Profile the method of a configuration, in this process.

    Args:
        words: arguments; None for those of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python benchmarks/costs.py",
        description="Measure parameters, FLOPs, latency and memory of a configured method.",
        epilog="All other arguments are those of `rrsis fit`: --config FILE …, --data.root FOLDER, …",
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--expressions", type=int, nargs="+", default=[1, 16], help="sentences per image in inference")
    parser.add_argument("--seconds", type=float, default=Effort.seconds, help="approximate time per case")
    parser.add_argument("--threads", type=int, help="of torch on a CPU; default: torch's own")
    options, arguments = parser.parse_known_args(words)
    _check(options)
    if options.threads:
        torch.set_num_threads(options.threads)

    from rrsis_zoo.commands.fit import instantiate

    module, data, trainer = instantiate(arguments)
    data.num_workers = 0
    data.prepare_data()
    model = module.model
    if not model.tokenizer_ready:
        model.fit_tokenizer(data.train_expressions())
    device = trainer.strategy.root_device
    model.to(device)
    result = profile(
        model,
        next(iter(data.train_dataloader())).to(device),
        expressions=options.expressions,
        text_mode=module.hparams["train_text_mode"],
        clip=trainer.gradient_clip_val,
        precision=str(trainer.precision),
        context=trainer.strategy.precision_plugin.forward_context,
        effort=Effort(seconds=options.seconds),
    )
    result["preset"] = module.hparams["preset"]
    write_json(options.out, result)
    one = result["inference"][0]["latency_s"]["median"]
    print(f"wrote {options.out}: {result['parameters']['total'] / 1e6:.2f} M parameters, {1000 * one:.1f} ms per image")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse options that would fail after the measurement or make no sense.

    Raises:
        ConfigError: a number out of range.
        OutputError: the file cannot be written.
    """
    if options.threads is not None and options.threads < 1:
        raise ConfigError(f"--threads must be at least 1, got {options.threads}")
    if not 0 <= options.seconds <= 3600:
        raise ConfigError(f"--seconds must be from 0 to 3600, got {options.seconds}")
    if min(options.expressions) < 1:
        raise ConfigError(f"--expressions must be at least 1, got {options.expressions}")
    make_folder(options.out.parent)
    if os.path.isdir(options.out):
        raise OutputError(f"{options.out} cannot be written (it is a folder)")


def run(words: Sequence[str] | None = None) -> int:
    """Run ``main``, report errors that the user can fix in one line, and return the exit status."""
    try:
        return main(words)
    except RRSISError as error:
        print(f"profile: {error}", file=sys.stderr)
        return 2
