"""``rrsis demo``: a page on this machine that answers sentences about pictures."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import threading
from collections.abc import Sequence

from rrsis_zoo.commands.arguments import Arguments
from rrsis_zoo.commands.device import working_device
from rrsis_zoo.commands.plugin_options import add_plugin
from rrsis_zoo.commands.progress import Progress
from rrsis_zoo.errors import ConfigError

MODEL = "mini:rsrefseg"
PORT = 7860

_DESCRIPTION = """Open a page on this machine: give it a picture of your own or an example, and sentences, and it shows
the mask, the heat map and the score for each, by one method or by two side by side. Pictures and sentences stay on this
machine: only programs on it reach the page, and the page asks no other host for anything. Ctrl-C ends it."""


def run_demo(arguments: Sequence[str]) -> int:
    """Serve the page until Ctrl-C; return the exit status.

    Raises:
        ConfigError: the extra is not installed; options that cannot be used; a port in use.
        MissingWeightsError, WeightsMismatchError: a model cannot be loaded.
    """
    options = _parser().parse_args(arguments)
    if not 0 <= options.port < 2**16:
        raise ConfigError(f"--port must be between 0 and 65535, got {options.port}")
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("rrsis demo needs Gradio: pip install 'rrsis-zoo[demo]'")
    from rrsis_zoo.demo.server import free_port

    free_port(options.port)  # before anything that takes time
    with Progress("rrsis demo") as progress:
        progress.now("starting")
        from rrsis_zoo.demo.answers import Desk
        from rrsis_zoo.demo.server import Page
        from rrsis_zoo.weights.sources import trained_miniatures

        given = [options.model] if options.compare is None else [options.model, options.compare]
        desk = Desk([*given, *(f"mini:{name}" for name in trained_miniatures())], working_device(options.device))
        for name in given:
            progress.now(f"loading {name}")
            for note in desk.ready(name).notes:
                progress.note(note)
        progress.now("starting the server")
        with Page(desk, options.model, options.compare, options.port) as page:
            progress.out(f"rrsis demo: {page.url} (Ctrl-C ends it)")
            _until_interrupted()
    return 0


def _until_interrupted() -> None:
    """Wait for Ctrl-C or a request to end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        return


def _parser() -> argparse.ArgumentParser:
    parser = Arguments("rrsis demo", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "--model",
        metavar="M",
        default=MODEL,
        help=f"a checkpoint, a folder, local:PATH, hub:ORG/REPO or {MODEL} (default)",
    )
    parser.add_argument("--compare", metavar="M2", help="a second model, beside the first")
    parser.add_argument(
        "--port", metavar="P", type=int, default=PORT, help=f"of 127.0.0.1 ({PORT}); 0 for any that is free"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 …; default: a GPU if there is one")
    add_plugin(parser)
    return parser
