"""`rrsis demo`: what is said before there is a page."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from rrsis_zoo.commands.demo import run_demo
from rrsis_zoo.errors import ConfigError


def test_without_the_extra(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "gradio" else real(name, *a))
    with pytest.raises(ConfigError, match=r"^rrsis demo needs Gradio: pip install 'rrsis-zoo\[demo\]'$"):
        run_demo([])


def test_the_extra_is_declared():
    """As the message names it; the tests' own extra brings it too."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert [line for line in extras["demo"] if line.startswith("gradio")]
    assert re.search(r"rrsis-zoo\[.*\bdemo\b.*\]", extras["dev"][0])
    assert not [line for line in project["dependencies"] if line.startswith("gradio")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "70000"], "--port must be between 0 and 65535, got 70000"),
        (["--port", "0", "--model", "rsrefseg"], "rsrefseg is a method without weights"),
        (["--port", "0", "--model", "mini:nothing"], "unknown miniature"),
        (["--port", "0", "--compare", "control"], "control is a method without weights"),
        (["--port", "0", "--device", "abacus"], "--device abacus cannot be used"),
    ],
)
def test_what_cannot_be_used_is_one_line(options, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        run_demo(options)


def test_a_port_in_use_is_said_first():
    """Before a model is loaded, which may take a minute."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is in use"):
            run_demo(["--port", str(port), "--model", "there is no such model"])


@pytest.mark.slow
def test_it_serves_until_it_is_stopped(warm_rrsis, tmp_path):
    """Its one line has the address; it ends with status 0 and leaves nothing behind."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    command = [*warm_rrsis, "demo", "--port", "0", "--device", "cpu"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as started:
        assert started.stdout is not None
        line = started.stdout.readline()
        url = re.fullmatch(r"rrsis demo: (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)\n", line)
        assert url, line
        assert httpx.get(url[1], trust_env=False).status_code == 200
        started.send_signal(signal.SIGTERM)  # Ctrl-C has the same handler
        out, error = started.communicate(timeout=60)
    assert (started.returncode, out, error) == (0, "", "")
    assert not list(tmp_path.glob("rrsis-demo-*"))
