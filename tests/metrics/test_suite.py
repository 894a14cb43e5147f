import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.scores import THRESHOLDS
from rrsis_zoo.metrics.suite import ReferringMetrics

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
CASES = json.loads((GOLDEN / "cases.json").read_text())["cases"]


def random_masks(n, seed):
    """Masks of n samples of odd and different sizes, some empty; sample i is the same for every n."""
    preds, targets = [], []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        shape = tuple(rng.integers(1, 40, 2))
        target = rng.random(shape) < rng.choice([0.0, 0.2, 0.6], p=[0.2, 0.4, 0.4])
        flip = rng.random(shape) < rng.choice([0.0, 0.1, 0.5])
        preds.append(torch.from_numpy(target ^ flip))
        targets.append(torch.from_numpy(target))
    return preds, targets


def slow_reference(preds, targets):
    """The metrics by loops over pixels in plain Python."""
    both_sum = either_sum = 0
    ious = []
    for pred, target in zip(preds, targets, strict=True):
        pixels = list(zip(pred.flatten().tolist(), target.flatten().tolist(), strict=True))
        both, either = sum(p and t for p, t in pixels), sum(p or t for p, t in pixels)
        both_sum, either_sum = both_sum + both, either_sum + either
        ious.append(both / either if either else 0.0)
    n = len(ious)
    result = {"n": n, "oiou": 100 * both_sum / either_sum, "miou": 100 * sum(ious) / n}
    return result | {f"pr@{t}": 100 * sum(iou >= t for iou in ious) / n for t in THRESHOLDS}


def evaluate(preds, targets, batches, **kwargs):
    metrics = ReferringMetrics(**kwargs)
    for batch in batches:
        metrics.update([preds[i] for i in batch], [targets[i] for i in batch], torch.tensor(batch, dtype=torch.int64))
    return metrics


@pytest.mark.parametrize("case", CASES)
def test_golden_cases_from_masks(case):
    expected = CASES[case]["lavt_test"]
    n = expected["n"]
    with np.load(GOLDEN / "cases.npz") as masks:
        preds = [torch.from_numpy(masks[f"{case}/pred_{i}"]) > 0 for i in range(n)]
        targets = [torch.from_numpy(masks[f"{case}/target_{i}"]) > 0 for i in range(n)]
    result = evaluate(preds, targets, [list(range(n))], expected_n=n).compute()
    wanted = {"n": n, "oiou": expected["oIoU"], "miou": expected["mIoU"]}
    wanted |= {f"pr@{t}": expected[f"Pr@{t}"] for t in THRESHOLDS}
    assert result == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_loops_over_pixels(seed):
    preds, targets = random_masks(13 + seed, seed)
    n = len(preds)
    result = evaluate(preds, targets, [list(range(n))], expected_n=n).compute()
    assert result == pytest.approx(slow_reference(preds, targets), rel=1e-13)


def test_batching_and_order_do_not_matter_to_the_last_bit():
    n = 29
    preds, targets = random_masks(n, 0)
    whole = evaluate(preds, targets, [list(range(n))], expected_n=n)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(n).tolist()
        batches = [order[i : i + 1 + 3 * seed] for i in range(0, n, 1 + 3 * seed)]
        other = evaluate(preds, targets, batches, expected_n=n)
        assert other.compute() == whole.compute()
        assert other.per_sample() == whole.per_sample()


def test_per_sample_is_in_dataset_order():
    one, two = torch.tensor([[True, False]]), torch.tensor([[True, True]])
    metrics = evaluate({4: one, 9: two}, {4: two, 9: two}, [[9, 4]])
    assert metrics.per_sample() == [(4, 1, 2), (9, 2, 2)]


def test_a_single_score_at_the_boundary():
    target = torch.ones(2, 5, dtype=torch.bool)
    pred = target.clone()
    pred.view(-1)[7:] = False
    result = evaluate([pred], [target], [[0]], expected_n=1).compute()
    assert (result["pr@0.7"], result["pr@0.8"]) == (100.0, 0.0)


