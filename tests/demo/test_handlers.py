"""What the controls call, without a server."""

import numpy as np
import pytest
from asked import TEXTS, noise, shown
from PIL import Image

from rrsis_zoo.demo import handlers
from rrsis_zoo.demo.examples import examples
from rrsis_zoo.demo.handlers import NO_PICTURE, NOBODY, Handlers


@pytest.fixture
def page(desk):
    return Handlers(desk)


def test_a_question_and_its_answers(page, folders, encodings):
    question, text = page.ask(shown(), "\n".join(TEXTS), folders[0], folders[1], 0.45, 0.4)
    assert question == (TEXTS, folders)
    assert text.count("<section") == 2
    assert text.count("<h4>") == 4
    assert page.draw(shown(), question, 0.45, 0.4) == text
    assert page.draw(shown(), question, 0.55, 0.4) != text
    assert len(encodings) == 2


def test_a_method_is_not_compared_with_itself(page, folders):
    for second in (NOBODY, folders[0]):
        question, text = page.ask(shown(), TEXTS[0], folders[0], second, 0.5, 0.4)
        assert question == (TEXTS[:1], folders[:1])
        assert "<h4>" not in text


def test_what_is_missing_is_said(page, folders):
    for picture, text, said in ((None, "a ship", "There is no picture"), (shown(), " \n", "There is no sentence")):
        question, answer = page.ask(picture, text, folders[0], NOBODY, 0.5, 0.4)
        assert question is None
        assert said in answer
    assert page.draw(shown(), None, 0.5, 0.4) == page.draw(None, ([], []), 0.5, 0.4) == ""


def test_a_sentence_that_is_cut_is_said(page, folders):
    _, text = page.ask(shown(), "the ship " * 40, folders[0], NOBODY, 0.5, 0.4)
    assert "longer than" in text
    assert "are cut off there" in text


def test_a_picture_is_taken(page, tmp_path):
    Image.fromarray(noise()).save(tmp_path / "a.png")
    picture, look, *emptied = page.take(str(tmp_path / "a.png"))
    assert np.array_equal(picture.pixels, noise())
    assert "a.png, 90 x 70 pixels" in look
    assert emptied == [None, ""]
    assert page.take(None) == (None, NO_PICTURE, None, "")
    (tmp_path / "a.png").write_bytes(b"text")
    picture, look, *_ = page.take(str(tmp_path / "a.png"))
    assert picture is None
    assert 'role="alert"' in look


def test_an_example_brings_its_sentences(page):
    picture, look, text, *emptied = page.example(1)
    assert picture.name == "airport.png"
    assert "airport.png" in look
    assert text.splitlines() == examples()[1].texts
    assert emptied == [None, None, ""]


def test_a_bug_keeps_its_traceback(page, folders, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(handlers, "answers_html", broken)
    with pytest.raises(ZeroDivisionError):
        page.ask(shown(), TEXTS[0], folders[0], NOBODY, 0.5, 0.4)
