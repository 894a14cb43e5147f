"""The metrics of a split, gathered over batches and processes."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.measure import CORE_WIDTH, DETAIL_WIDTH, measure
from rrsis_zoo.metrics.protocols import Protocol, get_protocol
from rrsis_zoo.metrics.samples import Counts
from rrsis_zoo.metrics.scores import score
from rrsis_zoo.metrics.sizes import eval_shape

_NAMED = 5  # faulty samples named in an error
_KNOWN = 3  # columns known to the host: place in the split, height, width


class ReferringMetrics(Metric):
    """oIoU, mIoU and Pr@t of one split under a protocol.

    The state is one row of integers per sample, keyed by its id's place in the split, and the scores are computed once
    from the rows in dataset order. So they are bit-identical for every batch size and number of processes, ranks may
    have different numbers of samples or none, and a sample that was scored twice (by a sampler that pads) or never is
    detected instead of averaged in. A sample takes 56 bytes (144 with details), on the metric's device.

    Args:
        protocol: the conventions, or their name.
        sample_ids: ids of all samples of the split over all processes, in dataset order.
        complete: whether every sample must be scored; False for a run that is deliberately partial.
        details: whether to measure boundaries, boxes and centres too, see ``rrsis_zoo.metrics.breakdown``.

    Raises:
        ConfigError: no protocol of that name, or an id that occurs twice.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    rows: list[Tensor]  # (B, 7 or 18) int64: place, height, width, and what `measure` returns
    fingerprint: Tensor  # of the split, compared when processes are merged

    def __init__(
        self,
        protocol: Protocol | str = "canonical",
        sample_ids: Sequence[str] = (),
        complete: bool = True,
        details: bool = False,
    ) -> None:
        # `compute` synchronises itself, see `_merged`; a cache would give every caller the same mutable dict.
        super().__init__(sync_on_compute=False, compute_with_cache=False)
        self.protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("fingerprint", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx=None)
        self.start(sample_ids, complete, details)

    def start(self, sample_ids: Sequence[str], complete: bool = True, details: bool = False) -> None:
        """Forget all samples and start with a split; the arguments are those of the class.

        Raises:
            ConfigError: an id that occurs twice.
        """
        self.reset()
        self.sample_ids = list(sample_ids)
        self.complete = complete
        self.details = details
        self._place = {name: i for i, name in enumerate(self.sample_ids)}
        if len(self._place) < len(self.sample_ids):
            twice = next(name for i, name in enumerate(self.sample_ids) if self._place[name] != i)
            raise ConfigError(f"sample id {twice!r} occurs more than once in the split: per-sample results need names")

    def update(self, predictions: Sequence[Tensor], targets: Sequence[Tensor], sample_ids: Sequence[str]) -> None:
        """Add N samples. The host does not wait for the device.

        Args:
            predictions: N log-odds maps (h_n, w_n), floating point, or N bool masks; see
                ``rrsis_zoo.metrics.measure.measure`` for how they are resized to the evaluation size.
            targets: N true masks, bool (H_n, W_n), native, each on the device of its prediction.
            sample_ids: N ids of the split.

        Raises:
            ConfigError: mismatched lengths, an id that is not in the split, or masks that cannot be compared.
        """
        if not len(predictions) == len(targets) == len(sample_ids):
            raise ConfigError(
                f"{len(predictions)} predictions, {len(targets)} true masks and {len(sample_ids)} sample ids do not "
                "match: one of each per sample is needed"
            )
        unknown = [name for name in sample_ids if name not in self._place]
        if unknown:
            raise ConfigError(
                f"sample {unknown[0]!r} is not in the split of {len(self.sample_ids)} samples that the metric was "
                "started with: call start(sample_ids) with the split that is evaluated"
            )
        if not len(sample_ids):
            return
        size = self.protocol.eval_size
        measured = torch.stack([measure(p, t, size, self.details) for p, t in zip(predictions, targets, strict=True)])
        known = torch.tensor(
            [[self._place[name], *eval_shape(size, t)] for name, t in zip(sample_ids, targets, strict=True)]
        )
        rows = torch.cat([_move(known, measured.device), measured], dim=1)
        self.rows.append(_move(rows, self.device))

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Add N samples as ``update`` does; a batch has no score of its own."""
        self.update(*args, **kwargs)

    def compute(self) -> dict[str, float]:
        """Return the scores over all samples of all processes; every process must call it.

        Returns:
            As ``rrsis_zoo.metrics.scores.score``: ``n``, and ``oiou``, ``miou``, ``pr@0.5`` ... ``pr@0.9`` in percent.

        Raises:
            ConfigError: a sample that was scored more than once or, in a complete evaluation, not at all; log-odds that
                are nan; processes that evaluate different splits; nothing to score.
        """
        places, counts = self._merged()
        asked = np.array(self.protocol.counted(self.sample_ids), dtype=np.bool_)[places]
        return score(counts.intersection[asked], counts.union[asked], self.protocol)

    def results(self) -> tuple[list[str], Counts]:
        """Return ids and counts of all samples of all processes in dataset order; every process must call it.

        Raises:
            ConfigError: as in ``compute``.
        """
        places, counts = self._merged()
        return [self.sample_ids[i] for i in places], counts

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the rows of all processes, as ``torchmetrics.Metric.sync``."""
        # For a process without samples torchmetrics would send a float vector while the others send an integer matrix,
        # which makes the collective fail or hang; an empty matrix of the right type gathers like any other.
        if isinstance(self.rows, list) and not self.rows:
            width = _KNOWN + CORE_WIDTH + (DETAIL_WIDTH if self.details else 0)
            self.rows.append(torch.empty(0, width, dtype=torch.int64, device=self.device))
        split = "\n".join([self.protocol.name, str(self.details), *self.sample_ids])
        self.fingerprint = torch.tensor(zlib.crc32(split.encode()), dtype=torch.int64, device=self.device)
        super().sync(*args, **kwargs)

    def _merged(self) -> tuple[NDArray[np.int64], Counts]:
        """Return the checked places (N,), sorted, and counts of all processes."""
        # The context restores the local rows only if its body succeeds, so the checks come afterwards.
        with self.sync_context():
            rows = dim_zero_cat(self.rows).cpu().numpy() if len(self.rows) else np.empty((0, _KNOWN + CORE_WIDTH), int)
            splits = set(self.fingerprint.cpu().reshape(-1).tolist())
        if len(splits) > 1:
            raise ConfigError(
                "the processes do not evaluate the same split under the same protocol: their sample ids differ; give "
                "every process the same configuration and the same data"
            )
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        places = rows[:, 0]
        self._check(places)
        bad = places[rows[:, 6] > 0]
        if bad.size:
            raise ConfigError(
                f"{self._some(bad)} predicted as nan: the log-odds are not numbers; evaluate in full precision "
                "(trainer.precision 32-true), or look for what diverged in training"
            )
        # intersection, union, predicted, height, width, details
        return places, Counts.from_rows(np.concatenate([rows[:, 3:6], rows[:, 1:3], rows[:, 7:]], axis=1))

    def _check(self, places: NDArray[np.int64]) -> None:
        """Refuse sorted places that do not cover every sample of the split exactly once."""
        values, times = np.unique(places, return_counts=True)
        if (times > 1).any():
            raise ConfigError(
                f"{self._some(values[times > 1])} scored more than once: the evaluation sampler repeats samples to "
                "make processes equal; set trainer.use_distributed_sampler to false and shard without padding"
            )
        if self.complete and len(values) < len(self.sample_ids):
            missing = np.setdiff1d(np.arange(len(self.sample_ids)), values)
            raise ConfigError(
                f"{self._some(missing)} not scored in a split of {len(self.sample_ids)}: the numbers of a part are not "
                "those of the split; evaluate all of it (trainer.limit_val_batches and limit_test_batches 1.0, "
                "drop_last false)"
            )

    def _some(self, places: NDArray[np.int64]) -> str:
        """Name the first few of some samples: ``sample a/3 was`` or ``7 samples (a/0, a/2, ...) were``."""
        names = [self.sample_ids[i] for i in places[:_NAMED]]
        if len(places) == 1:
            return f"sample {names[0]} was"
        more = ", ..." if len(places) > _NAMED else ""
        return f"{len(places)} samples ({', '.join(names)}{more}) were"


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor; the host waits only if it reads the result itself."""
    return tensor.to(device, non_blocking=device.type != "cpu")
