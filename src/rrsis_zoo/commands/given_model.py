"""A model that is given to `rrsis calibrate` or `rrsis diagnose`, and the data that it is asked about."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rrsis_zoo.errors import ConfigError

if TYPE_CHECKING:
    from rrsis_zoo.data.datamodule import RRSISDataModule


def is_elsewhere(text: str) -> bool:
    """Return whether a source is no place on this machine."""
    return text.startswith(("hub:", "mini:"))


def loadable(text: str) -> str:
    """Return what `load_model` takes: the best checkpoint in place of a training's folder.

    Args:
        text: checkpoint, folder of a run or of a model, or source of a model.

    Raises:
        ConfigError: a folder with neither a model nor a checkpoint.
    """
    from rrsis_zoo.files import expanded
    from rrsis_zoo.training.run_folder import best_in
    from rrsis_zoo.weights.folders import is_folder

    if is_elsewhere(text):
        return text
    path = expanded(text.removeprefix("local:"))
    return str(best_in(path) if os.path.isdir(path) and not is_folder(path) else path)


def data_for(settings: Mapping[str, Any], stage: str, given: str, name: str) -> RRSISDataModule:
    """Return the data of a configuration, read.

    Args:
        settings: the resolved configuration.
        stage: ``validate`` or ``test``.
        given: the model as the user named it.
        name: of its method.

    Raises:
        ConfigError: the configuration of another method, or a bad value.
        MissingDataError, DataFormatError: data that are not there or damaged.
    """
    from rrsis_zoo.data.datamodule import RRSISDataModule
    from rrsis_zoo.methods.registry import method_at

    if (method := method_at(settings["model"]["class_path"])) is not None and method.name != name:
        raise ConfigError(
            f"{given} is a model of {name}, but the configuration is for {method.name}: give the configuration of its "
            "training"
        )
    data = RRSISDataModule(**settings["data"])
    data.check()
    data.prepare_data()
    data.setup(stage)
    return data
