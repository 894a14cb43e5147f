"""The page itself: what is where, and which button calls what. The only module that knows gradio."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from rrsis_zoo.demo.answers import MOST_SENTENCES, Desk, sentences
from rrsis_zoo.demo.cards import Column, answers_html, error_html, picture_html
from rrsis_zoo.demo.examples import examples
from rrsis_zoo.demo.pictures import Shown, read_shown
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.outputs.record import record
from rrsis_zoo.terminal import explained

HOST = "127.0.0.1"
NOBODY = "none"
"""The second method if there is none."""

_OTHER_PORT = "give another with --port, or --port 0 for any that is free"
_UPLOAD_LIMIT = "512mb"
_KEPT_S = 3600  # uploads and pictures of a page that nobody uses any more
_SESSIONS = 64
_WORK = "model"  # the queue that all questions share

_POLICY = (
    "default-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; frame-ancestors 'none'; form-action 'self'"
)
"""A browser refuses whatever another host would be asked for, should the page ever want that."""

_INTRO = """# Referring segmentation

Give a picture and write what you look for, one sentence a line. Everything happens on the computer that runs
`rrsis demo`; no picture and no sentence leaves it. The `mini:` methods are miniatures trained on synthetic scenes like
the examples; do not expect them to understand photographs."""
_NO_PICTURE = '<p class="legend">No picture yet: upload one, or choose an example.</p>'


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
            self._blocks = _blocks(_Answering(desk), first, second)
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
    import gradio as gr
    from starlette.middleware import Middleware

    system = ["system-ui", "sans-serif"]  # the theme's own fonts would come from Google
    theme = gr.themes.Default(
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


class _Answering:
    """What the page's controls call. A problem that the user can mend becomes a sentence on the page.

    Args:
        desk: answers the questions.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def take(self, path: str | None) -> tuple[Shown | None, str, None, str]:
        """Return an uploaded picture, how it looks, and no answers; a file that is taken away leaves nothing."""
        if path is None:
            return None, _NO_PICTURE, None, ""
        try:
            picture = read_shown(path)
        except Exception as error:
            return None, error_html(_sentence(error)), None, ""
        return picture, picture_html(picture), None, ""

    def example(self, index: int) -> tuple[Shown, str, str, None, None, str]:
        """Return an example's picture, how it looks, its sentences, no upload and no answers."""
        one = examples()[index]
        return one.shown, picture_html(one.shown), "\n".join(one.texts), None, None, ""

    def ask(
        self, picture: Shown | None, text: str, first: str, second: str, threshold: float, opacity: float
    ) -> tuple[tuple[str, tuple[str, ...]] | None, str]:
        """Return the question, for `draw`, and the answers."""
        try:
            if picture is None:
                raise ConfigError("there is no picture: upload one, or choose an example")
            texts = sentences(text)
            names = list(dict.fromkeys([first] if second == NOBODY else [first, second]))
            columns = [self._column(name, picture, texts, threshold) for name in names]
            return (texts, names), answers_html(picture, columns, opacity)
        except Exception as error:
            return None, error_html(_sentence(error))

    def draw(self, picture: Shown | None, question: Any, threshold: float, opacity: float) -> str:
        """Return the answers to the last question with other values of the sliders."""
        if picture is None or question is None:
            return ""
        texts, names = question
        try:
            return answers_html(picture, [self._column(name, picture, texts, threshold) for name in names], opacity)
        except Exception as error:
            return error_html(_sentence(error))

    def segment(self, path: str | None, text: str, method: str, threshold: float) -> dict[str, Any]:
        """Return what `rrsis segment --json` prints; for programs."""
        import gradio as gr

        try:
            if path is None:
                raise ConfigError("there is no picture")
            return record(self.desk.findings(method, read_shown(path), sentences(text), threshold))
        except Exception as error:
            raise gr.Error(_sentence(error), print_exception=False) from error

    def _column(self, name: str, picture: Shown, texts: list[str], threshold: float) -> Column:
        findings = self.desk.findings(name, picture, texts, threshold)
        notes = (*self.desk.ready(name).notes, self.desk.cut(name, texts))
        return Column(findings, self.desk.ask(name, picture, texts).heatmaps, tuple(filter(None, notes)))


