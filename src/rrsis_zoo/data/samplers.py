"""Which samples go into which batch, on which process.

Training and evaluation want opposite things: training a fixed number of expressions a step on every process,
evaluation every expression exactly once with whole scenes together. Lightning's own distributed sampler repeats samples
to make the processes equal, which changes the metric, so the trainer runs with ``use_distributed_sampler=False``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Dataset, DistributedSampler, Sampler


class TrainingSampler(DistributedSampler[int]):
    """Expressions in a new uniform order every epoch, without replacement, the same number on every process.

    What does not divide by the number of processes is dropped, other samples in every epoch; nothing is repeated. The
    order depends on the seed and the epoch only, so two processes (or none, or five loading workers) never disagree.
    It is a ``DistributedSampler`` so that Lightning calls ``set_epoch`` and never shards it a second time.

    Args:
        dataset: only its length is read.
        seed: non-negative.
        rank: this process.
        world_size: number of processes.
        scene_ids: the scene of each sample, to draw scenes instead of samples: the samples of one follow each other, so
            that a batch needs few images. None to draw samples, as published.
    """

    def __init__(
        self,
        dataset: Dataset[object],
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        scene_ids: Sequence[str] | None = None,
    ) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=True, seed=seed, drop_last=True)
        self.scenes: list[list[int]] | None = None
        if scene_ids is not None:
            scenes: dict[str, list[int]] = {}
            for index, scene_id in enumerate(scene_ids):
                scenes.setdefault(scene_id, []).append(index)
            self.scenes = list(scenes.values())

    def __iter__(self) -> Iterator[int]:
        # Not seed + epoch as in the base class: epoch 1 of seed 0 would be epoch 0 of seed 1.
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.scenes is None:
            order = rng.permutation(len(self.dataset))  # pyright: ignore
            return iter(order[self.rank : self.total_size : self.num_replicas].tolist())
        together = [index for scene in rng.permutation(len(self.scenes)) for index in self.scenes[scene]]
        return iter(together[self.rank * self.num_samples : (self.rank + 1) * self.num_samples])


class SceneBatchSampler(Sampler[list[int]]):
    """Batches of whole scenes, every sample exactly once over all processes, nothing padded.

    The batches are the same for any number of processes, so that a model whose answer depends on batch mates (text mode
    ``published``), or on the batch size by its last bit, gives the same numbers. They go to the processes from the
    largest to the smallest, each to the process that has the fewest expressions so far. A process may have none.

    Args:
        scene_ids: the scene of each of the N samples.
        max_expressions: expressions a batch holds at most; a scene that has more is a batch of its own.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, scene_ids: Sequence[str], max_expressions: int, rank: int = 0, world_size: int = 1) -> None:
        scenes: dict[str, list[int]] = {}
        for index, scene_id in enumerate(scene_ids):
            scenes.setdefault(scene_id, []).append(index)
        self.batches = _share(_pack(list(scenes.values()), max_expressions), rank, world_size)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def _share(batches: list[list[int]], rank: int, world_size: int) -> list[list[int]]:
    """Return the batches of one process, in the order of the dataset."""
    load = [0] * world_size
    mine: list[int] = []
    for position in sorted(range(len(batches)), key=lambda p: -len(batches[p])):
        lightest = load.index(min(load))
        load[lightest] += len(batches[position])
        if lightest == rank:
            mine.append(position)
    return [batches[position] for position in sorted(mine)]


def _pack(scenes: list[list[int]], max_expressions: int) -> list[list[int]]:
    """Join neighbouring scenes to batches of at most ``max_expressions`` samples."""
    batches: list[list[int]] = []
    for scene in scenes:
        if batches and len(batches[-1]) + len(scene) <= max_expressions:
            batches[-1] = batches[-1] + scene
        else:
            batches.append(scene)
    return batches
