"""Train every method's tiny preset on 32 synthetic samples and compare with what a mask of its stride can reach.

make capacity, or make capacity ARGS=control
"""

import argparse
import json
import time

import torch

from bench.capacity import memorise
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.dataset import RRSISDataset, collate
from rrsis_zoo.data.synthetic import mask_ceiling
from rrsis_zoo.methods.registry import list_models, method_named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="which; all if none is named")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=3e-3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = RRSISDataModule("synthetic")
    data.prepare_data()
    dataset = RRSISDataset(data.records("train"))
    batch = collate(dataset.__getitems__(range(options.samples)))
    ceiling = mask_ceiling([mask.numpy() for mask in batch.masks or []])
    for name in options.methods or list_models():
        torch.manual_seed(0)
        model = method_named(name).model().from_preset("tiny")
        start, curve = time.process_time(), []
        for step, score in memorise(model, batch, options.steps, options.rate):
            curve.append(score)
            print(f"{name} step {step}: {score:.3f}", flush=True)
        result = {
            "model": name,
            "samples": options.samples,
            "miou": round(curve[-1], 4),
            "ceiling_stride_4": round(ceiling, 4),
            "share_of_ceiling": round(curve[-1] / ceiling, 4),
            "cpu_s": round(time.process_time() - start, 1),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
