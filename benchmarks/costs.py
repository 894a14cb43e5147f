"""What a method costs: parameters, operations, time, memory. ``python benchmarks/costs.py --help``; docs/report.md."""

import sys

from bench.profile import run

if __name__ == "__main__":
    sys.exit(run())
