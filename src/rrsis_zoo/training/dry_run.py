"""A few training steps of a configuration, before a night is spent on it: time, memory, the largest batch that fits.

Weights are random, since neither depends on their values; images and sentences are the dataset's own.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.types import Batch
from rrsis_zoo.training.memory import ADVICE, PeakMemory, free_memory, wait
from rrsis_zoo.training.module import RRSISModule

_LARGEST = 512  # expressions a step that are tried at most


@dataclass(frozen=True)
class Steps:
    """Some training steps.

    Attributes:
        batch: expressions a step.
        seconds: median of a step.
        steps: how many were timed.
        peak: memory in bytes; None where the system does not tell.
    """

    batch: int
    seconds: float
    steps: int
    peak: int | None


@dataclass(frozen=True)
class Report:
    """What a dry run found.

    Attributes:
        what: method, preset, device and precision.
        steps: with the configured batch; None if it does not fit.
        load_s: seconds until the loader has the next batch ready, while nothing else happens.
        per_epoch: steps of an epoch on one process.
        accumulate: batches per update of the weights.
        largest: expressions of the largest batch that fitted; on a CPU an estimate from two sizes; None if unknown.
        tried: whether it was tried.
    """

    what: str
    steps: Steps | None
    load_s: float
    per_epoch: int
    accumulate: int
    largest: int | None
    tried: bool

    def text(self) -> str:
        """Return it for a person."""
        lines = [self.what]
        if self.steps is None:
            lines.append(f"the configured batch does not fit: {ADVICE}")
        else:
            one = self.steps
            lines += [
                f"step time      {one.seconds:.3f} s for {one.batch} expressions, the median of {one.steps} steps",
                f"epoch          {_time(one.seconds * self.per_epoch)} for {self.per_epoch} steps, without validation",
                f"loading        {self.load_s:.3f} s a batch; {self._loading(one)}",
                f"peak memory    {_size(one.peak)}",
            ]
        lines.append(f"largest batch  {self._largest()}")
        return "\n".join(lines)

    def _loading(self, one: Steps) -> str:
        if self.load_s <= one.seconds:
            return "training does not wait for it"
        return "training waits for it: raise --data.num_workers, or store smaller images"

    def _largest(self) -> str:
        if self.largest is None:
            return "not known: this system does not tell how much memory a program takes"
        if self.tried:
            more = "" if self.largest < _LARGEST else ", the largest that is tried"
            return f"{self.largest} expressions a step fit{more}"
        return (
            f"about {self.largest} expressions a step, by the growth from one size to twice that; not tried on a CPU, "
            "and what a GPU would hold cannot be known here"
        )


def dry_run(module: RRSISModule, data: RRSISDataModule, trainer: Trainer, seconds: float = 3.0) -> Report:
    """Run training steps with growing batches.

    Args:
        module, data, trainer: of a configuration, not used otherwise.
        seconds: for which steps of the configured batch are timed, at least three.

    Raises:
        ConfigError: settings that contradict each other, or a training-free method.
    """
    model = module.model
    if model.card.training_free:
        raise ConfigError(f"{model.name} is training-free: it has no training step to profile")
    module.check_speed(str(trainer.precision), trainer.gradient_clip_val)
    data.prepare_data()
    if not model.tokenizer_ready:
        model.fit_tokenizer(data.train_expressions())
    device = trainer.strategy.root_device
    module.make_fast(training=True)
    module.to(device)
    loader = data.train_dataloader()
    batches, load_s = iter(loader), 0.0
    first = next(batches)
    start, loaded = time.perf_counter(), 0
    while loaded < 5 and next(batches, None) is not None:
        loaded += 1
    load_s = (time.perf_counter() - start) / max(1, loaded)
    del batches
    context = trainer.strategy.precision_plugin.forward_context

    def run(size: int, seconds: float) -> Steps:
        batch = repeated(first, size).to(device)
        return _steps(module, batch, trainer.gradient_clip_val, context, seconds)

    n = len(first)
    one = tried(lambda: run(n, seconds))
    if device.type == "cuda":
        largest, was_tried = largest_fit(lambda size: tried(lambda: run(size, 0.0)) is not None, n), True
    else:
        largest, was_tried = _estimate(one, tried(lambda: run(2 * n, 0.0)), device), False
    count = torch.get_num_threads()
    threads = f" with {count} thread{'s' if count > 1 else ''}" if device.type == "cpu" else ""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    what = f"{model.name}, preset {module.hparams['preset']}, on {name}{threads}, precision {trainer.precision}"
    return Report(what, one, load_s, len(loader), trainer.accumulate_grad_batches, largest, was_tried)


def repeated(batch: Batch, size: int) -> Batch:
    """Return a batch of this many expressions, each with an image of its own, from those of another one."""
    assert batch.masks is not None
    assert batch.image_of is not None
    rows = [n % len(batch) for n in range(size)]
    return Batch(
        [batch.images[batch.image_of[n]] for n in rows],
        [batch.expressions[n] for n in rows],
        torch.arange(size),
        [batch.masks[n] for n in rows],
        [str(n) for n in range(size)],
        [batch.absent[n] for n in rows] if batch.absent else [],
    )


def largest_fit(fits: Callable[[int], bool], start: int) -> int | None:
    """Return the largest size that fits, up to a limit; None if not even 1 does.

    Args:
        fits: whether a size does; asked about a dozen times.
        start: where to begin.
    """
    good, bad = 0, _LARGEST + 1
    size = min(start, _LARGEST)
    while good < bad - 1:
        if fits(size):
            good = size
            size = min(2 * size, _LARGEST) if bad > _LARGEST else (good + bad) // 2
        else:
            bad = size
            size = (good + bad) // 2
        if size in (good, 0):
            break
    return good or None


def tried(call: Callable[[], Steps]) -> Steps | None:
    """Return a result; None if a GPU's memory is too small for it."""
    try:
        return call()
    except torch.OutOfMemoryError:
        pass
    gc.collect()  # here, where the error no longer holds what was on its way
    torch.cuda.empty_cache()
    return None


def _steps(
    module: RRSISModule,
    batch: Batch,
    clip: int | float | None,
    context: Callable[[], AbstractContextManager[Any]],
    seconds: float,
) -> Steps:
    model, device = module.model.train(), batch.image_index.device
    memory = PeakMemory(model, device)
    optimiser = module.make_optimiser()
    for group in optimiser.param_groups:
        group["lr"] = 1e-9  # the same work, with almost unchanged weights
    parameters = [p for group in optimiser.param_groups for p in group["params"]]

    def step() -> Tensor:
        optimiser.zero_grad()
        with context():
            loss = model.loss(model(batch, module.hparams["train_text_mode"]), batch)["loss"]
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimiser.step()
        return loss

    times: list[float] = []
    for _ in range(2):  # the second has AdamW's moments
        step()
    wait(device)
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        step()
        wait(device)
        times.append(time.perf_counter() - start)
    optimiser.zero_grad()
    return Steps(len(batch), float(np.median(times)), len(times), memory.peak())


def _estimate(one: Steps | None, two: Steps | None, device: torch.device) -> int | None:
    """Return how many expressions would fit if memory grew as from one size to another."""
    free = free_memory(device)
    if one is None or two is None or one.peak is None or two.peak is None or free is None:
        return None
    each = (two.peak - one.peak) / (two.batch - one.batch)
    if each <= 0:
        return None
    return max(one.batch, int(one.batch + 0.9 * free / each))


def _time(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _size(peak: int | None) -> str:
    return "not known on this system" if peak is None else f"{peak / 2**30:.2f} GiB"
