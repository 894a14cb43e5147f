"""Search hyper-parameters without an account: `make sweep SWEEP=configs/sweeps/rsrefseg_tiny.yaml ARGS="--runs 12"`.

The file is the one that `wandb sweep` reads. Runs go one after another to runs/sweeps/NAME; an interrupted sweep goes
on where it was, a larger --runs continues a finished one.
"""

import argparse
import sys
from pathlib import Path

from bench.sweeps import Study, read_sweep
from rrsis_zoo import signals
from rrsis_zoo.errors import ConfigError, RRSISError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path, help="sweep file, for instance configs/sweeps/rsrefseg_tiny.yaml")
    parser.add_argument("--runs", type=int, help="how many runs in all; a grid ends by itself")
    parser.add_argument("--folder", type=Path, help="of the runs; by default runs/sweeps/NAME")
    parser.add_argument("--seed", type=int, default=0, help="of the proposals")
    parser.add_argument("--retry-failed", action="store_true", help="forget the runs that failed")
    options = parser.parse_args()
    if options.runs is not None and options.runs < 1:
        raise ConfigError(f"--runs must be at least 1, got {options.runs}")
    if not 0 <= options.seed < 2**31:
        raise ConfigError(f"--seed must be from 0 to 2^31 - 1, got {options.seed}")
    folder = options.folder or Path("runs/sweeps") / options.sweep.stem
    study = Study(read_sweep(options.sweep), folder, options.seed)
    if options.retry_failed:
        study.forget_failed()
    study.run(options.runs, say=lambda line: print(line, flush=True))
    print(f"\n{study.markdown()}\nwrote {folder / 'sweep.md'} and sweep.json")
    return 0


def script() -> int:
    """Do what ``main`` does; a signal ends it with what is under way, and its status says so."""
    with signals.handled():
        try:
            return main()
        except RRSISError as error:
            print(f"sweep: {error}", file=sys.stderr)
            return 2
        except signals.Interrupted as asked:
            asked.note = "the same command goes on from here"
            raise


if __name__ == "__main__":
    sys.exit(script())
