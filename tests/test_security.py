"""docs/security.md promises what a test holds, and names it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"))


def test_every_promise_has_a_test():
    assert len(NAMED) > 20
    for path, name in NAMED:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE), (path, name)
