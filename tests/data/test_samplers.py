from collections import Counter
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from rrsis_zoo.data.samplers import SceneBatchSampler, TrainingSampler


def order(size, epoch=0, seed=0, rank=0, world_size=1):
    sampler = TrainingSampler(TensorDataset(torch.zeros(size)), seed, rank, world_size)
    sampler.set_epoch(epoch)
    indices = list(sampler)
    assert len(indices) == len(sampler)
    assert all(type(index) is int for index in indices)
    return indices


def test_training_order_is_a_permutation_of_seed_and_epoch():
    assert sorted(order(50)) == list(range(50))
    assert order(50) == order(50)
    orders = {tuple(order(50, epoch, seed)) for epoch in range(3) for seed in range(3)}
    assert len(orders) == 9  # epoch 1 of seed 0 is not epoch 0 of seed 1


@pytest.mark.parametrize(("size", "world_size"), [(50, 2), (51, 2), (53, 4), (3, 4)])
def test_training_processes_get_equal_disjoint_shares(size, world_size):
    shares = [order(size, epoch=5, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(share) for share in shares} == {size // world_size}
    assert max(Counter(chain(*shares)).values(), default=1) == 1


def test_training_leaves_out_other_samples_every_epoch():
    left_out = {(set(range(5)) - set(order(5, e, 0, 0, 2)) - set(order(5, e, 0, 1, 2))).pop() for e in range(40)}
    assert left_out == set(range(5))


def test_training_draws_uniformly():
    counts = np.zeros((6, 6))
    for epoch in range(1200):
        for place, index in enumerate(order(6, epoch)):
            counts[place, index] += 1
    assert abs(counts / 1200 - 1 / 6).max() < 0.05


def scenes(seed, n=40):
    """Scene ids of n samples, scenes of very different sizes, samples of a scene apart."""
    return [f"s{int(x)}" for x in np.random.default_rng(seed).exponential(4, n)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_takes_every_sample_once_in_whole_scenes(seed, world_size):
    ids, limit = scenes(seed), 6
    samplers = [SceneBatchSampler(ids, limit, rank, world_size) for rank in range(world_size)]
    batches = [batch for sampler in samplers for batch in sampler]
    assert sorted(chain(*batches)) == list(range(len(ids)))
    place = {}
    for number, batch in enumerate(batches):
        here = {ids[index] for index in batch}
        assert len(batch) <= limit or len(here) == 1
        for scene in here:
            assert place.setdefault(scene, number) == number
    loads = [sum(map(len, sampler)) for sampler in samplers]
    assert max(loads) - min(loads) <= max(limit, *Counter(ids).values())
    assert sorted(batches) == sorted(SceneBatchSampler(ids, limit))  # the same batches as one process has
    assert [len(s) for s in samplers] == [len(list(s)) for s in samplers]


def test_evaluation_packs_neighbours_in_the_order_of_the_dataset():
    ids = ["a", "b", "a", "c", "d", "d", "d", "d", "e"]
    assert list(SceneBatchSampler(ids, 3)) == [[0, 2, 1], [3], [4, 5, 6, 7], [8]]
    assert list(SceneBatchSampler(ids, 1)) == [[0, 2], [1], [3], [4, 5, 6, 7], [8]]


def test_evaluation_process_without_a_scene_has_no_batch():
    assert list(SceneBatchSampler(["a", "a"], 4, 0, 2)) == [[0, 1]]
    empty = SceneBatchSampler(["a", "a"], 4, 1, 2)
    assert len(empty) == 0
    assert list(empty) == []


def test_scenes_are_drawn_whole():
    scene_ids = [f"s{i}" for i in (0, 0, 0, 1, 2, 2, 3, 3, 3, 3)]
    seen = []
    for rank in range(2):
        sampler = TrainingSampler(scene_ids, 3, rank, 2, scene_ids)
        sampler.set_epoch(1)
        mine = list(sampler)
        assert len(mine) == len(sampler) == 5
        seen += mine
    assert sorted(seen) == list(range(10))
    drawn = [scene_ids[i] for i in seen]
    assert sum(a != b for a, b in pairwise(drawn)) == 3  # each scene in one piece
    first = TrainingSampler(scene_ids, 3, scene_ids=scene_ids)
    assert list(first) == list(first)
    other = TrainingSampler(scene_ids, 3, scene_ids=scene_ids)
    other.set_epoch(2)
    assert list(first) != list(other)
