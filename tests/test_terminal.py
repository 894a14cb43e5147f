"""What a user sees of a command: letters in any locale, one line for what can be mended, the right status."""

import errno
import os
import pickle
import subprocess
import sys

import pytest

from rrsis_zoo import terminal
from rrsis_zoo.errors import (
    ConfigError,
    MissingDataError,
    MissingFilesError,
    MissingWeightsError,
    OutputError,
    together,
)
from rrsis_zoo.terminal import explained, guarded

TEXT = "rrsis: a sentence … of the “ship” at 45° \udcff"


def run(*arguments, code=None, stdout=subprocess.PIPE, **environment):
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "rrsis_zoo.cli", *arguments]
    gone = ("PYTHONIOENCODING", "PYTHONUTF8", "PYTHONUNBUFFERED", "LC_ALL", "LANG")
    given = {name: value for name, value in os.environ.items() if name not in gone}
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, env={**given, **environment}, check=False)


# -- locales -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "ascii:strict", "cp437", "utf-8"])
@pytest.mark.parametrize("command", [["--help"], ["data", "--help"], ["score", "--help"]])
def test_help_in_any_encoding(command, encoding):
    done = run(*command, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"rrsis" in done.stdout
    assert done.stdout.decode(encoding.partition(":")[0]).count("\n") > 5


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "where",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "C"},
        {"PYTHONIOENCODING": "utf-8"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
)
def test_both_streams_and_processes_that_are_started(where, unbuffered):
    """Also half a letter, as in a file name that is not UTF-8."""
    inner = f"import sys; print({TEXT!a})"
    code = (
        "import subprocess, sys; from rrsis_zoo.terminal import guarded\n"
        f"def command(): print({TEXT!a}, flush=True); print({TEXT!a}, file=sys.stderr); "
        f"return subprocess.run([sys.executable, '-c', {inner!a}]).returncode\n"
        "sys.exit(guarded(command))"
    )
    done = run(code=code, PYTHONUNBUFFERED=unbuffered, **where)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    assert first.startswith(b"rrsis: a sentence ")
    assert first.endswith(b"?")
    assert done.stderr.startswith(b"rrsis: a sentence ")
    assert b"Error" not in done.stderr


def test_streams_that_are_closed():
    """A file that is opened must not take the place of the standard output, nor what is printed end in it."""
    for closed in (">&-", "2>&-", "<&-", ">&- 2>&- <&-"):
        command = f"exec {sys.executable} -m rrsis_zoo.cli --version {closed}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), closed
        assert done.stdout.startswith("rrsis-zoo") == (">&-" not in closed.replace("2>&-", ""))
    done = subprocess.run(["bash", "-c", f"exec {sys.executable} -m rrsis_zoo.cli fti 2>&-"], check=False)
    assert done.returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_the_standard_output(unbuffered):
    with open("/dev/full", "w") as full:
        done = run("--help", stdout=full, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2
    what = "an output, perhaps standard output," if unbuffered else "standard output"
    assert done.stderr.decode() == f"rrsis: {what} cannot be written (No space left on device)\n"
    nowhere = f"exec {sys.executable} -m rrsis_zoo.cli --help >/dev/full 2>/dev/full"
    assert subprocess.run(["bash", "-c", nowhere], check=False).returncode == 2


# -- errors ------------------------------------------------------------------------------------------------------------


class Panic(BaseException):
    """As the tokenizers library raises it."""


def wrapped(cause, kind=ValueError, said=True):
    try:
        try:
            raise cause
        except BaseException as error:
            if said:
                raise kind("outer") from error
            raise kind("outer")  # noqa: B904
    except BaseException as error:
        return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("a"), "a"),
        (wrapped(ConfigError("a")), "a"),
        (wrapped(ConfigError("a"), said=False), "a"),
        (OutputError("x cannot be written"), "x cannot be written"),
        (OSError(errno.EACCES, "Permission denied", "/a/b"), "/a/b cannot be read or written (Permission denied)"),
        (OSError(errno.ENOSPC, "full", b"/a/\xff"), "/a/\udcff cannot be read or written (full)"),
        (OSError(errno.EEXIST, "there", "a", None, "b"), "a (and b) cannot be read or written (there)"),
        (OSError(errno.EISDIR, "a folder", 7), "descriptor 7 cannot be read or written (a folder)"),
        (wrapped(OSError(errno.EROFS, "read-only", "a")), "a cannot be read or written (read-only)"),
        (OSError(errno.EFBIG, "too large"), "an output, perhaps standard output, cannot be written (too large)"),
        (MemoryError(), "there is not enough memory"),
        (MemoryError("Unable to allocate 9 TiB"), "there is not enough memory (Unable to allocate 9 TiB)"),
        (Panic("index 3"), "a library failed (Panic: index 3): a file that it was reading is probably damaged"),
        (wrapped(Panic("x"), ConfigError), "outer"),
        (ValueError("a defect"), None),
        (OSError(errno.EACCES, "Permission denied"), None),
        (OSError(errno.ENOENT, "gone", "a"), None),
        (OSError("no number"), None),
        (KeyError("a"), None),
        (wrapped(OSError(errno.EACCES, "denied", "a"), KeyError, said=False), None),
    ],
)
def test_what_is_said_of_an_error(error, line):
    assert explained(error) == line


