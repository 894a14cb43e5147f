"""The size of RRSIS-D's test split, through loader, network and metrics, on one process and on two."""

from pathlib import Path

import numpy as np
import pytest
from test_suite import two_processes

from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd

N = 3481  # 59 x 59: no number of processes divides it but 59

PROGRAM = """
import hashlib, json, sys
import torch
import torch.distributed as dist
sys.path.insert(0, {models!r})
from standins import StandInConfig, TwoQuerySets
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.metrics.suite import ReferringMetrics

torch.set_num_threads(1)
rank, store = sys.argv[1], sys.argv[2]
if rank != "alone":
    dist.init_process_group("gloo", init_method="file://" + store, rank=int(rank), world_size=2)
encoded = []

class Watched(TwoQuerySets):
    def encode_image(self, images):
        encoded.extend(hashlib.sha256(i.numpy().tobytes()).hexdigest() for i in images)
        return super().encode_image(images)

    def segment(self, state, prompts, image_index):
        log_odds = super().segment(state, prompts, image_index)
        return log_odds - log_odds.mean((1, 2, 3), keepdim=True)  # untrained, it would say nothing everywhere

torch.manual_seed(0)
data = RRSISDataModule(root={root!r}, num_workers=0, eval_batch_size=16)
model = Watched(StandInConfig(side=32, width=8)).eval()
model.fit_tokenizer(["the large ship near pier number 0 1 2 3 4 5 6 7 8 9"])
metrics = ReferringMetrics("canonical", data.sample_ids("test"))
with torch.inference_mode():
    for batch in data.test_dataloader():
        if not len(batch):
            continue  # the other process has a step more
        prediction = model(batch, "published")  # answers depend on batch mates, and must not on the processes
        metrics.update(model.restore(prediction), batch.masks, batch.sample_ids)
numbers = metrics.compute()
ids, counts = metrics.results()
rows = [counts.intersection.tolist(), counts.union.tolist()]
if rank != "alone":
    dist.destroy_process_group()
print(json.dumps([repr(numbers), rows, encoded]))
"""


@pytest.mark.slow
def test_3481_samples_on_two_processes_are_bit_equal_to_one(tmp_path):
    rng = np.random.default_rng(0)
    sizes, left = [], N
    while left:  # scenes with 1 to 7 expressions
        sizes.append(int(min(left, rng.integers(1, 8))))
        left -= sizes[-1]
    write_rrsisd(tmp_path / "data", (scene(rng, size) for size in sizes))
    program = PROGRAM.format(models=str(Path(__file__).parents[1] / "models"), root=str(tmp_path / "data"))
    (alone,) = two_processes(program, tmp_path, ["alone"])
    first, second = two_processes(program, tmp_path)

    numbers, rows, encoded = alone
    assert first[:2] == second[:2] == [numbers, rows]
    assert f"'n': {N}" in numbers
    assert len(set(rows[0])) > 50  # the network answers differently from sample to sample
    assert len(encoded) == len(set(encoded)) == len(sizes)
    assert len(first[2]) + len(second[2]) == len(sizes)
    assert set(first[2]) | set(second[2]) == set(encoded)  # so each scene on one process only
    assert abs(len(first[2]) - len(second[2])) < 0.1 * len(sizes)


def scene(rng, expressions):
    height, width = rng.integers(16, 28, 2)
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[rng.integers(0, 8) : rng.integers(9, 28), rng.integers(0, 8) : rng.integers(9, 28)] = True
    texts = [f"the {'large ' * int(rng.integers(0, 3))}ship near pier number {i}" for i in range(expressions)]
    return ReferredScene(
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8), [Referent(mask, texts, "ship")], "test"
    )
