"""Time and memory of RS2-SAM2's forward pass, ours and the published way, part by part, in one run.

    make rs2sam2-forward                                      # the published configuration at 1024 px, float32, batch 1
    make rs2sam2-forward ARGS="--image-size 256"              # its 934 million parameters on a smaller image
    make rs2sam2-forward ARGS="--preset tiny --repeats 5"

The published program asks every multi-head attention for its averaged attention map and throws it away, normalises
twice in every block, computes the union encoder's attention map by map, makes position maps that nothing reads, and
turns its output into two channels and a map of one number. That is done here to the same model with the same weights,
so that the two can be compared in time, memory and result.

Peaks are of resident memory above what was resident before the part (Linux and glibc), times are processor seconds
of all threads; of several repeats the smallest of each. Weights are random.
"""

import argparse
import contextlib
import ctypes
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import do_pool
from sam2.modeling.position_encoding import PositionEmbeddingSine
from torch import Tensor

from rrsis_zoo.methods.rs2sam2.model import RS2SAM2, MaskPromptGenerator
from rrsis_zoo.models.backbones.beit3 import JointAttention
from rrsis_zoo.models.backbones.sam2 import ADAPTER_SCALE, TEXT_SHARE, FusionLayer, Neck, TextBlock
from rrsis_zoo.models.layers.geometry import resize
from rrsis_zoo.models.types import Prompts, Tokens

PARTS = ("union encoder", "prompts", "trunk", "neck", "fusion behind it", "decoder", "output")

# -- the published way -------------------------------------------------------------------------------------------------


