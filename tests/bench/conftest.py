import importlib.util
import os

import pytest


@pytest.fixture
def bench_on_path(root, monkeypatch):
    """A Python that a test starts finds the package as the scripts of its folder do."""
    given = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root / "benchmarks"), *([given] if given else [])]))


@pytest.fixture
def script(root):
    """The script behind `make benchmark`, as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_run", root / "benchmarks" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
