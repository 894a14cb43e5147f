"""What the page's controls call, as plain functions of plain values. No gradio."""

from __future__ import annotations

from typing import Any

from rrsis_zoo.demo.answers import Desk, sentences
from rrsis_zoo.demo.cards import Column, answers_html, error_html, picture_html
from rrsis_zoo.demo.examples import examples
from rrsis_zoo.demo.pictures import Shown, read_shown
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.outputs.record import record
from rrsis_zoo.terminal import explained

NOBODY = "none"
"""The second method if there is none."""

Question = tuple[list[str], list[str]]
"""Sentences, and names of methods."""

NO_PICTURE = '<p class="legend">No picture yet: upload one, or choose an example.</p>'


class Handlers:
    """What the page's controls call. A problem that the user can mend becomes a sentence on the page.

    Args:
        desk: answers the questions.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def take(self, path: str | None) -> tuple[Shown | None, str, None, str]:
        """Return an uploaded picture, how it looks, and no answers; a file that is taken away leaves nothing."""
        if path is None:
            return None, NO_PICTURE, None, ""
        try:
            picture = read_shown(path)
        except Exception as error:
            return None, error_html(sentence_about(error)), None, ""
        return picture, picture_html(picture), None, ""

    def example(self, index: int) -> tuple[Shown, str, str, None, None, str]:
        """Return an example's picture, how it looks, its sentences, no upload and no answers."""
        one = examples()[index]
        return one.shown, picture_html(one.shown), "\n".join(one.texts), None, None, ""

    def ask(
        self, picture: Shown | None, text: str, first: str, second: str, threshold: float, opacity: float
    ) -> tuple[Question | None, str]:
        """Return the question, for `draw`, and the answers."""
        try:
            if picture is None:
                raise ConfigError("there is no picture: upload one, or choose an example")
            texts = sentences(text)
            names = list(dict.fromkeys([first] if second == NOBODY else [first, second]))
            columns = [self._column(name, picture, texts, threshold) for name in names]
            return (texts, names), answers_html(picture, columns, opacity)
        except Exception as error:
            return None, error_html(sentence_about(error))

    def draw(self, picture: Shown | None, question: Question | None, threshold: float, opacity: float) -> str:
        """Return the answers to the last question with other values of the sliders."""
        if picture is None or question is None:
            return ""
        texts, names = question
        try:
            return answers_html(picture, [self._column(name, picture, texts, threshold) for name in names], opacity)
        except Exception as error:
            return error_html(sentence_about(error))

    def segment(self, path: str | None, text: str, method: str, threshold: float) -> dict[str, Any]:
        """Return what `rrsis segment --presence off --json` prints; for programs.

        Raises:
            RRSISError: as `read_shown` and `Desk.findings`; or no picture.
        """
        if path is None:
            raise ConfigError("there is no picture")
        return record(self.desk.findings(method, read_shown(path), sentences(text), threshold))

    def _column(self, name: str, picture: Shown, texts: list[str], threshold: float) -> Column:
        findings = self.desk.findings(name, picture, texts, threshold)
        notes = (*self.desk.ready(name).notes, self.desk.cut(name, texts))
        calibration = self.desk.ready(name).model.calibration
        needed = None if calibration is None else calibration.threshold
        answer = self.desk.ask(name, picture, texts)
        return Column(findings, answer.heatmaps, tuple(filter(None, notes)), needed, answer.marks)


def sentence_about(error: Exception) -> str:
    """Return what the user can do about an error.

    Raises:
        Exception: the error itself, if it is a bug: its traceback belongs into the terminal.
    """
    line = explained(error)
    if line is None:
        raise error
    return line
