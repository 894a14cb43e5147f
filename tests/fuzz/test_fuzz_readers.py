"""Every reader under mutated inputs: only documented errors, no crash, nothing slow or large, no impossible answer.

``RRSIS_ZOO_FUZZ`` says how many inputs all readers get together; ``make fuzz`` gives them a million. A failing input is
reduced by hypothesis and left in the folder that the failure names.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import shutil
import signal
import sys
import traceback
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mutations import byte_edits, mutated_bytes, mutated_value, value_edits
from readers import READERS, Reader, seeds

TOTAL = int(os.environ.get("RRSIS_ZOO_FUZZ", "4000"))
BATCH = 4000
"""Inputs of one process: what a library leaks must not be taken for what an input asks for."""

CPU_S, WALL_S, MEMORY = 2, 30, 2**30
SHARES = sum(reader.share for reader in READERS)


class TooSlow(BaseException):
    """No ``Exception``, so that no reader takes it for a damaged file."""


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_mutated_inputs(reader: Reader, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    reader.make(whole)
    reader.check(reader.read(whole))  # the whole file is read
    inputs = max(20, round(TOTAL * reader.share / SHARES))
    for number, first in enumerate(range(0, inputs, BATCH)):
        status, text = in_child(lambda n=number, f=first: attack(reader, whole, min(BATCH, inputs - f), n), tmp_path)
        assert status == 0, f"{text}\nthe input lies in {whole}"
    # counted by `make fuzz`
    print(f"fuzzed {reader.name}: {inputs} inputs")


def attack(reader: Reader, folder: Path, inputs: int, number: int) -> None:
    """Read so many mutations of a file."""
    path = folder / reader.file
    originals = seeds(path.read_bytes())
    values = None if reader.value is None else reader.value(originals[0])

    def attempt(data: bytes) -> None:
        path.write_bytes(data)
        limited(reader, folder)

    options = settings(
        max_examples=inputs if values is None else (inputs + 1) // 2,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )

    @seed(number)
    @options
    @given(st.sampled_from(originals), byte_edits)
    def bytes_mutated(original, edits):
        attempt(mutated_bytes(original, edits))

    @seed(number)
    @options
    @given(value_edits)
    def value_mutated(edits):
        attempt(reader.pack(mutated_value(values, edits)))

    bytes_mutated()
    if values is not None:
        value_mutated()
    path.write_bytes(originals[0])


def limited(reader: Reader, folder: Path) -> None:
    """Read once within the limits."""

    def slow(*_):
        raise TooSlow(f"more than {CPU_S} s of processor time, or {WALL_S} s of waiting")

    signal.signal(signal.SIGPROF, slow)
    signal.signal(signal.SIGALRM, slow)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    signal.setitimer(signal.ITIMER_REAL, WALL_S)
    try:
        answer = reader.read(folder)
    except reader.allowed:
        return
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    reader.check(answer)


def in_child(work, folder: Path) -> tuple[int, str]:
    """Run in a forked process with an address space that is 1 GiB larger than now; return its status and last words."""
    log = folder / "log"
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with log.open("w") as out:
                for stream in (1, 2):
                    os.dup2(out.fileno(), stream)
                faulthandler.enable(out)
                warnings.simplefilter("ignore")
                now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
                resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                try:
                    work()
                    status = 0
                except BaseException:
                    traceback.print_exc(file=out)
        finally:
            os._exit(status)
    _, code = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(code), log.read_text(errors="replace")[-6000:]


def test_the_limits_are_kept(tmp_path):
    """The harness notices what it is there for."""
    (tmp_path / "x").write_text("x")

    def read(what):
        return Reader("x", "x", lambda folder: None, what)

    def forever(folder):
        while True:
            try:
                while True:
                    pass
            except Exception:  # as a careless reader would
                continue

    def status(what):
        return in_child(lambda: attack(read(what), tmp_path, 3, 0), tmp_path)[0]

    assert status(lambda folder: None) == 0
    assert status(forever) == 1
    assert status(lambda folder: bytearray(2 * MEMORY)) == 1
    assert status(lambda folder: {}["x"]) == 1
    assert status(lambda folder: os.kill(os.getpid(), signal.SIGSEGV)) == -signal.SIGSEGV
    assert status(lambda folder: shutil.copy("/nowhere", folder)) == 1
