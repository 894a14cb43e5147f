"""``python tests/parity CASE_DIR [--json]``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence


def run_parity(arguments: Sequence[str]) -> int:
    """Run a golden case; return 0 if everything passed, 1 if anything failed."""
    parser = argparse.ArgumentParser(
        "python tests/parity",
        description="Run a golden case and compare every tensor, loss and gradient with the record.",
    )
    parser.add_argument(
        "case",
        metavar="CASE_DIR",
        help="folder with meta.json, keys.json and tensors.safetensors, or a file with a list of cases",
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args(arguments)

    from golden_cases.run import check

    report = check(options.case)
    print(json.dumps(report.as_dict(), indent=1) if options.json else report.text())
    return 0 if report.passed else 1