def _sentence(error: Exception) -> str:
    """Return what the user can do about an error.

    Raises:
        Exception: the error itself, if it is a bug: its traceback belongs into the terminal.
    """
    line = explained(error)
    if line is None:
        raise error
    return line


def _blocks(page: _Answering, first: str, second: str | None) -> Any:
    """Return the page's layout."""
    import gradio as gr

    names = list(page.desk.names)
    hidden = {"api_visibility": "private"}
    redraw = {"trigger_mode": "always_last", "show_progress": "hidden", "concurrency_limit": None, **hidden}
    with gr.Blocks(title="rrsis demo", analytics_enabled=False, delete_cache=(_KEPT_S, _KEPT_S)) as blocks:
        picture, question = gr.State(None, time_to_live=_KEPT_S), gr.State(None, time_to_live=_KEPT_S)
        gr.Markdown(_INTRO)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                upload = gr.File(label="Your picture", height=120, elem_id="upload")
                gr.Markdown("Or an example:")
                gallery = gr.Gallery(
                    [(one.shown.pixels, one.name) for one in examples()],
                    label="Examples",
                    show_label=False,
                    columns=4,
                    object_fit="cover",
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    elem_id="examples",
                )
                given = gr.HTML(_NO_PICTURE, elem_id="given")
            with gr.Column(scale=3, min_width=300):
                text = gr.Textbox(
                    label=f"Sentences, one a line (up to {MOST_SENTENCES})",
                    placeholder="the ship left of the pier\nthe large storage tank",
                    lines=4,
                    max_lines=MOST_SENTENCES,
                    elem_id="sentences",
                )
                with gr.Row():
                    method = gr.Dropdown(names, value=first, label="Method", min_width=240, elem_id="method")
                    other = gr.Dropdown(
                        [NOBODY, *names], value=second or NOBODY, label="Compare with", min_width=240, elem_id="other"
                    )
                ask = gr.Button("Segment", variant="primary", elem_id="ask")
                with gr.Row():
                    threshold = gr.Slider(
                        0.05, 0.95, 0.5, step=0.05, label="Threshold", min_width=240,
                        info="probability above which a pixel is in a mask", buttons=[], elem_id="threshold",
                    )  # fmt: skip
                    opacity = gr.Slider(
                        0, 1, 0.4, step=0.05, label="Opacity", info="of the masks on the picture",
                        min_width=240, buttons=[], elem_id="opacity",
                    )  # fmt: skip
        answers = gr.HTML(elem_id="answers")

        upload.upload(page.take, upload, [picture, given, question, answers], concurrency_limit=4, **hidden)
        upload.clear(lambda: page.take(None), None, [picture, given, question, answers], **hidden)

        def chosen(event: Any) -> Any:
            return page.example(event.index)

        chosen.__annotations__["event"] = gr.SelectData  # gradio looks for this class, which only exists in here

        work = {"concurrency_limit": 1, "concurrency_id": _WORK}
        asking = {"fn": page.ask, "inputs": [picture, text, method, other, threshold, opacity], **work, **hidden}
        asking["outputs"] = [question, answers]
        example = [picture, given, text, upload, question, answers]
        gallery.select(chosen, None, example, concurrency_limit=4, **hidden).success(**asking)
        gr.on([ask.click, text.submit], **asking)
        for slider in (threshold, opacity):
            slider.change(page.draw, [picture, question, threshold, opacity], answers, **redraw)

        program, result = gr.Button(visible=False), gr.JSON(visible=False)
        program.click(page.segment, [upload, text, method, threshold], result, api_name="segment", **work)
    return blocks.queue(max_size=None)
