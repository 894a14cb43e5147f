"""The plan of a suite on this machine: jobs with their keys, where they run, and how long they take."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.jobs import Decision, Goal, Planned, ends_of
from bench.parts import key_of
from bench.reserved import settings_fault
from bench.suites import Job, Suite
from rrsis_zoo.data.sources import source
from rrsis_zoo.errors import ConfigError, RRSISError
from rrsis_zoo.methods.registry import method_at
from rrsis_zoo.metrics.protocols import get_protocol

if TYPE_CHECKING:
    from bench.keys import Keys


@dataclass(frozen=True)
class Slot:
    """A place that runs one job at a time.

    Attributes:
        environment: variables of its processes.
        name: of its device, if there are several.
    """

    environment: Mapping[str, str]
    name: str = ""


def plan(jobs: Sequence[Job], roots: Mapping[str, str], keys: Keys) -> list[Planned]:
    """Resolve the configuration of every job and compute its key.

    Args:
        jobs: of a suite.
        roots: dataset of the suite -> its folder, if it differs from the configuration's.
        keys: computes the keys.

    Raises:
        ConfigError: ``rrsis fit`` refuses an option or value of a job, or a job would only train or test a part: the
            suite is wrong, and nothing is run.
    """
    from rrsis_zoo.commands.fit import resolve  # torch and Lightning

    resolved = []
    for job in jobs:  # all of them first: nothing is read or computed for a wrong suite
        arguments = tuple(job.arguments(roots.get(job.dataset)))
        try:
            config = resolve(arguments)
        except ConfigError as error:
            raise ConfigError(f"{job.name}: {error}") from error
        if fault := settings_fault(config["trainer"]):
            raise ConfigError(f"{job.name}: {fault}")
        resolved.append((job, arguments, config))
    planned = []
    for job, arguments, config in resolved:
        on_gpu = config["trainer"]["accelerator"] != "cpu"
        try:
            parts, goal = keys.parts(config), goal_of(config, keys)
        except RRSISError as error:  # data or weights are missing, which does not affect the other jobs
            planned.append(Planned(job, arguments, {}, "", None, str(error), on_gpu))
        else:
            trained = is_trained(config)
            steps = steps_of(config, keys) if trained else None
            planned.append(Planned(job, arguments, parts, key_of(parts), goal, "", on_gpu, steps, trained))
    return planned


def is_trained(config: Mapping[str, Any]) -> bool:
    """Return whether the method of a resolved configuration has a training."""
    method = method_at(config["model"]["class_path"])
    return method is None or not method.card.training_free


def goal_of(config: Mapping[str, Any], keys: Keys) -> Goal:
    """Return the goal of a job from its resolved configuration and its data.

    Raises:
        MissingDataError: a file of the dataset is missing.
        DataFormatError: a file of the dataset is damaged.
    """
    data = config["data"]
    protocol = get_protocol(config["model"]["init_args"]["protocol"])
    split = data["test_split"] or source(data["dataset"]).splits[-1]
    ids, annotations = keys.split(data, split)
    samples = sum(protocol.counted(ids))
    return Goal(*ends_of(config["trainer"]), protocol.name, split, samples, annotations)


def steps_of(config: Mapping[str, Any], keys: Keys) -> int | None:
    """Return the optimiser steps of a job's training, on one device; None if neither steps nor epochs limit it.

    Raises:
        MissingDataError: a file of the dataset is missing.
        DataFormatError: a file of the dataset is damaged.
    """
    epochs, steps, _ = ends_of(config["trainer"])
    if epochs is not None:
        batches = keys.drawn(config["data"]) // config["data"]["batch_size"]
        every = math.ceil(batches / config["trainer"]["accumulate_grad_batches"])
        steps = min(epochs * every, epochs * every if steps is None else steps)
    return steps


def slots(planned: Sequence[Planned], at_once: int) -> list[Slot]:
    """Return where jobs run: one on each GPU, or ``at_once`` with one thread each if there is no usable GPU."""
    gpus = visible_gpus() if any(p.on_gpu for p in planned) else []
    if gpus:
        return [Slot({"CUDA_VISIBLE_DEVICES": name}, f"GPU {name}") for name in gpus]
    return [Slot({"OMP_NUM_THREADS": "1"})] * at_once  # two trainings with one thread each are faster than one with two


def visible_gpus() -> list[str]:
    """Return the CUDA devices of this process as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    if devices is None:
        return [str(i) for i in range(torch.cuda.device_count())]
    return [name.strip() for name in devices.split(",")][: torch.cuda.device_count()]


def expected_minutes(jobs: Sequence[Job], at_once: int) -> float | None:
    """Return how long the jobs take if each starts as soon as a place is free; None if a job's time is not known."""
    ends = [0.0] * at_once
    for job in jobs:
        if job.cpu_minutes is None:
            return None
        first = ends.index(min(ends))
        ends[first] += job.cpu_minutes
    return max(ends)


def announce(
    suite: Suite, planned: Sequence[Planned], decisions: Sequence[Decision], places: Sequence[Slot], folder: Path
) -> list[str]:
    """Return the plan as text: number of jobs, seeds, what is left to do, how long it takes."""
    left = [p.job for p, d in zip(planned, decisions, strict=True) if d.runs]
    count = {action: sum(d.action == action for d in decisions) for action in ("skip", "leave", "blocked")}
    words = {"skip": "finished earlier", "leave": "failed earlier", "blocked": "cannot start"}
    states = [f"{n} {words[action]}" for action, n in count.items() if n] + [f"{len(left)} to run"]
    models, datasets, seeds = ({getattr(p.job, name) for p in planned} for name in ("model", "dataset", "seed"))
    lines = [
        f"{suite.name}: {_counted(len(planned), 'job')} ({_counted(len(models), 'model')}, "
        f"{_counted(len(datasets), 'dataset')}, {_counted(len(seeds), 'seed')}): {', '.join(states)}"
    ]
    if suite.seeds_left_out:
        seed_list = ", ".join(str(seed) for seed in sorted(seeds))
        left_out = ", ".join(str(seed) for seed in suite.seeds_left_out)
        lines.append(f"only seeds {seed_list}, without {left_out}, also in tables and report")
    where = ", ".join(place.name for place in places if place.name) or "one thread each"
    lines.append(f"{len(places)} at once, {where}; logs: {folder}/JOB/*.log")
    if left:
        needed, limit = expected_minutes(left, len(places)), suite.minutes
        if needed is None:
            lines.append("the time is not known: the suite has no cpu_minutes for some of its models")
        else:
            of = f" of at most {limit:g}" if limit else ""
            over = ": too long, use fewer epochs" if limit and needed > limit else ""
            time = _counted(max(1, round(needed)), "minute")
            lines.append(f"expected: {time}{of}, from the suite's cpu_minutes{over}")
    return lines


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n != 1 else ''}"
