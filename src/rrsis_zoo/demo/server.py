"""The page's server: on this machine only, with nothing from elsewhere, and nothing left behind."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from rrsis_zoo.demo.answers import Desk
from rrsis_zoo.demo.page import layout
from rrsis_zoo.errors import ConfigError

HOST = "127.0.0.1"

_OTHER_PORT = "give another with --port, or --port 0 for any that is free"
_UPLOAD_LIMIT = "512mb"
_SESSIONS = 64

_POLICY = (
    "default-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; frame-ancestors 'none'; form-action 'self'"
)
"""A browser refuses whatever another host would be asked for, should the page ever want that."""


class Page:
    """The page with its server, in the background.

    Args:
        desk: answers the questions.
        first: name of the method that is chosen at first.
        second: name of the one that it is compared with at first, or None.
        port: of 127.0.0.1; 0 for any that is free.

    Raises:
        ConfigError: the port cannot be used.
    """

    def __init__(self, desk: Desk, first: str, second: str | None, port: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rrsis-demo-")
        try:
            self.port = free_port(port)
            os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
            os.environ["GRADIO_TEMP_DIR"] = self._folder.name
            _without_proxy()
            self._blocks = layout(desk, first, second)
            self.url = _serve(self._blocks, self.port)
        except BaseException:
            self._folder.cleanup()
            raise

    def close(self) -> None:
        """Stop the server and delete what was uploaded."""
        self._blocks.close(verbose=False)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def free_port(port: int) -> int:
    """Return a port of this machine on which nobody listens.

    Args:
        port: the wanted one; 0 for any.

    Raises:
        ConfigError: it is in use, or not allowed.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended is no obstacle
        try:
            probe.bind((HOST, port))
        except PermissionError as error:
            raise ConfigError(f"port {port} is not allowed to you: {_OTHER_PORT}") from error
        except OSError as error:
            raise ConfigError(f"port {port} is in use: {_OTHER_PORT}") from error
        return probe.getsockname()[1]


def _without_proxy() -> None:
    """Let the server reach itself: it asks its own address whether it has started."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), HOST)))


def _serve(blocks: Any, port: int) -> str:
    from gradio.themes import Default
    from starlette.middleware import Middleware

    system = ["system-ui", "sans-serif"]  # the theme's own fonts would come from Google
    theme = Default(
        primary_hue="sky", secondary_hue="sky", font=system, font_mono=["ui-monospace", "monospace"]
    ).set(  # small grey text and white on the button: enough contrast for everybody (4.5 : 1)
        body_text_color_subdued="*neutral_600",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        link_text_color="*primary_700",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
    )
    try:
        _, url, _ = blocks.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=False,
            prevent_thread_lock=True,
            quiet=True,
            allowed_paths=[],
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=_UPLOAD_LIMIT,
            state_session_capacity=_SESSIONS,
            app_kwargs={"middleware": [Middleware(_Policy)]},
            theme=theme,
            css_paths=Path(__file__).with_name("page.css"),
        )
    except OSError as error:
        if "port" not in str(error):
            raise
        raise ConfigError(f"port {port} is in use: {_OTHER_PORT}") from error
    return url


class _Policy:
    """Adds the content policy to every answer of the server.

    Args:
        app: what answers.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY.encode())]
            await send(message)

        await self._app(scope, receive, with_policy if scope["type"] == "http" else send)
