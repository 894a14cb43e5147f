import json
import math
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from slow_reference import PROGRAMS, slow_metrics, undecided
from torch.utils._python_dispatch import TorchDispatchMode

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.protocols import PROTOCOLS
from rrsis_zoo.metrics.scores import THRESHOLDS
from rrsis_zoo.metrics.suite import ReferringMetrics

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
CASES = json.loads((GOLDEN / "cases.json").read_text())["cases"]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


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


def random_log_odds(n, seed, dtype):
    """Log-odds on a grid of their own, targets of other sizes; coarse values, so that half precision has ties."""
    generator = torch.Generator().manual_seed(seed)
    _, targets = random_masks(n, seed)
    preds = []
    for i, target in enumerate(targets):
        shape = target.shape if i % 2 else (16, 24)
        agree = torch.nn.functional.interpolate(target[None, None].float(), size=shape, mode="nearest")[0, 0] * 2 - 1
        preds.append((agree + torch.randn(shape, generator=generator)).to(dtype))
    return preds, targets


def names(n):
    """Ids of n samples: references with one to three sentences."""
    return [f"x/test/{(i + i % 3) // 3:05d}/{i}" for i in range(n)]


def evaluate(preds, targets, batches, ids, protocol="canonical", complete=True, details=False):
    metrics = ReferringMetrics(protocol, ids, complete, details)
    for batch in batches:
        metrics.update([preds[i] for i in batch], [targets[i] for i in batch], [ids[i] for i in batch])
    return metrics


def whole(preds, targets, **options):
    return evaluate(preds, targets, [range(len(preds))], names(len(preds)), **options)


def numbers(metrics):
    ids, counts = metrics.results()
    return [ids, *(getattr(counts, c).tolist() for c in ("intersection", "union", "predicted", "height", "width"))]


@pytest.mark.parametrize("case", CASES)
def test_golden_cases_from_masks(case):
    expected = CASES[case]["lavt_test"]
    n = expected["n"]
    with np.load(GOLDEN / "cases.npz") as masks:
        preds = [torch.from_numpy(masks[f"{case}/pred_{i}"]) > 0 for i in range(n)]
        targets = [torch.from_numpy(masks[f"{case}/target_{i}"]) > 0 for i in range(n)]
    result = whole(preds, targets).compute()
    wanted = {"n": n, "oiou": expected["oIoU"], "miou": expected["mIoU"]}
    wanted |= {f"pr@{t}": expected[f"Pr@{t}"] for t in THRESHOLDS}
    assert result == pytest.approx(wanted, abs=1e-9)
    ours, theirs = whole(preds, targets, protocol="rsrefseg").compute(), CASES[case]["rsrefseg"]
    wanted = {"oiou": theirs["cIoU_1"], "miou": float(theirs["gIoU_1"])}
    wanted |= {f"pr@{t}": theirs[f"seg_acc_{t}_1"] for t in THRESHOLDS}
    assert {k: v for k, v in ours.items() if k != "n"} == pytest.approx(wanted, abs=1e-4, nan_ok=True)


