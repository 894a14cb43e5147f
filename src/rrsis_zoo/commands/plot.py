"""``rrsis plot``: the curves of training runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rrsis_zoo.commands.arguments import Arguments

_DESCRIPTION = """Draw the training loss, the validation scores and the learning rates of runs from their metrics.csv,
one colour per run. A run that is still training is drawn as far as it has come."""


def run_plot(arguments: Sequence[str]) -> int:
    """Write the figure; return 0.

    Raises:
        MissingDataError, DataFormatError, ConfigError: files or options that cannot be used.
        OutputError: the figure cannot be written.
    """
    parser = Arguments("rrsis plot", description=_DESCRIPTION)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, such as runs/rsrefseg/fit/version_0")
    parser.add_argument(
        "--out", type=Path, default=Path("curves.png"), metavar="FILE", help="default: curves.png; also .pdf, .svg"
    )
    options = parser.parse_args(arguments)

    from rrsis_zoo.figures import check_figure_name
    from rrsis_zoo.tables.curves import curves_figure, named_apart, read_curves

    check_figure_name(options.out)
    folders = list(dict.fromkeys(options.runs))
    curves_figure(named_apart([read_curves(folder) for folder in folders], folders), options.out)
    print(f"wrote {options.out}")
    return 0
