import os

import pytest


@pytest.fixture
def bench_on_path(root, monkeypatch):
    """A Python that a test starts finds the package as the scripts of its folder do."""
    given = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root / "benchmarks"), *([given] if given else [])]))
