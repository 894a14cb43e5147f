"""Every lever on speed and memory alone, on a GPU: RSRefSeg's training step and its answers, at the published size.

    make gpu
    make gpu ARGS="--minutes 4 --out runs/gpu/h100.json"

Random weights, 800 x 800 pixels, 4 expressions on 4 images a step. Peak memory is what torch had allocated. Cases run
in the order of the table until the time is over; what was not reached is left out and named. The table is printed, and
stored with all numbers as JSON (runs/gpu/NAME_OF_THE_GPU.json). With --device cpu and --presets tiny tiny it runs
anywhere, to try it: such numbers say nothing about a GPU.
"""

import argparse
import contextlib
import dataclasses
import gc
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.profile import device_name, versions
from bench.timing import once, side_by_side, table
from loading import write
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import make_folder, write_json
from rrsis_zoo.methods.rsrefseg.module import RSRefSegModule
from rrsis_zoo.models.backbones.sam import RelPosAttention
from rrsis_zoo.models.types import Batch
from rrsis_zoo.terminal import guarded
from rrsis_zoo.training.memory import PeakMemory

SENTENCES = [
    f"the {colour} {thing} {place}"
    for colour in ("red", "large white")
    for thing in ("ship", "storage tank", "vehicle", "tennis court")
    for place in ("on the left", "in the upper right corner of the image")
]
BATCH = 4


@dataclass(frozen=True)
class Case:
    """A setting of all levers.

    Attributes:
        name: in the table.
        precision: ``float32``, ``tf32`` or ``bf16``.
        attention: of SAM's encoder.
        compile: the setting of this name.
        checkpointing, fused, frozen: the levers on training.
    """

    name: str
    precision: str = "bf16"
    attention: str = "auto"
    compile: str = "off"
    checkpointing: Any = False
    fused: bool = False
    frozen: bool = False


STEPS = [
    Case("float32", "float32"),
    Case("TF32", "tf32"),
    Case("bf16-mixed"),
    Case("bf16-mixed, attention chunked", attention="chunked"),
    Case("bf16-mixed, fused AdamW", fused=True),
    Case("bf16-mixed, checkpointing all encoders", checkpointing=True),
    Case("bf16-mixed, checkpointing SAM alone", checkpointing=["sam.image_encoder.blocks.*"]),
    Case("bf16-mixed, frozen_dtype bfloat16", frozen=True),
    Case("bf16-mixed, compile default", compile="default"),
    Case("bf16-mixed, compile, fused, frozen_dtype", compile="default", fused=True, frozen=True),
]
LARGE = [
    Case("bf16-mixed"),
    Case("bf16-mixed, checkpointing all encoders", checkpointing=True),
    Case("bf16-mixed, fused, frozen_dtype, checkpointing", fused=True, frozen=True, checkpointing=True),
]
ANSWERS = [
    Case("float32", "float32"),
    Case("TF32", "tf32"),
    Case("bf16-mixed"),
    Case("bf16-mixed, attention chunked (as before)", attention="chunked"),
    Case("bf16-mixed, compile default", compile="default"),
]


class Bench:
    """One model, on which levers are set and taken back.

    Args:
        preset: of RSRefSeg.
        device: of the model.
        side: of the images in pixels.
    """

    def __init__(self, preset: str, device: torch.device, side: int) -> None:
        self.preset, self.device = preset, device
        rates = dict.fromkeys(
            ("sam_encoder", "siglip_vision", "siglip_text", "prompter", "prompt_encoder", "mask_decoder"), 1e-9
        )
        torch.manual_seed(0)
        with torch.device(device):  # random weights are made where they are needed
            self.module = RSRefSegModule(preset, learning_rates=rates)
        self.module.to(device)
        self.model = self.module.model
        self.model.fit_tokenizer(SENTENCES)
        images = [torch.randint(0, 256, (3, side, side), dtype=torch.uint8) for _ in range(BATCH)]
        masks = [torch.rand(side, side) > 0.9 for _ in images]
        self.batch = Batch(images, SENTENCES[:BATCH], torch.arange(BATCH), masks).to(device)

    def set(self, case: Case) -> None:
        """Set all levers."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case.precision == "tf32"
        for part in self.model.modules():
            if isinstance(part, RelPosAttention):
                part.attention = case.attention  # type: ignore[assignment]
        self.model.use_checkpointing(case.checkpointing)
        self.model.use_compile(case.compile)  # type: ignore[arg-type]
        self.module.fused = case.fused
        if case.frozen:
            self.model.store_frozen(torch.bfloat16)
        elif self.model.stored_frozen:
            raise ConfigError("frozen weights cannot be made whole again: cases with frozen weights come last")

    @contextlib.contextmanager
    def context(self, case: Case) -> Iterator[None]:
        """Return the context of forward passes."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            yield

    def step(self, case: Case) -> Callable[[], object]:
        """Return a training step."""
        self.model.train()
        optimiser = self.module.make_optimiser()

        def call() -> None:
            optimiser.zero_grad()
            with self.context(case):
                loss = self.model.loss(self.model(self.batch, "published"), self.batch)["loss"]
            loss.backward()
            optimiser.step()

        return call

    def answer(self, case: Case, sentences: int) -> Callable[[], object]:
        """Return an answer: from an image in the device's memory to masks of its size there."""
        self.model.eval()
        image, index = self.batch.images[:1], torch.zeros(sentences, dtype=torch.int64, device=self.device)
        asked = Batch(image, (SENTENCES * sentences)[:sentences], index, image_of=[0] * sentences)

        @torch.inference_mode()
        def call() -> object:
            with self.context(case):
                return self.model.restore(self.model(asked, "independent"))

        return call


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: the call, for instance ``step, RSRefSeg-b, batch 4``.
        case: the levers.
        seconds: median.
        first_s: first call, with everything that is compiled then.
        peak: bytes; None where it is not known.
        fault: why there is no number; empty if there is one.
    """

    what: str
    case: str
    seconds: float = 0.0
    first_s: float = 0.0
    peak: int | None = None
    fault: str = ""


def measured(bench: Bench, case: Case, what: str, make: Callable[[], Callable[[], object]], rounds: int) -> Row:
    """Measure one case; a full memory is a result too."""
    gc.collect()
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        bench.set(case)
        memory = PeakMemory(bench.model, bench.device)
        call = make()
        first = once(call, bench.device)
        times = side_by_side({"it": call}, bench.device, rounds, warm=1)["it"]
        return Row(what, case.name, times.median, first, memory.peak())
    except torch.OutOfMemoryError:
        return Row(what, case.name, fault="out of memory")
    finally:
        bench.model.zero_grad(set_to_none=True)


def loading(device: torch.device, workers: int, batches: int) -> Row:
    """Measure the loader alone: 800 x 800 JPEG, 4 expressions a batch, in the device's memory."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RRSIS_ZOO_CACHE"] = f"{folder}/cache"  # these files are gone in a minute
        root = Path(folder) / "rrsis-d"
        write("rrsis-d", root, BATCH * batches)
        data = RRSISDataModule(
            "rrsis-d", str(root), eval_batch_size=BATCH, num_workers=workers, pin_memory=device.type == "cuda"
        )
        loader = iter(data.test_dataloader())
        next(loader)  # the workers have started
        start, seen = time.perf_counter(), 0
        for batch in loader:
            data.transfer_batch_to_device(batch, device, 0)
            seen += 1
        seconds = (time.perf_counter() - start) / max(1, seen)
    return Row(f"loading, batch {BATCH}", f"{workers} workers", seconds)


