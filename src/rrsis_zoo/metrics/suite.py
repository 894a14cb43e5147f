"""The metrics of a split, gathered over batches and processes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.counts import mask_counts
from rrsis_zoo.metrics.protocols import Protocol, get_protocol
from rrsis_zoo.metrics.scores import score

_NAMED = 5  # how many faulty samples an error names


class ReferringMetrics(Metric):
    """oIoU, mIoU and Pr@t of one split.

    The state is one row of integers per sample, keyed by the sample's position in its split, and the numbers are
    computed once from the rows in dataset order. So they are the same to the last bit for every batch size and number
    of processes, ranks may have different numbers of samples or none, and a sample that was scored twice (a sampler
    that pads) or never is found instead of averaged in.

    Args:
        protocol: the conventions, or their name. The caller brings prediction and target to ``protocol.eval_size``.
        expected_n: number of samples in the split; None leaves missing samples undetected.

    Raises:
        ConfigError: no protocol of that name, or a negative ``expected_n``.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    rows: list[Tensor]  # (B, 3) int64: index, intersection, union

    def __init__(self, protocol: Protocol | str = "canonical", expected_n: int | None = None) -> None:
        # `compute` synchronises by itself, see `_merged`; a cache would hand every caller the same mutable dict.
        super().__init__(sync_on_compute=False, compute_with_cache=False)
        if expected_n is not None and expected_n < 0:
            raise ConfigError(f"expected_n must be the number of samples in the split or None, got {expected_n}")
        self.protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
        self.expected_n = expected_n
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, pred_masks: Sequence[Tensor], targets: Sequence[Tensor], index: Tensor) -> None:
        """Add N samples. The host does not wait for the device.

        Args:
            pred_masks: N predicted masks, bool (H_n, W_n).
            targets: N true masks, bool (H_n, W_n), each on the device of its prediction.
            index: (N,) int64, the samples' positions in their split.

        Raises:
            ConfigError: different numbers of masks, targets and indices, indices that are not an int64 vector, or masks
                that cannot be compared.
        """
        if index.ndim != 1 or index.dtype != torch.int64:
            given = f"{str(index.dtype).removeprefix('torch.')} {tuple(index.shape)}"
            raise ConfigError(f"index must be int64 of shape (N,), got {given}")
        if not len(pred_masks) == len(targets) == len(index):
            raise ConfigError(
                f"{len(pred_masks)} predicted masks, {len(targets)} true masks and {len(index)} indices do not go "
                "together: one of each per sample is needed"
            )
        if not len(index):
            return
        counts = torch.stack([mask_counts(pred, target) for pred, target in zip(pred_masks, targets, strict=True)])
        rows = torch.cat([_move(index, counts.device)[:, None], counts], dim=1)
        self.rows.append(_move(rows, self.device))

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Add N samples as ``update`` does; a batch has no score of its own."""
        self.update(*args, **kwargs)

    def compute(self) -> dict[str, float]:
        """Return the numbers of all samples of all processes; every process must call it.

        Returns:
            As ``rrsis_zoo.metrics.scores.score``: ``n``, and ``oiou``, ``miou``, ``pr@0.5`` ... ``pr@0.9`` in percent.

        Raises:
            ConfigError: a sample that was scored more than once or, where ``expected_n`` is known, not at all.
        """
        rows = self._merged()
        return score(rows[:, 1], rows[:, 2], self.protocol)

    def per_sample(self) -> list[tuple[int, int, int]]:
        """Return (index, intersection, union) of all samples of all processes in dataset order.

        Every process must call it.

        Raises:
            ConfigError: as in ``compute``.
        """
        return [(int(index), int(i), int(u)) for index, i, u in self._merged()]

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the rows of all processes, as ``torchmetrics.Metric.sync``."""
        # For a process without samples torchmetrics would send a float vector where the others send an integer matrix,
        # on which the collective fails or hangs; an empty matrix of the right kind gathers like any other.
        if isinstance(self.rows, list) and not self.rows:
            self.rows.append(torch.empty(0, 3, dtype=torch.int64, device=self.device))
        super().sync(*args, **kwargs)

    def _merged(self) -> NDArray[np.int64]:
        """Return the checked rows of all processes, (N, 3), sorted by index."""
        # The context restores the local rows only if its body succeeds, so the checks come after it.
        with self.sync_context():
            rows = dim_zero_cat(self.rows).cpu().numpy() if len(self.rows) else np.empty((0, 3), np.int64)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        self._check(rows[:, 0])
        return rows

    def _check(self, index: NDArray[np.int64]) -> None:
        """Refuse sorted indices that are not every sample of the split exactly once."""
        values, times = np.unique(index, return_counts=True)
        if (times > 1).any():
            raise ConfigError(
                f"{_some(values[times > 1])} scored more than once: the evaluation sampler repeats samples to make "
                "processes equal; set trainer.use_distributed_sampler to false and shard without padding"
            )
        outside = values[(values < 0) | (values >= (np.inf if self.expected_n is None else self.expected_n))]
        if outside.size:
            split = "a split" if self.expected_n is None else f"a split of {self.expected_n}"
            raise ConfigError(f"{_some(outside)} scored, which cannot be in {split}: indices count from 0")
        if self.expected_n is not None and len(values) < self.expected_n:
            missing = np.setdiff1d(np.arange(self.expected_n), values)
            raise ConfigError(
                f"{_some(missing)} not scored in a split of {self.expected_n}: the numbers of a part are not those of "
                "the split; evaluate all of it (trainer.limit_val_batches and limit_test_batches 1.0, drop_last false)"
            )


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor; the host waits only where it is the one to read the result."""
    return tensor.to(device, non_blocking=device.type != "cpu")


def _some(indices: NDArray[np.int64]) -> str:
    """Name the first few of some samples: ``sample 3 was`` or ``7 samples (0, 2, 4, 6, 8, ...) were``."""
    if len(indices) == 1:
        return f"sample {indices[0]} was"
    more = ", ..." if len(indices) > _NAMED else ""
    return f"{len(indices)} samples ({', '.join(map(str, indices[:_NAMED]))}{more}) were"
