"""RSRefSeg 2's mask prompt: the published way (enlarge all channels, then correlate) beside ours, time and memory.

make dense-prompt

Both start from the same vector u and map W at the released sizes, each in a process of its own. Time is the processor
time of one thread, the best of several; memory is the peak above what the process held when u and W were made.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from rrsis_zoo.models.layers.correlation import correlate_enlarged

WAYS = ("published", "ours")


def published(u: Tensor, W: Tensor, side: int) -> Tensor:
    """Enlarge the map, normalise it and u, correlate; every step as one call, as it is written there."""
    big = F.interpolate(W, size=(side, side), mode="bilinear", align_corners=True)
    big = big / big.norm(dim=1, keepdim=True)
    return torch.einsum("nc,nchw->nhw", u / u.norm(dim=-1, keepdim=True), big).unsqueeze(1)


def inputs(options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    u = torch.randn(options.expressions, options.width, generator=rng)
    return u, torch.randn(options.expressions, options.width, options.grid, options.grid, generator=rng)


def peak_memory() -> int:
    """Peak resident memory in bytes since the last reset."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def measure(way: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    u, W = inputs(options)
    function = {"published": published, "ours": correlate_enlarged}[way]
    with torch.inference_mode():
        function(u[:1, :8], W[:1, :8, :4, :4], 8)  # first calls load code
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = peak_memory()
        out = function(u, W, options.side)
        memory = peak_memory() - before
        times = []
        for _ in range(options.repeats):
            start = time.process_time()
            function(u, W, options.side)
            times.append(time.process_time() - start)
        reference = (
            function(u[:1], W[:1], options.side) if way == "published" else published(u[:1], W[:1], options.side)
        )
    print(
        json.dumps(
            {
                "way": way,
                "cpu_s": round(min(times), 4),
                "peak_MB": round(memory / 2**20, 1),
                "difference_from_published": float((out[:1] - reference).abs().max()),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--expressions", type=int, default=4)
    parser.add_argument("--width", type=int, default=1152, help="C")
    parser.add_argument("--grid", type=int, default=32)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--way", choices=WAYS, help="measure one, in this process")
    options = parser.parse_args()
    if options.way:
        measure(options.way, options)
        return
    rows = []
    for way in WAYS:
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--way", way], check=True, capture_output=True, text=True
        )
        rows.append(json.loads(done.stdout))
        print(rows[-1])
    first, second = rows
    time_gain, memory_gain = (first[key] / second[key] for key in ("cpu_s", "peak_MB"))
    print(
        f"{options.expressions} expressions, {options.width} × {options.grid}² -> {options.side}²: "
        f"{time_gain:.0f} times less time, {memory_gain:.0f} times less memory; torch {torch.__version__}, one thread"
    )


if __name__ == "__main__":
    main()
