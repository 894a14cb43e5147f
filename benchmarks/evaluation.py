"""What the metrics cost beside the evaluation of a published configuration.

    make evaluation-cost                                        # RSRefSeg-b, random weights
    make evaluation-cost ARGS="--model control --preset base"

One 800 x 800 image of noise with one expression, as RRSIS-D has them, through the model as `rrsis test` takes it:
images to log-odds at native size. Beside it, the counts that every metric needs, and the details (boundaries, boxes,
centre) that the breakdown of a test needs; on a GPU with the device's time included. The numbers do not depend on the
weights. Prints JSON.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable

import torch

from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.metrics.protocols import PROTOCOLS
from rrsis_zoo.metrics.suite import ReferringMetrics
from rrsis_zoo.models.types import Batch
from rrsis_zoo.training.module import log_odds_at

SIDE = 800
EXPRESSION = "the ship on the upper left of the large harbor"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="rsrefseg")
    parser.add_argument("--preset", default="b")
    parser.add_argument("--repeats", type=int, default=2, help="of the model; 20 times as many of the metrics")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    model = method_named(options.model).model().from_preset(options.preset).to(device).eval()
    if not model.tokenizer_ready:
        model.fit_tokenizer([EXPRESSION] * 8)
    image = torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8)
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[200:330, 150:400] = True
    batch = Batch([image], [EXPRESSION], torch.zeros(1, dtype=torch.int64), [mask], ["noise"]).to(device)
    assert batch.masks is not None
    masks = batch.masks

    with torch.inference_mode():
        prediction = model(batch)
        log_odds = {size: log_odds_at(model, prediction, size) for size in {p.eval_size for p in PROTOCOLS.values()}}
        answer = seconds(lambda: model(batch), options.repeats, device)
        restore = seconds(lambda: model.restore(prediction), 20 * options.repeats, device)
        whole = answer + restore
        result = {
            "model": options.model, "preset": options.preset, "device": str(device), "image": SIDE,
            "model_s": round(answer, 4), "restore_s": round(restore, 4), "metrics": {},
        }  # fmt: skip
        for name, protocol in PROTOCOLS.items():
            costs = {}
            for what, details in (("counts", False), ("counts_and_details", True)):
                metrics = ReferringMetrics(protocol, ["noise"], details=details).to(device)
                scored = log_odds[protocol.eval_size]
                cost = seconds(lambda m=metrics, s=scored: m.update(s, masks, ["noise"]), 20 * options.repeats, device)
                costs |= {f"{what}_ms": round(1e3 * cost, 3), f"{what}_percent": round(100 * cost / whole, 3)}
            result["metrics"][name] = costs
    result["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)
    print(json.dumps(result, indent=1))


def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the mean time of a call after one to warm up: processor time on a CPU, wall time on a GPU."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    work()
    wait(device)
    start = clock()
    for _ in range(repeats):
        work()
    wait(device)
    return (clock() - start) / repeats


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
