"""The page: what is where, and which control calls what. Gradio is imported when it is laid out."""

from __future__ import annotations

from typing import Any

from rrsis_zoo.demo.answers import MOST_SENTENCES, Desk
from rrsis_zoo.demo.examples import examples
from rrsis_zoo.demo.handlers import NO_PICTURE, NOBODY, Handlers, sentence_about

KEPT_S = 3600
"""How long uploads and pictures are kept of a page that nobody uses any more."""

_WORK = "model"  # the queue that all questions share

_INTRO = """# Referring segmentation

Give a picture and write what you look for, one sentence a line. Everything happens on the computer that runs
`rrsis demo`; no picture and no sentence leaves it. The `mini:` methods are miniatures trained on synthetic scenes like
the examples; do not expect them to understand photographs."""


def layout(desk: Desk, first: str, second: str | None) -> Any:
    """Return the page as ``gradio.Blocks``.

    Args:
        desk: answers the questions.
        first: name of the method that is chosen at first.
        second: name of the one that it is compared with at first, or None.
    """
    import gradio as gr

    page, names = Handlers(desk), list(desk.names)
    hidden: dict[str, Any] = {"api_visibility": "private"}
    redraw: dict[str, Any] = {
        "trigger_mode": "always_last",
        "show_progress": "hidden",
        "concurrency_limit": None,
        **hidden,
    }
    with gr.Blocks(title="rrsis demo", analytics_enabled=False, delete_cache=(KEPT_S, KEPT_S)) as blocks:
        picture, question = gr.State(None, time_to_live=KEPT_S), gr.State(None, time_to_live=KEPT_S)
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
                given = gr.HTML(NO_PICTURE, elem_id="given")
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

        work: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": _WORK}
        asking: dict[str, Any] = {
            "fn": page.ask,
            "inputs": [picture, text, method, other, threshold, opacity],
            **work,
            **hidden,
        }
        asking["outputs"] = [question, answers]
        example = [picture, given, text, upload, question, answers]
        gallery.select(chosen, None, example, concurrency_limit=4, **hidden).success(**asking)
        gr.on([ask.click, text.submit], **asking)
        for slider in (threshold, opacity):
            slider.change(page.draw, [picture, question, threshold, opacity], answers, **redraw)

        def segment(path: str | None, text: str, method: str, threshold: float) -> Any:
            try:
                return page.segment(path, text, method, threshold)
            except Exception as error:
                raise gr.Error(sentence_about(error), print_exception=False) from error

        program, result = gr.Button(visible=False), gr.JSON(visible=False)
        program.click(segment, [upload, text, method, threshold], result, api_name="segment", **work)
    return blocks.queue(max_size=None)