def test_all_empty_gives_nan_with_a_warning():
    empty = torch.zeros(3, 3, dtype=torch.bool)
    metrics = evaluate([empty], [empty], [[0]])
    with pytest.warns(UserWarning, match="oIoU is undefined"):
        assert math.isnan(metrics.compute()["oiou"])


@pytest.mark.parametrize(
    ("indices", "expected_n", "words"),
    [
        ([0, 1, 2, 1], 3, "^sample 1 was scored more than once"),
        ([0, 0], None, "^sample 0 was scored more than once"),
        ([0, 2], 4, r"^2 samples \(1, 3\) were not scored in a split of 4"),
        ([3], 9, r"^8 samples \(0, 1, 2, 4, 5, \.\.\.\) were not scored in a split of 9"),
        ([0, 1, 2], 2, "^sample 2 was scored, which cannot be in a split of 2"),
        ([-1, 0], None, "^sample -1 was scored, which cannot be in a split"),
    ],
)
def test_repeated_missing_and_impossible_samples(indices, expected_n, words):
    mask = torch.ones(2, 2, dtype=torch.bool)
    metrics = evaluate(dict.fromkeys(indices, mask), dict.fromkeys(indices, mask), [indices], expected_n=expected_n)
    for numbers in (metrics.compute, metrics.per_sample):
        with pytest.raises(ConfigError, match=words):
            numbers()
    metrics.reset()  # an error leaves nothing behind
    metrics.update([mask], [mask], torch.tensor([0]))
    metrics.expected_n = 1
    assert metrics.compute()["miou"] == 100.0


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_scored():
    with pytest.raises(ConfigError, match="sample 0 was not scored in a split of 1"):
        ReferringMetrics(expected_n=1).compute()
    with pytest.raises(ConfigError, match="no samples to score"):
        ReferringMetrics().compute()


def test_empty_update_is_allowed():
    metrics = ReferringMetrics()
    metrics.update([], [], torch.empty(0, dtype=torch.int64))
    assert metrics.per_sample() == []


@pytest.mark.parametrize(
    ("preds", "targets", "index", "words"),
    [
        (2, 2, torch.tensor([0]), "2 predicted masks, 2 true masks and 1 indices"),
        (1, 2, torch.tensor([0]), "1 predicted masks, 2 true masks"),
        (1, 1, torch.tensor([0.0]), "index must be int64"),
        (1, 1, torch.tensor([[0]]), r"index must be int64 of shape \(N,\), got int64 \(1, 1\)"),
    ],
)
def test_updates_that_do_not_fit_together(preds, targets, index, words):
    mask = torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(ConfigError, match=words):
        ReferringMetrics().update([mask] * preds, [mask] * targets, index)


def test_mask_shapes_must_agree():
    with pytest.raises(ConfigError, match=r"\(2, 3\).*\(3, 2\)"):
        ReferringMetrics().update([torch.ones(2, 3) > 0], [torch.ones(3, 2) > 0], torch.tensor([0]))


def test_constructor_refuses_what_it_cannot_use():
    with pytest.raises(ConfigError, match="unknown protocol 'x'"):
        ReferringMetrics("x")
    with pytest.raises(ConfigError, match="expected_n"):
        ReferringMetrics(expected_n=-1)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_reset_clone_pickle_and_state_dict():
    preds, targets = random_masks(6, 3)
    metrics = evaluate(preds, targets, [[0, 1, 2], [3, 4]], expected_n=6)
    assert metrics.state_dict() == {}
    copies = [metrics.clone(), pickle.loads(pickle.dumps(metrics))]
    metrics.reset()
    for copy in copies:
        copy.update([preds[5]], [targets[5]], torch.tensor([5]))
        assert copy.compute() == evaluate(preds, targets, [list(range(6))]).compute()
        assert copy.protocol == metrics.protocol
    with pytest.raises(ConfigError, match="6 samples"):
        metrics.compute()


