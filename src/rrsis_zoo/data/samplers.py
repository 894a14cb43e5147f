"""Which samples go into which batch, on which process.

Training and evaluation want opposite things: training a fixed number of expressions a step on every process,
evaluation every expression exactly once with whole scenes together. Lightning's own distributed sampler repeats samples
to make the processes equal, which changes the metric, so the trainer runs with ``use_distributed_sampler=False``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from torch.utils.data import Dataset, DistributedSampler, Sampler

DrawRule = Literal["samples", "references", "scenes"]
"""What training draws. ``samples``: expressions, uniformly. ``references``: annotated referents, each with one of its
sentences at random (the LAVT family). ``scenes``: images with all their expressions, which follow each other, so that a
batch needs few images."""


class Draw(NamedTuple):
    """A sample of one epoch: augmentation depends on both, and loading processes know no epoch of their own."""

    sample: int
    epoch: int


class TrainingSampler(DistributedSampler[Draw]):
    """Samples in a new uniform order every epoch, without replacement, the same number on every process.

    What does not divide by the number of processes is dropped, other samples in every epoch; nothing is repeated. The
    order depends on the seed and the epoch only, so two processes (or none, or five loading workers) never disagree.
    It is a ``DistributedSampler`` so that Lightning calls ``set_epoch`` and never shards it a second time.

    Args:
        dataset: only its length is read.
        seed: non-negative.
        rank: this process.
        world_size: number of processes.
        rule: what is drawn.
        groups: the reference or scene of each sample, for these two rules.
    """

    def __init__(
        self,
        dataset: Dataset[object],
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        rule: DrawRule = "samples",
        groups: Sequence[str] = (),
    ) -> None:
        self.rule: DrawRule = rule
        self.groups = _groups(groups)
        items: Any = self.groups if rule == "references" else dataset
        super().__init__(items, num_replicas=world_size, rank=rank, shuffle=True, seed=seed, drop_last=True)
        self._start = (-1, 0)

    def start_at(self, epoch: int, samples: int) -> None:
        """Go on within an epoch: the first samples of it, so many on each process, have been drawn already.

        Its length stays that of a whole epoch.
        """
        self._start = (epoch, samples)
        self.set_epoch(epoch)

    def __iter__(self) -> Iterator[Draw]:
        # Not seed + epoch as in the base class: epoch 1 of seed 0 would be epoch 0 of seed 1.
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.rule == "scenes":
            together = [index for scene in rng.permutation(len(self.groups)) for index in self.groups[scene]]
            mine = together[self.rank * self.num_samples : (self.rank + 1) * self.num_samples]
        else:
            order: list[int] = rng.permutation(len(self.dataset)).tolist()  # pyright: ignore
            if self.rule == "references":
                order = [int(rng.choice(self.groups[group])) for group in order]
            mine = order[self.rank : self.total_size : self.num_replicas]
        epoch, drawn = self._start
        return iter([Draw(index, self.epoch) for index in mine[drawn if epoch == self.epoch else 0 :]])


class SceneBatchSampler(Sampler[list[int]]):
    """Batches of whole scenes, every sample exactly once over all processes, no sample repeated.

    The batches are the same for any number of processes, so that a model whose answer depends on batch mates (text mode
    ``published``), or on the batch size by its last bit, gives the same numbers. They go to the processes from the
    largest to the smallest, each to the process that has the fewest expressions so far. A process with fewer batches
    than another goes on with empty ones: the trainer leaves out a process without any step, and distributed training
    communicates in every step, also of validation.

    Args:
        scene_ids: the scene of each of the N samples.
        max_expressions: expressions a batch holds at most; a scene that has more is a batch of its own.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, scene_ids: Sequence[str], max_expressions: int, rank: int = 0, world_size: int = 1) -> None:
        self.batches = _share(_pack(_groups(scene_ids), max_expressions), rank, world_size)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def _groups(names: Sequence[str]) -> list[list[int]]:
    """Return the positions of each name, in the order of their first."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    return list(groups.values())


def _share(batches: list[list[int]], rank: int, world_size: int) -> list[list[int]]:
    """Return the batches of one process, in the order of the dataset, then empty ones up to the most that any has."""
    load = [0] * world_size
    shares: list[list[int]] = [[] for _ in range(world_size)]
    for position in sorted(range(len(batches)), key=lambda p: -len(batches[p])):
        lightest = load.index(min(load))
        load[lightest] += len(batches[position])
        shares[lightest].append(position)
    steps = max(map(len, shares))
    return [batches[p] for p in sorted(shares[rank])] + [[] for _ in range(steps - len(shares[rank]))]


def _pack(scenes: list[list[int]], max_expressions: int) -> list[list[int]]:
    """Join neighbouring scenes to batches of at most ``max_expressions`` samples."""
    batches: list[list[int]] = []
    for scene in scenes:
        if batches and len(batches[-1]) + len(scene) <= max_expressions:
            batches[-1] = batches[-1] + scene
        else:
            batches.append(scene)
    return batches