@pytest.mark.parametrize("number", sorted(terminal._FILES))
def test_a_file_system_is_no_defect(number, capsys, monkeypatch):
    def command():
        raise OSError(number, os.strerror(number), "runs/x")

    assert guarded(command) == 2
    assert capsys.readouterr().err == f"rrsis: runs/x cannot be read or written ({os.strerror(number)})\n"


def test_one_line_whatever_a_name_holds(capsys):
    def command():
        raise ConfigError("the file 'a\nb\x1b[31m\x9b\u2028\tc' \r\n is missing")

    assert guarded(command) == 2
    assert capsys.readouterr().err == "rrsis: the file 'a b\\x1b[31m\\x9b c' is missing\n"


def test_interrupted(capsys):
    def command():
        raise KeyboardInterrupt

    assert guarded(command) == 130
    assert capsys.readouterr().err == "rrsis: interrupted\n"


def test_defects_and_exits_pass():
    for error in (ValueError("a defect"), SystemExit(3)):

        def command(error=error):
            raise error

        with pytest.raises(type(error)):
            guarded(command)
    assert guarded(lambda: 7) == 7


def test_a_loading_process_is_left_out():
    text = (
        "Caught DataFormatError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1, in y\nrrsis_zoo.errors.DataFormatError: a.png: cannot be read\n'
    )
    assert explained(ConfigError(text)) == "a.png: cannot be read"


# -- several errors ----------------------------------------------------------------------------------------------------


def test_missing_things_are_a_list(capsys):
    weights = together(
        [
            MissingWeightsError("a is missing; fetch it with: get a", what="a is missing", mend="get a"),
            MissingWeightsError("b\nis missing; fetch it with: get b", what="b\nis missing", mend="get b\x1b"),
        ]
    )
    assert type(weights) is MissingWeightsError
    both = together([weights, MissingDataError("there is no c")])
    assert isinstance(both, MissingWeightsError)
    assert isinstance(both, MissingDataError)
    assert str(both) == "a is missing; fetch it with: get a; b\nis missing; fetch it with: get b; there is no c"

    def command():
        raise ValueError("wrapped") from both

    assert guarded(command) == 2
    assert capsys.readouterr().err.splitlines() == [
        "rrsis: 3 things are missing:",
        "  a is missing",
        "      get a",
        "  b is missing",
        "      get b\\x1b",
        "  there is no c",
    ]


def test_errors_of_loading_processes_are_whole():
    """They are pickled."""
    one = MissingWeightsError("a; get it", what="a", mend="get it")
    assert together([one]) is one
    for error in (one, together([one, MissingDataError("b")])):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.what, again.mend) == (type(error), str(error), error.what, error.mend)
        assert [str(part) for part in again.parts] == [str(part) for part in error.parts]
    assert type(together([one, MissingDataError("b")])) is MissingFilesError
