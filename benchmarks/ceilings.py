"""How high can a score get? Perfect masks, given on a coarse grid, under every protocol.

    make ceilings

A decoder of stride k says one value per k x k pixels. Here every value is right (the share of the cell that the
referent covers), comes back to the protocol's grid bilinearly and is cut at one half: what is lost is the grid's fault
alone.
Test split of the embedded synthetic scenes (128 px); prints a Markdown table of mIoU and Pr@0.9.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.metrics.measure import measure
from rrsis_zoo.metrics.protocols import PROTOCOLS
from rrsis_zoo.metrics.scores import score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder of the synthetic scenes; made where it is not there")
    parser.add_argument("--samples", type=int, default=250, help="spread evenly over the split")
    parser.add_argument("--strides", type=int, nargs="+", default=[2, 4, 8])
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = RRSISDataModule("synthetic", root=options.root)
    data.prepare_data()
    records = data.records("test")
    chosen = [records[i] for i in np.linspace(0, len(records) - 1, min(options.samples, len(records))).astype(int)]
    masks = [torch.from_numpy(record.mask.decode()) for record in chosen]
    print("| protocol | " + " | ".join(f"stride {k}: mIoU | Pr@0.9" for k in options.strides) + " |")
    print("|---|" + "---:|" * (2 * len(options.strides)))
    for name, protocol in PROTOCOLS.items():
        cells = []
        for stride in options.strides:
            rows = torch.stack([measure(coarse(mask, stride), mask, protocol.eval_size) for mask in masks]).numpy()
            numbers = score(rows[:, 0], rows[:, 1], protocol)
            cells += [f"{numbers['miou']:.1f}", f"{numbers['pr@0.9']:.1f}"]
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)
    print(f"\n{len(masks)} of {len(records)} samples.")


def coarse(mask: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the right log-odds (in sign) on a grid of H / stride x W / stride."""
    return F.avg_pool2d(mask[None, None].float(), stride)[0, 0] - 0.5


if __name__ == "__main__":
    main()
