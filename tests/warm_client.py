"""A Python that is warm: asks `warm_server` to run what it was started for, and behaves as that does.

``python -I -S warm_client.py SOCKET EXECUTABLE WORDS…``, where EXECUTABLE is the script that starts it so: programs
that start further ones by ``sys.executable`` get a warm one again.
"""

import contextlib
import marshal
import os
import signal
import socket
import struct
import sys

PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGALRM", "SIGXCPU")


def situation():
    """What a process leaves to those that it starts, beside its open files."""
    return {
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "umask": umask(),
        "ignored": [int(n) for n in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(n) == signal.SIG_IGN],
        "files": [],
    }


def umask():
    now = os.umask(0o077)
    os.umask(now)
    return now


def is_open(number):
    try:
        os.fstat(number)
    except OSError:  # the listing itself
        return False
    return True


def ask(path, asked):
    """Send a request with its open files; return the connection."""
    content = marshal.dumps(asked)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    socket.send_fds(connection, [len(content).to_bytes(8, "little")], asked["files"])
    connection.sendall(content)
    return connection


def answer(connection):
    """Wait for a number: of the process, then its status; None if the server is gone."""
    got = b""
    while len(got) < 4:
        piece = connection.recv(4 - len(got))
        if not piece:
            return None
        got += piece
    return struct.unpack("<i", got)[0]


def known(words):
    """Whether `warm_server` knows what these say: -W, -B and -X, then a script, -m or -c."""
    while words and (words[0] in ("-W", "-B") or words[0].startswith("-X")):
        words = words[2 if words[0] == "-W" else 1 :]
    return bool(words) and (words[0] in ("-m", "-c") or not words[0].startswith("-"))


def main():
    path, executable, *words = sys.argv[1:]
    if not known(words):
        os.execv(sys.executable, [sys.executable, *words])
    numbers = [getattr(signal, name) for name in PASSED_ON]
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    files = [int(name) for name in os.listdir("/dev/fd") if is_open(int(name))]
    program = {"kind": "program", "words": words, "executable": executable}
    connection = ask(path, {**situation(), **program, "files": files})
    pid = answer(connection)

    def passed_on(number, _):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, passed_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    # who reads what the program writes waits for the last to close it
    os.closerange(0, connection.fileno())
    os.closerange(connection.fileno() + 1, 1024)
    status = answer(connection)
    if status is None:
        os._exit(1)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    main()
