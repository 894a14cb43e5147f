"""Lightning's trainer with the types that its options mean."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

Batches = int | float | None
"""A whole number is so many batches, a float that share of them: 1 is one batch, 1.0 all of them."""


class RRSISTrainer(Trainer):
    """A `lightning.Trainer` whose ``limit_…_batches`` are read as whole numbers where they are written as such.

    Lightning's own annotations name float first, so that its command line reads 1, one batch, as 1.0, all batches.

    Args:
        limit_train_batches, limit_val_batches, limit_test_batches, limit_predict_batches: see ``Batches``;
            None for all.
        overfit_batches: see ``Batches``; 0 for none.
        **options: of `lightning.Trainer`.
    """

    def __init__(
        self,
        *,
        limit_train_batches: Batches = None,
        limit_val_batches: Batches = None,
        limit_test_batches: Batches = None,
        limit_predict_batches: Batches = None,
        overfit_batches: int | float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            overfit_batches=overfit_batches,
            **options,
        )
