"""A model's answers about windows: log-odds at the windows' own size, and presence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.inference import check_finite
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.presence import evidence_of, presence_of

_LARGEST_BATCH = 32
_SHARE = 0.6  # of the memory that is free


@dataclass
class Answers:
    """What a model says about one window.

    Attributes:
        logits: float32 (N, H, W).
        presence: float64 (N,); None without a calibration.
    """

    logits: NDArray[np.float32]
    presence: NDArray[np.float64] | None


class Asker:
    """Asks a model about windows; each is encoded once for all sentences.

    A window whose presence is below what is needed cannot make foreground: its log-odds are cut off at the threshold.
    Neither does it take back what another window that overlaps it is sure of, except where it is sure of background.

    Args:
        model: it is left in evaluation mode.
        texts: N sentences.
        needed: presence that an answer needs; None for no such limit.
        threshold: probability above which a pixel is foreground.
    """

    def __init__(self, model: ReferringSegmenter, texts: Sequence[str], needed: float | None, threshold: float) -> None:
        model.eval()
        self.model, self.texts, self.needed, self.threshold = model, tuple(texts), needed, threshold
        with torch.inference_mode():
            self._tokens = model.tokenize(self.texts, "independent")

    @property
    def calibrated(self) -> bool:
        """Whether answers have a presence."""
        return self.model.calibration is not None

    @property
    def above(self) -> float:
        """Log-odds above which a pixel is foreground."""
        return math.log(self.threshold / (1 - self.threshold))

    def only(self, n: int) -> Asker:
        """Return the same for one of the sentences."""
        return Asker(self.model, [self.texts[n]], None, self.threshold)

    def ask(self, windows: Sequence[NDArray[np.uint8]]) -> list[Answers]:
        """Return the answers about windows of one size; half of them at a time where a GPU has too little memory.

        Args:
            windows: uint8 RGB (3, H, W).

        Raises:
            ConfigError: not even one fits.
            WeightsMismatchError: weights or outputs that are not finite.
        """
        try:
            return self._ask(windows)
        except torch.OutOfMemoryError as error:
            if len(windows) == 1:
                height, width = windows[0].shape[1:]
                raise ConfigError(
                    f"a window of {height:,} x {width:,} pixels with {len(self.texts)} sentences is too much for the "
                    "memory of this GPU: give fewer sentences, a smaller --window, or --device cpu"
                ) from error
        torch.cuda.empty_cache()
        half = len(windows) // 2
        return self.ask(windows[:half]) + self.ask(windows[half:])

    @torch.inference_mode()
    def _ask(self, windows: Sequence[NDArray[np.uint8]]) -> list[Answers]:
        count, each = len(windows), len(self.texts)
        state = self.model.encode_image([torch.from_numpy(window) for window in windows])
        index = torch.arange(count, device=self.model.device).repeat_interleave(each)
        tokens = self._tokens
        if count > 1:
            tokens = tokens.repeated(count)
        logits: list[NDArray[np.float32]] = []
        presence: list[float] = []
        for part in self.model.refer_in_groups(state, tokens, index):
            check_finite(self.model, part)
            restored = self.model.restore_each(part)
            for i in range(len(part)):
                one = restored[i]
                if self.model.calibration is not None:
                    found = presence_of(self.model.calibration, evidence_of(part[i : i + 1], [one]))[0]
                    presence.append(float(found))
                    if self.needed is not None and found < self.needed:
                        one = one.clamp(max=self._ceiling)
                logits.append(one.float().cpu().numpy())
        known = np.array(presence).reshape(count, each) if presence else None
        return [
            Answers(np.stack(logits[b * each : (b + 1) * each]), None if known is None else known[b])
            for b in range(count)
        ]

    @property
    def _ceiling(self) -> float:
        """Log-odds that are not above the threshold, however they are averaged."""
        return 0.0 if self.threshold == 0.5 else self.above - 1e-3

    def batch_for(self, window: NDArray[np.uint8]) -> int:
        """Return how many windows of this size fit into the memory at once, by trying one of them."""
        device = self.model.device
        if device.type != "cuda":
            return 4
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        self.ask([window])
        taken = max(1, torch.cuda.max_memory_allocated(device) - before)
        free = torch.cuda.mem_get_info(device)[0]
        return max(1, min(_LARGEST_BATCH, int(_SHARE * free / taken)))


def decided(logits: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Return which pixels are foreground, as `rrsis_zoo.segment` decides it."""
    return logits > 0 if threshold == 0.5 else probabilities(logits) > threshold


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities of log-odds, float32 of the same shape, to the last bit as torch computes them."""
    return torch.from_numpy(np.ascontiguousarray(logits)).sigmoid().numpy()
