"""What `rrsis segment` is asked with, of pictures and scenes alike: sentences, presence, the model."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rrsis_zoo.commands.device import working_device
from rrsis_zoo.commands.progress import Progress
from rrsis_zoo.errors import ConfigError, RRSISError
from rrsis_zoo.files import expanded, read_lines

if TYPE_CHECKING:
    from rrsis_zoo.models.base import ReferringSegmenter
    from rrsis_zoo.outputs.found import Source
    from rrsis_zoo.outputs.names import Job

SOME_FAILED = 1
"""Exit status if some of several inputs could not be segmented."""

AS_CALIBRATED = "calibrated"
"""Presence at the threshold of the model's own calibration."""

COMPILE_HELP = (
    "off (default), default, max-autotune or reduce-overhead: compile the model at its first answer, which takes "
    "minutes and pays for many pictures or windows"
)
_TEXT_LIMIT = 16 * 2**20  # bytes of a file of sentences


def each_input(
    jobs: Sequence[Job],
    of: int,
    one: Callable[[Job], None],
    faults: tuple[type[RRSISError], ...],
    progress: Progress,
) -> int:
    """Segment inputs one after another and return the exit status; of several, one that cannot be is only named.

    Args:
        jobs: what is to be done.
        of: number of all inputs of the command, with those that were done before.
        one: segments an input.
        faults: what is wrong with an input alone; all other errors are raised.
        progress: where failures are told.

    Raises:
        RRSISError: one of ``faults``, of the only input.
    """
    failed = 0
    for job in jobs:
        try:
            one(job)
        except faults as error:
            if of == 1:
                raise
            failed += 1
            progress.note(str(error))
    if failed:
        progress.note(f"{failed} of {of} inputs could not be segmented")
    return SOME_FAILED if failed else 0


def presence_needed(text: str) -> str | float | None:
    """Return the argument of --presence: `AS_CALIBRATED`, a number, or None for off.

    Raises:
        ConfigError: anything else.
    """
    if text == AS_CALIBRATED:
        return text
    if text == "off":
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise ConfigError(f"--presence must be a number from 0 to 1, or off, got {text!r}")
    return value


def sentences(texts: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return all sentences; empty lines of a file are no sentences.

    Raises:
        ConfigError: none, or an empty one.
        MissingDataError, DataFormatError: a file that is not there, or cannot be read.
    """
    found = list(texts)
    if not all(text.strip() for text in found):
        raise ConfigError("--text is empty: give a sentence, for instance --text 'the ship left of the pier'")
    for file in files:
        lines = [line.strip() for line in read_lines(expanded(file), _TEXT_LIMIT)]
        if not any(lines):
            raise ConfigError(f"--text-file {file} has no sentence: write one a line")
        found += filter(None, lines)
    if not found:
        raise ConfigError("no sentence: give --text 'the ship left of the pier', or --text-file with one a line")
    return found


def loaded_model(options: argparse.Namespace, progress: Progress, hashed: bool) -> tuple[ReferringSegmenter, Source]:
    """Return the model on its device, and what it is.

    Args:
        options: ``model``, ``weights``, ``preset``, ``device`` and, where a command has it, ``compile``.
        progress: gets the warnings.
        hashed: whether an output says the weights' hash.

    Raises:
        ConfigError: a method without weights, a model without a tokenizer, or a device that does not work.
        MissingWeightsError, WeightsMismatchError: it cannot be loaded.
    """
    from rrsis_zoo.methods.registry import methods

    if options.model in methods() and options.weights in (None, "none"):
        raise ConfigError(
            f"--model {options.model} is a method without weights, so its masks would be noise: add --weights with the "
            "source of a trained model, or give a checkpoint of rrsis fit"
        )
    from rrsis_zoo.loading import load_model
    from rrsis_zoo.outputs.found import Source
    from rrsis_zoo.weights.checkpoints import weights_hash

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        how: Any = getattr(options, "compile", "off")
        model = load_model(options.model, weights=options.weights, preset=options.preset, compile=how)
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            progress.note(str(warning.message))
    if not model.tokenizer_ready:
        raise ConfigError(f"{options.model} has no tokenizer: it was saved before it had learned its vocabulary")
    given = options.model if options.weights is None else f"{options.model}, {options.weights}"
    source = Source(model.name, given, weights_hash(model) if hashed else None)
    return model.to(working_device(options.device)), source