@pytest.mark.filterwarnings("ignore:oIoU is undefined")
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", range(3))
def test_masks_under_every_protocol_equal_the_slow_reference(protocol, seed):
    preds, targets = random_masks(7 + seed, seed)
    result = whole(preds, targets, protocol=protocol).compute()
    expected = slow_metrics(protocol, [p.numpy() for p in preds], [t.numpy() for t in targets], names(len(preds)))
    assert result == pytest.approx(expected, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_log_odds_under_every_protocol_equal_the_slow_reference(protocol, dtype):
    preds, targets = random_log_odds(7, 3, dtype)
    result = whole(preds, targets, protocol=protocol).compute()
    values, masks = [p.double().numpy() for p in preds], [t.numpy() for t in targets]
    expected = slow_metrics(protocol, values, masks, names(7))
    # between two coarse values of opposite sign a resized value can be 0 but for the last bit: a pixel of 160,000 each
    grid = PROGRAMS[protocol][0]
    ties = sum(undecided(v, m.shape if grid is None else (grid, grid)) for v, m in zip(values, masks, strict=True))
    assert ties < 50
    assert grid or not ties
    assert result == pytest.approx(expected, rel=1e-12, abs=ties * 100 / 160_000, nan_ok=True)


def test_first_sentences():
    ids = ["d/test/1/0", "d/test/1/1", "d/test/2/0", "single", "d/test/1/2", "other/name"]
    assert PROTOCOLS["evisam3"].counted(ids) == [True, False, True, True, False, True]
    assert all(PROTOCOLS["canonical"].counted(ids))
    one, half = torch.ones(1, 2) > 0, torch.tensor([[True, False]])
    metrics = evaluate([one, half, one, one, half, one], [one] * 6, [range(6)], ids, "evisam3")
    assert metrics.compute()["n"] == 4
    assert metrics.compute()["oiou"] == 100.0
    assert len(metrics.results()[0]) == 6  # all are kept for other protocols


def test_batching_and_order_do_not_matter_to_the_last_bit():
    n = 29
    preds, targets = random_masks(n, 0)
    once = whole(preds, targets)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(n).tolist()
        batches = [order[i : i + 1 + 3 * seed] for i in range(0, n, 1 + 3 * seed)]
        other = evaluate(preds, targets, batches, names(n))
        assert other.compute() == once.compute()
        assert numbers(other) == numbers(once)


def test_results_are_in_dataset_order():
    one, two = torch.tensor([[True, False]]), torch.tensor([[True, True]])
    ids = ["z", "unused", "a"]
    metrics = evaluate({0: two, 2: one}, {0: two, 2: two}, [[2, 0]], ids, complete=False, details=True)
    got, counts = metrics.results()
    assert got == ["z", "a"]
    assert (counts.intersection.tolist(), counts.union.tolist(), counts.predicted.tolist()) == ([2, 1], [2, 2], [2, 1])
    assert counts.target.tolist() == [2, 2]
    assert (counts.height.tolist(), counts.width.tolist()) == ([1, 1], [2, 2])
    assert counts.details.pred_box.tolist() == [[0, 0, 1, 2], [0, 0, 1, 1]]
    assert counts.details.centre_inside.tolist() == [True, True]
    assert counts.details.box_iou().tolist() == [1.0, 0.5]


def test_a_single_score_at_the_boundary():
    target = torch.ones(2, 5, dtype=torch.bool)
    pred = target.clone()
    pred.view(-1)[7:] = False
    result = whole([pred], [target]).compute()
    assert (result["pr@0.7"], result["pr@0.8"]) == (100.0, 0.0)


def test_all_empty_gives_nan_with_a_warning():
    empty = torch.zeros(3, 3, dtype=torch.bool)
    with pytest.warns(UserWarning, match="oIoU is undefined"):
        assert math.isnan(whole([empty], [empty]).compute()["oiou"])


@pytest.mark.parametrize(
    ("indices", "n", "complete", "words"),
    [
        ([0, 1, 2, 1], 3, True, "^sample s1 was scored more than once"),
        ([0, 0], 2, False, "^sample s0 was scored more than once"),
        ([0, 2], 4, True, r"^2 samples \(s1, s3\) were not scored in a split of 4"),
        ([3], 9, True, r"^8 samples \(s0, s1, s2, s4, s5, \.\.\.\) were not scored in a split of 9"),
    ],
)
def test_repeated_and_missing_samples(indices, n, complete, words):
    mask = torch.ones(2, 2, dtype=torch.bool)
    ids = [f"s{i}" for i in range(n)]
    metrics = evaluate([mask] * n, [mask] * n, [indices], ids, complete=complete)
    for call in (metrics.compute, metrics.results):
        with pytest.raises(ConfigError, match=words):
            call()
    metrics.start(["s0"])  # an error leaves nothing behind
    metrics.update([mask], [mask], ["s0"])
    assert metrics.compute()["miou"] == 100.0


def test_samples_of_another_split_and_ids_that_occur_twice():
    mask = torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(ConfigError, match="'b' is not in the split of 1 samples"):
        ReferringMetrics(sample_ids=["a"]).update([mask], [mask], ["b"])
    with pytest.raises(ConfigError, match="'a' occurs more than once"):
        ReferringMetrics(sample_ids=["b", "a", "a"])


def test_log_odds_that_are_no_numbers_are_named():
    mask, broken = torch.ones(2, 2, dtype=torch.bool), torch.tensor([[1.0, torch.nan], [1.0, 1.0]])
    metrics = evaluate([mask, broken], [mask] * 2, [[0, 1]], ["fine", "broken"])
    with pytest.raises(ConfigError, match=r"^sample broken was predicted as nan"):
        metrics.compute()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_scored():
    with pytest.raises(ConfigError, match="sample a was not scored in a split of 1"):
        ReferringMetrics(sample_ids=["a"]).compute()
    with pytest.raises(ConfigError, match="no samples to score"):
        ReferringMetrics().compute()


def test_empty_update_is_allowed():
    metrics = ReferringMetrics()
    metrics.update([], [], [])
    assert metrics.results()[0] == []


@pytest.mark.parametrize(
    ("preds", "targets", "ids", "words"),
    [
        (2, 2, ["a"], "2 predictions, 2 true masks and 1 sample ids"),
        (1, 2, ["a"], "1 predictions, 2 true masks"),
    ],
)
def test_updates_that_do_not_fit_together(preds, targets, ids, words):
    mask = torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(ConfigError, match=words):
        ReferringMetrics(sample_ids=["a"]).update([mask] * preds, [mask] * targets, ids)


def test_mask_shapes_must_agree():
    with pytest.raises(ConfigError, match=r"\(2, 3\).*\(3, 2\)"):
        whole([torch.ones(2, 3) > 0], [torch.ones(3, 2) > 0])
    with pytest.raises(ConfigError, match=r"true mask must be bool of shape \(H, W\), got bool \(3,\)"):
        whole([torch.ones(3) > 0], [torch.ones(3) > 0])


def test_constructor_refuses_what_it_cannot_use():
    with pytest.raises(ConfigError, match="unknown protocol 'x'"):
        ReferringMetrics("x")


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_reset_clone_pickle_and_state_dict():
    preds, targets = random_masks(6, 3)
    metrics = evaluate(preds, targets, [[0, 1, 2], [3, 4]], names(6))
    assert metrics.state_dict() == {}
    copies = [metrics.clone(), pickle.loads(pickle.dumps(metrics))]
    metrics.reset()
    for copy in copies:
        copy.update([preds[5]], [targets[5]], names(6)[5:])
        assert copy.compute() == whole(preds, targets).compute()
        assert copy.protocol == metrics.protocol
    with pytest.raises(ConfigError, match="6 samples"):
        metrics.compute()


def test_calling_the_metric_only_adds():
    preds, targets = random_masks(3, 1)
    metrics = ReferringMetrics(sample_ids=names(3))
    assert metrics(preds[:2], targets[:2], names(3)[:2]) is None
    metrics(preds[2:], targets[2:], names(3)[2:])
    assert metrics.compute() == whole(preds, targets).compute()


def test_result_is_the_callers_own():
    metrics = whole(*random_masks(3, 1))
    metrics.compute().clear()
    assert metrics.compute()["n"] == 3


def test_lower_precision_does_not_reach_the_counts():
    mask = torch.ones(50, 50, dtype=torch.bool)  # 2500 + 1 is no float16 or bfloat16
    ids = [str(i) for i in range(2050)]
    for convert in (torch.nn.Module.half, torch.nn.Module.bfloat16, lambda m: m.to(torch.float16)):
        metrics = ReferringMetrics(sample_ids=ids, complete=False)
        metrics.update([mask], [mask], ["2049"])
        holder = torch.nn.ModuleDict({"metrics": metrics})
        assert numbers(convert(holder)["metrics"]) == [["2049"], [2500], [2500], [2500], [50], [50]]


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for a device: a value read as a number, or a shape that depends on values."""

    READING = frozenset(
        f"aten::{name}"
        for name in ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2")
    )

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.name().split(".")[0] in self.READING
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("protocol", ["canonical", "evisam3"])
def test_an_update_reads_nothing_back(protocol):
    preds, targets = random_log_odds(4, 1, torch.float32)
    metrics = ReferringMetrics(protocol, names(4), details=True)
    with Reads() as reads:
        metrics.update(preds, targets, names(4))
    assert reads.count == 0
    with reads:
        preds[0].sum().item()
        torch.nonzero(targets[0])
    assert reads.count == 2


def test_masks_are_not_kept():
    """What stays of a sample are its integers: 56 bytes, 144 with details."""
    for details, size in ((False, 56), (True, 144)):
        metrics = ReferringMetrics(sample_ids=names(90), details=details)
        mask = torch.ones(64, 64) > 0
        for name in names(90):
            metrics.update([mask], [mask], [name])
        held = {row.untyped_storage().data_ptr(): row.untyped_storage().nbytes() for row in metrics.rows}
        assert sum(held.values()) == 90 * size


RANK_PROGRAM = """
import json, sys
import torch
import torch.distributed as dist
sys.path.insert(0, {folder!r})
from test_suite import DTYPES, evaluate, names, numbers, random_log_odds, random_masks
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.protocols import PROTOCOLS
from rrsis_zoo.metrics.suite import ReferringMetrics

torch.set_num_threads(1)
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
preds, targets = random_masks(15, 7)
ids = names(15)
results = []
shards = [
    ([range(0, 15, 2), range(1, 15, 2)], 2),  # 8 and 7
    ([range(0, 3), range(3, 15)], 4),         # 3 and 12
    ([range(15), []], 4),                     # the second rank has nothing
    ([[], range(15)], 4),
]
for parts, step in shards:
    mine = list(parts[rank])
    batches = [mine[i:i + step] for i in range(0, len(mine), step)]
    metrics = evaluate(preds, targets, batches, ids, details=step == 4)
    results.append([metrics.compute(), numbers(metrics)])
    own = sum(len(rows) for rows in metrics.rows)
    assert own == len(mine), "gathering must leave the local rows as they were"

# All samples on both ranks; then half of them; then none; then other splits: an error on both, and no harm after it.
for parts in ([range(15), range(15)], [range(0, 7), []], [[], []], None):
    metrics.start(ids if parts or rank else ids[::-1])
    mine = [] if parts is None else list(parts[rank])
    metrics.update([preds[i] for i in mine], [targets[i] for i in mine], [ids[i] for i in mine])
    try:
        metrics.compute()
    except ConfigError as error:
        results.append(str(error))
metrics.start(ids)
mine = list(range(rank, 15, 2))
metrics.update([preds[i] for i in mine], [targets[i] for i in mine], [ids[i] for i in mine])
results.append([metrics.compute(), numbers(metrics)])

# every protocol, every precision
for protocol in PROTOCOLS:
    for dtype in DTYPES:
        preds, targets = random_log_odds(5, 3, dtype)
        mine = [list(range(rank, 5, 2))]
        results.append(evaluate(preds, targets, mine, names(5), protocol).compute())
dist.destroy_process_group()
print(json.dumps(results))
"""


def test_two_processes_are_bit_equal_to_one(tmp_path):
    outputs = two_processes(RANK_PROGRAM.format(folder=str(Path(__file__).parent)), tmp_path)
    preds, targets = random_masks(15, 7)
    single = whole(preds, targets)
    expected = json.loads(json.dumps([single.compute(), numbers(single)]))
    every = [
        whole(*random_log_odds(5, 3, dtype), protocol=protocol).compute() for protocol in PROTOCOLS for dtype in DTYPES
    ]
    for rows in outputs:
        shards, (twice, half, nothing, other), again, protocols = rows[:4], rows[4:8], rows[8], rows[9:]
        assert shards == [expected] * 4
        assert again == expected
        assert twice.startswith("15 samples (x/test/00000/0, x/test/00000/1,")
        assert "were scored more than once" in twice
        assert half.startswith("8 samples (x/test/00002/7,")
        assert "were not scored in a split of 15" in half
        assert nothing.startswith("15 samples")
        assert other.startswith("the processes do not evaluate the same split")
        assert repr(protocols) == repr(every)  # to the last digit, nan too


def two_processes(program, tmp_path, names=("0", "1")):
    """Run a program that gets its rank (or another name) and a file to meet by, and return the JSON each prints."""
    import warm  # not where the programs import this module

    ranks = [
        subprocess.Popen(
            [warm.python(), "-W", "ignore", "-c", program, name, str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for name in names
    ]
    try:
        outputs = [rank.communicate(timeout=300) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert not any(rank.returncode for rank in ranks), outputs
    return [json.loads(out) for out, _ in outputs]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("protocol", ["canonical", "lavt480"])
def test_on_a_gpu_without_waiting_for_it(protocol):
    preds, targets = random_log_odds(9, 2, torch.float32)
    there = [log_odds.cuda() for log_odds in preds], [mask.cuda() for mask in targets]
    metrics = ReferringMetrics(protocol, names(9), details=True).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics.update(*there, names(9))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = whole(preds, targets, protocol=protocol, details=True)
    assert numbers(metrics) == numbers(expected)

    on_cpu = ReferringMetrics(protocol, names(9))  # a metric that nobody moved
    on_cpu.update(*there, names(9))
    assert numbers(on_cpu) == numbers(expected)
