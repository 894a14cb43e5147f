"""The command ``rrsis``: a thin dispatcher. Heavy imports wait until the command is known."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from rrsis_zoo.errors import unknown_name
from rrsis_zoo.terminal import guarded

_LIGHTNING = {
    "fit": "train a method: rrsis fit --config configs/rsrefseg.yaml; resume: rrsis fit --resume RUN_FOLDER",
    "validate": "score the validation split: rrsis validate CHECKPOINT",
    "test": "score the test split: rrsis test CHECKPOINT; writes results, per-sample counts and a figure",
    "predict": "write the predicted masks of a split: rrsis predict CHECKPOINT",
}
_OTHER = {
    "segment": "find what sentences refer to in your own pictures",
    "demo": "open a local page: your picture, your sentences, masks of one method or two",
    "data": "check, list and summarise a dataset; generate the synthetic one",
    "calibrate": "find out how likely an answer has a referent at all, for one set of weights",
    "diagnose": "find out what a method gets wrong: where, how exactly, or the words: rrsis diagnose CHECKPOINT",
    "score": "score saved masks from any program under one protocol, or under all",
    "runs": "list the runs in a folder: what each is, how far it came, its scores",
    "table": "make the tables of a suite: Markdown, CSV, LaTeX, HTML",
    "plot": "draw the curves of runs: loss, validation scores, learning rate",
    "models": "list methods, sizes, licences and weight sources; download weights",
    "convert": "convert the authors' weights to our format, and back",
}

_USAGE = "usage: rrsis [-h] [--version] COMMAND …"


def _help() -> str:
    commands = "\n".join(f"  {name:<10} {text}" for name, text in (_LIGHTNING | _OTHER).items())
    return (
        f"{_USAGE}\n\nReferring remote sensing image segmentation: train, test and compare the published methods.\n\n"
        f"commands:\n{commands}\n\n`rrsis COMMAND --help` lists a command's options."
    )


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status.

    Raises:
        RRSISError: an error that the user can fix.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    command, rest = arguments[0], list(arguments[1:])
    if command == "--version":
        from rrsis_zoo.version import __version__

        print(f"rrsis-zoo {__version__}")
        return 0
    if command in _LIGHTNING:
        from rrsis_zoo import signals
        from rrsis_zoo.commands.early_checks import check_early

        check_early(command, rest)
        with signals.handled():  # this early, because a container's first process ignores signals without a handler
            from rrsis_zoo.commands.fit import run_lightning

            return run_lightning([command, *rest])
    if command == "segment":
        from rrsis_zoo.commands.segment import run_segment

        return run_segment(rest)
    if command == "demo":
        from rrsis_zoo.commands.demo import run_demo

        return run_demo(rest)
    if command == "data":
        from rrsis_zoo.commands.data import run_data

        return run_data(rest)
    if command == "calibrate":
        from rrsis_zoo.commands.calibrate import run_calibrate

        return run_calibrate(rest)
    if command == "diagnose":
        from rrsis_zoo.commands.diagnose import run_diagnose

        return run_diagnose(rest)
    if command == "score":
        from rrsis_zoo.commands.score import run_score

        return run_score(rest)
    if command == "runs":
        from rrsis_zoo.commands.runs import run_runs

        return run_runs(rest)
    if command == "table":
        from rrsis_zoo.commands.table import run_table

        return run_table(rest)
    if command == "plot":
        from rrsis_zoo.commands.plot import run_plot

        return run_plot(rest)
    if command == "models":
        from rrsis_zoo.commands.models import run_models

        return run_models(rest)
    if command == "convert":
        from rrsis_zoo.commands.convert import run_convert

        return run_convert(rest)
    if command.startswith("-"):
        raise unknown_name("option", command, ("--help", "--version"))
    raise unknown_name("command", command, _LIGHTNING | _OTHER)


_THRESHOLD = 50_000
"""New objects between two searches for garbage: imports make a million of them, none of it garbage, and with Python's
700 the searches are a tenth of the start."""


def main() -> None:
    """Entry point: status 2 and one line for errors that the user can fix, a traceback only for bugs."""
    gc.set_threshold(_THRESHOLD)
    sys.exit(guarded(lambda: run(sys.argv[1:])))


if __name__ == "__main__":
    main()