def text(rows: list[Row], left: list[str]) -> str:
    """Return the table."""
    lines, before = [], {}
    for row in rows:
        before.setdefault(row.what, row.seconds or None)
        first = before[row.what]
        lines.append(
            [
                f"{row.what}: {row.case}",
                row.fault or f"{1000 * row.seconds:.1f}",
                "" if row.fault or not first else f"{first / row.seconds:.2f}",
                "" if row.peak is None else f"{row.peak / 2**30:.2f}",
                "" if row.fault or not row.first_s else f"{row.first_s:.1f}",
            ]
        )
    shown = table(["call", "ms", "times as fast", "peak GiB", "first call s"], lines)
    return shown + (f"\n\nnot reached in the time given: {'; '.join(left)}" if left else "")


def run(options: argparse.Namespace) -> int:
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else ""))
    end = time.monotonic() + 60 * options.minutes
    rows: list[Row] = []
    left: list[str] = []

    def take(bench: Bench, case: Case, what: str, make: Callable[[], Callable[[], object]]) -> None:
        if time.monotonic() > end:
            left.append(f"{what}: {case.name}")
            return
        rows.append(measured(bench, case, what, make, options.rounds))
        row = rows[-1]
        print(f"{what}: {case.name}: {row.fault or f'{1000 * row.seconds:.1f} ms'}", file=sys.stderr, flush=True)

    small, large = options.presets
    bench = Bench(small, device, options.side)
    for sentences in (1, 16):
        for case in ANSWERS:
            what = f"answer, RSRefSeg-{small}, {sentences} sentences"
            take(bench, case, what, lambda c=case, n=sentences, b=bench: b.answer(c, n))
    for case in sorted(STEPS, key=lambda case: case.frozen):
        take(bench, case, f"step, RSRefSeg-{small}, batch {BATCH}", lambda c=case, b=bench: b.step(c))
    del bench
    bench = Bench(large, device, options.side)
    for case in sorted(LARGE, key=lambda case: case.frozen):
        take(bench, case, f"step, RSRefSeg-{large} (large), batch {BATCH}", lambda c=case, b=bench: b.step(c))
    del bench
    rows += [loading(device, workers, options.batches) for workers in options.workers]
    shown = text(rows, left)
    print(shown)
    name = re.sub(r"\W+", "-", device_name(device)).strip("-").lower()
    out = options.out or Path("runs/gpu") / f"{name}.json"
    make_folder(out.parent)
    content = {"device": device_name(device), "versions": versions(), "rows": [dataclasses.asdict(row) for row in rows]}
    write_json(out, {**content, "left_out": left, "table": shown})
    print(f"\nwrote {out}")
    return 0


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--device", help="cuda by default; another one to try the program")
    parser.add_argument("--presets", nargs=2, default=["b", "l"], help="the small and the large one (default: b l)")
    parser.add_argument("--side", type=int, default=800, help="of the images in pixels (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="timed calls of a case (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=7.5, help="after which no case is begun (default: %(default)s)"
    )
    parser.add_argument("--batches", type=int, default=16, help="that are loaded (default: %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 8], help="loader processes (default: 0 2 8)")
    parser.add_argument("--out", type=Path, help="the JSON file; default: runs/gpu/NAME_OF_THE_GPU.json")
    options = parser.parse_args(words)
    if options.device is None and not torch.cuda.is_available():
        raise ConfigError(
            "there is no CUDA GPU here: make gpu ARGS='--device cpu --presets tiny tiny' tries the program"
        )
    return run(options)


if __name__ == "__main__":
    sys.exit(guarded(main))
