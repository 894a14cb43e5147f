import contextlib
import gc
import importlib.util
import os
import re
import resource
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

# before anything heavy is imported
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # tiny tensors: further threads only wait for each other

# a shell that starts the tests in the background lets them ignore Ctrl-C, and with them all that they start
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from filelock import FileLock

import warm

TESTS = Path(__file__).parent
ROOT = TESTS.parent


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that none is left for the end, when only one process has work.

    Two of those that lock ``large`` would wait for each other. Each of two processes gets two files at the start, one
    by one: so the first two that lock go to one process, and the others come when it is through with them.
    """
    first: dict[bool, dict[Path, None]] = {True: {}, False: {}}
    for item in items:
        if item.get_closest_marker("slow"):
            first["large" in getattr(item, "fixturenames", ())].setdefault(item.path)
    large, others = sorted(first[True], reverse=True), list(first[False])  # the largest is EviSAM3, in tests/parity
    ordered = [*large[:1], *others[:1], *large[1:2], *others[1:7], *large[2:], *others[7:]]
    ordered = list(dict.fromkeys(ordered))  # a file with tests of both kinds is where it comes first
    place = {path: i for i, path in enumerate(ordered)}
    items.sort(key=lambda item: place.get(item.path, len(ordered)))


def pytest_collection_finish():
    """What is imported by now is no garbage: looking through it again and again took a sixth of the time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    gc.unfreeze()  # some libraries count what is left at the end


@pytest.fixture(scope="session")
def golden() -> Path:
    return TESTS / "golden"


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def rrsis() -> list[str]:
    """The command, through the interpreter that runs the tests."""
    return [warm.REAL, "-m", "rrsis_zoo.cli"]


@pytest.fixture(scope="session")
def warm_rrsis() -> list[str]:
    """The command, in a process that has imported everything already, as have those that it starts."""
    return [warm.python(), "-m", "rrsis_zoo.cli"]


@pytest.fixture
def warm_starts(monkeypatch) -> None:
    """What starts Pythons in this process starts those that have imported everything already."""
    monkeypatch.setattr(sys, "executable", warm.python())


@pytest.fixture(scope="session")
def parity() -> list[str]:
    """``python tests/parity``, the comparison with golden cases, through the interpreter that runs the tests."""
    return [warm.REAL, str(TESTS / "parity")]


@pytest.fixture(scope="session")
def warm_parity() -> list[str]:
    """The same in a process that has imported everything already."""
    return [warm.python(), str(TESTS / "parity")]


@pytest.fixture(autouse=True)
def _seed():
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Hashes of files are remembered here and not in the user's folder."""
    os.environ["RRSIS_ZOO_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def limited_files():
    """A disk on which files are full after so many bytes, within a block."""

    @contextlib.contextmanager
    def limited(size):
        earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, earlier[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, earlier)

    return limited


@pytest.fixture
def large(tmp_path_factory):
    """Published sizes take up to 9 GB: one such test at a time, also where pytest runs in several processes."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "large.lock"):
        yield


@pytest.fixture(scope="session")
def dashboards(root):
    """The script benchmarks/dashboards.py, as a module, and what its panels name."""
    spec = importlib.util.spec_from_file_location("dashboards", root / "benchmarks" / "dashboards.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def keys(workspace):
        """Return the names of metrics, media and tables, and the patterns of metrics."""
        named, patterns = set(), []
        for section in workspace.sections:
            for panel in section.panels:
                for attribute in ("y", "metrics", "media_keys"):
                    named.update(str(key) for key in getattr(panel, attribute, ()))
                if table := getattr(panel, "table_name", None):
                    named.add(table)
                if pattern := getattr(panel, "metric_regex", None):
                    patterns.append(re.compile(pattern))
        return named, patterns

    return SimpleNamespace(workspace=script.workspace, main=script.main, keys=keys)


@pytest.fixture
def real() -> Path:
    """A copy of real aerial crops in the RRSIS-D layout; not part of the project."""
    root = Path(os.environ.get("RRSIS_ZOO_REAL", ROOT.parent / "shared/real")) / "rrsisd_mini"
    if not root.is_dir():
        pytest.skip(f"no real imagery at {root}; set RRSIS_ZOO_REAL")
    return root
