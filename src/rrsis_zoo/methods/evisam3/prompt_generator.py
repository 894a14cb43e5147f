"""§6: handcrafted and embedded features that are added to the trunk's blocks.

Section numbers (§) and quirks (Q) are those of docs/methods/evisam3.md, symbols those of ``model.py``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.methods.evisam3.config import EviSAM3Config
from rrsis_zoo.models.layers.geometry import (
    resize,
)
from rrsis_zoo.models.layers.norm import ChannelNorm
from rrsis_zoo.models.layers.precision import cast


class PromptGenerator(nn.Module):
    """§6.1: high frequencies of the image and the tokens themselves become a prompt before every block.

    It comes with the SAM3-Adapter trunk that the authors start from; it is trained, but not mentioned in the paper
    (Q4). The blocks are split into four stages; a remainder goes to the last one.
    """

    def __init__(self, config: EviSAM3Config) -> None:
        super().__init__()
        depth, grid, D = config.sam.depth, config.sam.grid, config.sam.width
        stages = min(4, depth)
        self.per_stage = depth // stages
        self.grid = grid
        self.layout = config.high_pass_layout
        width = D // config.generator_ratio
        self.high_pass = HighPass(config.high_pass)
        blocks = [self.per_stage] * (stages - 1) + [depth - self.per_stage * (stages - 1)]
        self.stages = nn.ModuleList(GeneratorStage(D, width, n, first=i == 0) for i, n in enumerate(blocks))

    def stage_of(self, block: int) -> int:
        """Return the stage of a block."""
        return min(block // self.per_stage, len(self.stages) - 1)

    def pictures(self, image: Tensor) -> list[Tensor]:
        """Return R_n of every stage for images (M, 3, S, S).

        Each (M, h, w, 1) as published: the list of tokens, a picture of pixels × channels, resized to h × w (Q3).
        With layout ``map`` (M, h, w, c).
        """
        size = (self.grid, self.grid)
        H, R = self.high_pass(image), []
        for stage in self.stages:
            H = stage.get_submodule("picture")(H)
            as_picture = H.flatten(2).transpose(1, 2).unsqueeze(1) if self.layout == "published" else H
            R.append(cast(resize(as_picture, size), as_picture).permute(0, 2, 3, 1))
        return R

    def forward(self, x: Tensor, R: Tensor, block: int) -> Tensor:
        """Return x + P(x) for the input map (B, h, w, D) of a block."""
        stage = self.stages[self.stage_of(block)]
        return x + stage(x, R, block - self.stage_of(block) * self.per_stage)

    def surplus(self, prefix: str) -> list[str]:
        """Return the names of the lightweight layers that no block uses."""
        return [f"{prefix}stages.{i}.lightweight.{stage.blocks}." for i, stage in enumerate(self.stages)]


class HighPass(nn.Module):
    """Remove a square with ``share`` of the spectrum from its middle and take the absolute value."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, image: Tensor) -> Tensor:
        """Filter (M, 3, S, S), in float32."""
        side = image.shape[-1]
        middle, half = side // 2, int((side * side * self.share) ** 0.5 // 2)
        spectrum = torch.fft.fftshift(torch.fft.fft2(image.float()), dim=(-2, -1))
        spectrum[..., middle - half : middle + half, middle - half : middle + half] = 0
        return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real.abs().to(image.dtype)


class GeneratorStage(nn.Module):
    """The layers that the blocks of one stage share, and a small one for each of them."""

    def __init__(self, width: int, small: int, blocks: int, first: bool) -> None:
        super().__init__()
        shrink = nn.Conv2d(3, small, 7, 4, 3) if first else nn.Conv2d(small, small, 3, 2, 1)
        self.picture = nn.Sequential(shrink, ChannelNorm(small))
        self.embedding = nn.Linear(width, small)
        self.lightweight = nn.ModuleList(nn.Linear(small, small) for _ in range(blocks + 1))  # one too many
        self.shared = nn.Linear(small, width)
        self.blocks = blocks
        nn.init.kaiming_normal_(shrink.weight, mode="fan_out", nonlinearity="relu")
        for layer in (self.embedding, *self.lightweight, self.shared):
            nn.init.trunc_normal_(layer.weight, std=0.02)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(shrink.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, R: Tensor, r: int) -> Tensor:
        """Return P(x) of the stage's block r."""
        return self.shared(F.gelu(self.lightweight[r](R + self.embedding(x))))
