"""Take the results of a suite into the repository: `make publish-results`, or `python benchmarks/publish.py SUITE`.

Makes tables, report and figures anew from runs/SUITE, replaces those in benchmarks/results/SUITE, and writes the tables
of the embedded suite into the README. Beside them it keeps records.zip: the jobs' records, per-sample counts and the
pictures of the report, from which `--again` makes everything once more without training, for instance after a change of
tables or page.
"""

import argparse
import sys
from pathlib import Path

from bench.publishing import publish, publish_again
from bench.suites import read_suite
from rrsis_zoo.errors import RRSISError

ROOT = Path(__file__).absolute().parents[1]
"""Of the repository."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, nargs="?", default=Path("benchmarks/embedded.yaml"))
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--runs", type=Path, help="folder of the jobs; runs/SUITE by default")
    source.add_argument("--again", action="store_true", help="from the records that were published last")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    suite = read_suite(options.suite)
    if options.again:
        changed = publish_again(suite, ROOT)
    else:
        changed = publish(suite, options.runs or Path("runs") / suite.name, ROOT)
    print("\n".join(f"wrote {path.relative_to(ROOT)}" for path in changed))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RRSISError as error:
        print(f"publish: {error}", file=sys.stderr)
        sys.exit(2)