def joint_attention(self: JointAttention, vision: Tensor, text: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
    q, k, v = (
        torch.cat(project(vision, text), 1).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        for project in (self.q_proj, self.k_proj, self.v_proj)
    )
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if seen is not None:
        scores = scores.masked_fill(~seen, float("-inf"))
    out = (scores.softmax(-1, dtype=torch.float32).type_as(scores) @ v).transpose(1, 2).flatten(2)
    rows = vision.shape[1]
    return self.out_proj(*self.inner_attn_ln(out[:, :rows], out[:, rows:]))


def mask_prompt(self: MaskPromptGenerator, cls: Tensor, V: Tensor) -> Tensor:
    read, _map = self.read(cls, V, V)
    logits = self.product(V * self.linear(cls * read))
    side = int(V.shape[1] ** 0.5)
    return logits.transpose(1, 2).unflatten(2, (side, side))


def fusion(self: FusionLayer, y: Tensor, words: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
    a, u = F.gelu(self.image_down(y)).flatten(1, 2), self.text_down(words)
    read, _map = self.image_reads(a, u, u, key_padding_mask=hidden)
    a = a + read
    read, _map = self.text_reads(u, a, a)
    words = (1 - TEXT_SHARE) * words + TEXT_SHARE * self.text_up(u + read)
    return y + self.image_up(a).view_as(y), words


def block(self: TextBlock, x: Tensor, words: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
    y = self.norm1(x)
    shortcut = x if self.dim == self.dim_out else do_pool(self.proj(y), self.pool)  # type: ignore[arg-type]
    y, words = self.fusion(self.attend(y), words, hidden)
    x = shortcut + y
    return x + self.mlp(self.norm2(x)) + ADAPTER_SCALE * self.adapter(self.norm2(x)), words


def multiply(self: RS2SAM2, cells: Tensor, code: Tensor, words: Tensor, pads: Tensor | None) -> Tensor:
    read, _map = self.post_fusion(cells + code, words, words, key_padding_mask=pads)
    return cells * read


@functools.cache
def positions(width: int) -> PositionEmbeddingSine:
    return PositionEmbeddingSine(width)  # keeps its maps from one call to the next


def neck(original: Callable[..., list[Tensor]], self: Neck, xs: list[Tensor]) -> list[Tensor]:
    levels = original(self, xs)
    _unread = [positions(self.d_model)(level) for level in levels]
    return levels


def two_channels(model: RS2SAM2, log_odds: Tensor, w: Tensor) -> Tensor:
    side = model.config.sam.image_size
    p = resize((log_odds + 1) / 2, (side, side))
    _map = w[:, None, None].repeat(1, side, side)
    return torch.cat([1 - p, p], 1)[:, 1:]


def one_channel(model: RS2SAM2, log_odds: Tensor, w: Tensor) -> Tensor:
    side = model.config.sam.image_size
    return (resize(log_odds, (side, side)) + 1) / 2


@contextlib.contextmanager
def published() -> Iterator[None]:
    original = Neck.forward
    with contextlib.ExitStack() as stack:
        for kind, name, function in (
            (JointAttention, "forward", joint_attention),
            (MaskPromptGenerator, "forward", mask_prompt),
            (FusionLayer, "forward", fusion),
            (TextBlock, "forward", block),
            (RS2SAM2, "multiply", multiply),
            (Neck, "forward", lambda self, xs: neck(original, self, xs)),
        ):
            stack.enter_context(mock.patch.object(kind, name, function))
        yield


# -- measuring ---------------------------------------------------------------------------------------------------------


class Meter:
    """Processor time and peak of resident memory of parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.megabytes: dict[str, float] = {}
        self.top = 0.0

    def __call__(self, part: str, function: Callable[..., Any], *arguments: Any) -> Any:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free but kept would hide what the part takes
        with contextlib.suppress(OSError):  # where it is not allowed, peaks are those since the start of the process
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, start = resident("VmRSS"), time.process_time()
        result = function(*arguments)
        self.seconds[part] = time.process_time() - start
        peak = resident("VmHWM")
        self.megabytes[part], self.top = peak - before, max(self.top, peak)
        return result


def resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def forward(model: RS2SAM2, views: dict[str, Tensor], tokens: Tokens, output: Callable[..., Tensor]) -> Any:
    """The method's own steps, each measured; returns the meter and p at S × S."""
    meter, sam = Meter(), model.sam
    E = meter("union encoder", model.union, views["small"], tokens.ids, tokens.ids == 3)

    def prompt() -> tuple[Prompts, Tensor]:
        words = model.word_head(E.words)
        pseudo_mask = model.mask_prompt(E.cls, E.patches).sigmoid()
        side = model.config.sam.mask_size
        prompts = Prompts(model.sparse_head(E.cls), resize(pseudo_mask, (side, side)), pseudo_mask, words)
        return prompts, model.boundary_head(words[:, 0]).squeeze(-1)

    prompts, w = meter("prompts", prompt)
    words = prompts.words
    maps = meter("trunk", sam.image_encoder.trunk, views["image"], words, None)
    pyramid = meter("neck", lambda levels: sam.pyramid(sam.image_encoder.neck(levels)), maps)
    del maps
    embedding = meter("fusion behind it", model.fuse_after, pyramid.embedding, words, None)
    dense = sam.encode_mask(prompts.dense)
    decoded = meter("decoder", sam.decode, pyramid._replace(embedding=embedding), prompts.sparse, dense)
    p = meter("output", output, model, 2 * decoded.masks[:, :1] - 1, w)
    return meter, p


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="l", choices=sorted(RS2SAM2.presets))
    parser.add_argument("--image-size", type=int, default=None, help="side of SAM 2's input; default: the preset's")
    parser.add_argument("--tokens", type=int, default=12, help="length of the sentence")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = RS2SAM2.presets[options.preset]
    if options.image_size:
        config = replace(config, sam=replace(config.sam, image_size=options.image_size))
    model = RS2SAM2(config).eval()
    side, small = config.sam.image_size, config.union.image_size
    views = {"image": torch.randn(1, 3, side, side), "small": torch.randn(1, 3, small, small)}
    ids = torch.randint(4, config.union.vocabulary, (1, options.tokens))
    tokens = Tokens(ids, torch.tensor([options.tokens]))

    meters: dict[str, list[Meter]] = {"ours": [], "published": []}
    results: dict[str, Tensor] = {}
    with torch.inference_mode():
        for _ in range(options.repeats):
            meter, results["ours"] = forward(model, views, tokens, one_channel)
            meters["ours"].append(meter)
            with published():
                meter, results["published"] = forward(model, views, tokens, two_channels)
            meters["published"].append(meter)

    difference = (results["ours"] - results["published"]).abs().max() / results["published"].std()
    print(f"{'':<18}{'ours':>10}{'published':>11}{'ours':>11}{'published':>11}")
    print(f"{'part':<18}{'s':>10}{'s':>11}{'+ MB':>11}{'+ MB':>11}")
    record: dict[str, Any] = {"parts": {}}
    for part in PARTS:
        seconds = {way: min(m.seconds[part] for m in runs) for way, runs in meters.items()}
        megabytes = {way: min(m.megabytes[part] for m in runs) for way, runs in meters.items()}
        record["parts"][part] = {"seconds": seconds, "megabytes": megabytes}
        print(
            f"{part:<18}{seconds['ours']:>10.2f}{seconds['published']:>11.2f}"
            f"{megabytes['ours']:>11.0f}{megabytes['published']:>11.0f}"
        )
    record["seconds"] = {way: min(sum(m.seconds.values()) for m in runs) for way, runs in meters.items()}
    record["top_megabytes"] = {way: min(m.top for m in runs) for way, runs in meters.items()}
    total, top = record["seconds"], record["top_megabytes"]
    print(f"{'all; resident':<18}{total['ours']:>10.2f}{total['published']:>11.2f}", end="")
    print(f"{top['ours']:>11.0f}{top['published']:>11.0f}")
    record |= {
        "difference_in_std": float(difference),
        "parameters": sum(p.numel() for p in model.parameters()),
        "image_size": side,
        "tokens": options.tokens,
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    print(json.dumps(record))
    return 0 if difference < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
