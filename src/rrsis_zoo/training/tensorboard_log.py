"""TensorBoard, if it is installed: ``tensorboard --logdir runs`` then shows every run under its folder's name."""

from __future__ import annotations

from importlib.util import find_spec

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from rrsis_zoo.errors import ConfigError


class RunTensorBoard(TensorBoardLogger):
    """A `TensorBoardLogger` that writes into the run's own folder, beside ``metrics.csv``.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise ConfigError(
                "TensorBoard is not installed: pip install 'rrsis-zoo[tensorboard]', or leave the overlay "
                "tensorboard.yaml out; metrics.csv has the same numbers, and rrsis plot draws them"
            )
        super().__init__("runs", default_hp_metric=False)

    def follow(self, log: CSVLogger) -> None:
        """Write to the folder of a run's CSV log."""
        self._root_dir, self._name, self._version = str(log.save_dir), str(log.name), log.version
