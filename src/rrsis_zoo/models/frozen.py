"""Methods without a training: published weights and a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.types import Prediction


class TrainingFree(ReferringSegmenter):
    """A method that nothing is trained of: it is always in evaluation mode, and refuses a loss."""

    def freeze(self) -> None:
        """Freeze everything (called at the end of a subclass's constructor)."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: there is no dropout to turn on."""
        return super().train(False)

    def target(self, masks: Sequence[Tensor]) -> Tensor:
        """Refuse.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.name} is training-free: it has no training target")

    def loss_terms(self, prediction: Prediction, target: Tensor) -> dict[str, Tensor]:
        """Refuse.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.name} is training-free: it has no loss")

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return none."""
        return {}