def test_calling_the_metric_only_adds():
    preds, targets = random_masks(3, 1)
    metrics = ReferringMetrics(expected_n=3)
    assert metrics(preds[:2], targets[:2], torch.tensor([0, 1])) is None
    metrics(preds[2:], targets[2:], torch.tensor([2]))
    assert metrics.compute() == evaluate(preds, targets, [[0, 1, 2]]).compute()


def test_result_is_the_callers_own():
    metrics = evaluate(*random_masks(3, 1), [[0, 1, 2]])
    metrics.compute().clear()
    assert metrics.compute()["n"] == 3


def test_lower_precision_does_not_reach_the_counts():
    mask = torch.ones(50, 50, dtype=torch.bool)  # 2500 + 1 is no float16 or bfloat16
    for convert in (torch.nn.Module.half, torch.nn.Module.bfloat16, lambda m: m.to(torch.float16)):
        holder = torch.nn.ModuleDict({"metrics": evaluate({2049: mask}, {2049: mask}, [[2049]])})
        assert convert(holder)["metrics"].per_sample() == [(2049, 2500, 2500)]


RANK_PROGRAM = """
import json, sys
import torch
import torch.distributed as dist
sys.path.insert(0, {folder!r})
from test_suite import evaluate, random_masks
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.suite import ReferringMetrics

torch.set_num_threads(1)
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
preds, targets = random_masks(15, 7)
results = []
shards = [
    ([range(0, 15, 2), range(1, 15, 2)], 2),  # 8 and 7
    ([range(0, 3), range(3, 15)], 4),         # 3 and 12
    ([range(15), []], 4),                     # the second rank has nothing
    ([[], range(15)], 4),
]
for parts, step in shards:
    mine = list(parts[rank])
    metrics = evaluate(preds, targets, [mine[i:i + step] for i in range(0, len(mine), step)], expected_n=15)
    results.append([metrics.compute(), metrics.per_sample()])
    own = sum(len(rows) for rows in metrics.rows)
    assert own == len(mine), "gathering must leave the local rows as they were"

# All samples on both ranks; then half of them; then none: an error on both, and the metric can be used again.
for parts in ([range(15), range(15)], [range(0, 7), []], [[], []]):
    metrics.reset()
    mine = list(parts[rank])
    metrics.update([preds[i] for i in mine], [targets[i] for i in mine], torch.tensor(mine, dtype=torch.int64))
    try:
        metrics.compute()
    except ConfigError as error:
        results.append(str(error))
metrics.reset()
mine = list(range(rank, 15, 2))
metrics.update([preds[i] for i in mine], [targets[i] for i in mine], torch.tensor(mine))
results.append([metrics.compute(), metrics.per_sample()])
dist.destroy_process_group()
print(json.dumps(results))
"""


def test_two_processes_are_bit_equal_to_one(tmp_path):
    program = RANK_PROGRAM.format(folder=str(Path(__file__).parent))
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=120) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], outputs

    preds, targets = random_masks(15, 7)
    single = evaluate(preds, targets, [list(range(15))], expected_n=15)
    expected = json.loads(json.dumps([single.compute(), single.per_sample()]))
    for out, _ in outputs:
        *shards, twice, half, nothing, again = json.loads(out)
        assert shards == [expected] * 4
        assert again == expected
        assert twice.startswith("15 samples (0, 1, 2, 3, 4, ...) were scored more than once")
        assert half.startswith("8 samples (7, 8, 9, 10, 11, ...) were not scored in a split of 15")
        assert nothing.startswith("15 samples (0, 1, 2, 3, 4, ...) were not scored in a split of 15")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_without_waiting_for_it():
    preds, targets = random_masks(9, 2)
    there = [mask.cuda() for mask in preds], [mask.cuda() for mask in targets]
    index = torch.arange(9)
    metrics = ReferringMetrics(expected_n=9).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics.update(*there, index)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = evaluate(preds, targets, [list(range(9))])
    assert metrics.per_sample() == expected.per_sample()

    on_cpu = ReferringMetrics(expected_n=9)  # a metric that nobody moved, and indices on the GPU
    on_cpu.update(*there, index.cuda())
    assert on_cpu.per_sample() == expected.per_sample()
