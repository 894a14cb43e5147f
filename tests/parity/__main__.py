"""``python tests/parity CASE_DIR [--json]``: run a golden case; its folder is all that Python needs on its path."""

import sys

from golden_cases.cli import run_parity
from rrsis_zoo.terminal import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: run_parity(sys.argv[1:])))
