"""Which samples go into which batch, on which process.

Training and evaluation have opposite needs: training a fixed number of expressions per step on every process,
evaluation every expression exactly once with scenes kept together. Lightning's own distributed sampler repeats samples
to make the processes equal, which changes the metric, so the trainer runs with ``use_distributed_sampler=False``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from torch.utils.data import Dataset, DistributedSampler, Sampler

DrawRule = Literal["samples", "references", "scenes"]
"""What training draws. ``samples``: expressions, uniformly. ``references``: annotated referents, each with one of its
sentences at random (the LAVT family). ``scenes``: images with all their expressions in a row, so that a batch
needs few images."""


class Draw(NamedTuple):
    """A sample of one epoch: augmentation depends on both, and loading processes do not know the epoch.

    Attributes:
        sample: its number.
        epoch: from 0.
        foreign: None for the sample itself; else a foreign sentence about its scene, the n-th of the batch.
    """

    sample: int
    epoch: int
    foreign: int | None = None


class TrainingSampler(DistributedSampler[Draw]):
    """Samples in a new uniform order every epoch, without replacement, the same number on every process.

    Samples that do not divide evenly among the processes are dropped, different ones in every epoch; none is repeated.
    The order depends only on seed and epoch, so processes and loading workers never disagree. It is a
    ``DistributedSampler`` so that Lightning calls ``set_epoch`` and does not shard it again.

    Args:
        dataset: only its length is read.
        seed: non-negative.
        rank: this process.
        world_size: number of processes.
        rule: what is drawn.
        groups: the reference or scene of each sample, for those two rules.
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
        """Continue within an epoch, after the given number of samples on each process.

        The length remains that of a whole epoch.
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


class ForeignSampler(TrainingSampler):
    """A training sampler that adds foreign sentences after the samples of every batch, and changes nothing else.

    Each is about the scene of one of the batch's samples, so that no further image is read or encoded. Which samples
    these are depends on seed, epoch and batch alone, whatever process or worker it is, and wherever an epoch is taken
    up again.

    Args:
        dataset, seed, rank, world_size, rule, groups: see `TrainingSampler`.
        batch: samples in a batch.
        extra: foreign sentences to add to it.
        hosts: for each sample of the dataset, whether any sentence is foreign to its scene; for one at least.
    """

    def __init__(self, *arguments: Any, batch: int, extra: int, hosts: Sequence[bool], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.batch, self.extra = batch, extra
        self._hosts = np.array(hosts, dtype=np.bool_)
        self._anywhere = np.flatnonzero(self._hosts)

    def __len__(self) -> int:
        own = super().__len__()
        return own + own // self.batch * self.extra

    def __iter__(self) -> Iterator[Draw]:
        own = list(super().__iter__())
        for start in range(0, len(own), self.batch):
            batch = own[start : start + self.batch]
            yield from batch
            if len(batch) == self.batch:
                yield from self._foreign(batch)

    def _foreign(self, batch: Sequence[Draw]) -> Iterator[Draw]:
        here = np.array([draw.sample for draw in batch])
        here = here[self._hosts[here]]
        # the first sample names the batch: no other batch of the epoch has it
        rng = np.random.default_rng((self.seed, self.epoch, batch[0].sample, 1))
        chosen: list[int] = []
        while len(chosen) < self.extra:
            chosen += rng.permutation(here if len(here) else self._anywhere).tolist()
        for number, sample in enumerate(chosen[: self.extra]):
            yield Draw(sample, self.epoch, number)


class SceneBatchSampler(Sampler[list[int]]):
    """Batches of whole scenes, every sample exactly once over all processes.

    The batches are the same for any number of processes, so a model whose output depends on batch mates (text mode
    ``published``), or in its last bit on the batch size, gives the same numbers. They are assigned from the largest to
    the smallest, each to the process with the fewest expressions so far. A process with fewer batches than another
    continues with empty ones: the trainer skips a process without any step, and distributed training communicates in
    every step, including validation.

    Args:
        scene_ids: the scene of each of the N samples.
        max_expressions: most expressions in a batch; a scene with more is a batch of its own.
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
    """Return the positions of each name, in order of first occurrence."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    return list(groups.values())


def _share(batches: list[list[int]], rank: int, world_size: int) -> list[list[int]]:
    """Return the batches of one process in dataset order, then empty ones up to the largest number on any process."""
    load = [0] * world_size
    shares: list[list[int]] = [[] for _ in range(world_size)]
    for position in sorted(range(len(batches)), key=lambda p: -len(batches[p])):
        lightest = load.index(min(load))
        load[lightest] += len(batches[position])
        shares[lightest].append(position)
    steps = max(map(len, shares))
    return [batches[p] for p in sorted(shares[rank])] + [[] for _ in range(steps - len(shares[rank]))]


def _pack(scenes: list[list[int]], max_expressions: int) -> list[list[int]]:
    """Join neighbouring scenes into batches of at most ``max_expressions`` samples."""
    batches: list[list[int]] = []
    for scene in scenes:
        if batches and len(batches[-1]) + len(scene) <= max_expressions:
            batches[-1] = batches[-1] + scene
        else:
            batches.append(scene)
    return batches
