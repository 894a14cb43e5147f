"""The models behind the page: the same answers as everywhere, each worked out once."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from asked import TEXTS, noise, shown
from PIL import Image

import rrsis_zoo
from rrsis_zoo.commands.segment import run_segment
from rrsis_zoo.demo import answers
from rrsis_zoo.demo.answers import Desk, sentences
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingWeightsError
from rrsis_zoo.models import base
from rrsis_zoo.outputs.record import record
from rrsis_zoo.segmentation import Segmentation


def test_the_answer_is_that_of_segment(desk, folders):
    expected = rrsis_zoo.segment(rrsis_zoo.load_model(folders[0]), noise(), TEXTS)
    answer = desk.ask(folders[0], shown(), TEXTS)
    assert np.array_equal(answer.masks, expected.masks)
    assert np.array_equal(answer.probabilities, expected.probabilities)
    assert np.array_equal(answer.heatmaps, expected.heatmaps)


@pytest.mark.parametrize("threshold", [0.5, 0.45])
def test_the_record_is_that_of_rrsis_segment(desk, folders, tmp_path, monkeypatch, capsys, threshold):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise()).save("a.png")
    options = [word for text in TEXTS for word in ("--text", text)]
    assert run_segment(["a.png", "--json", "--model", folders[0], "--threshold", str(threshold), *options]) == 0
    assert record(desk.findings(folders[0], shown(), TEXTS, threshold)) == json.loads(capsys.readouterr().out)


def test_a_picture_is_encoded_once(desk, folders, encodings):
    """For all sentences, for further ones, under another name, and for every threshold; once for each model."""
    first, second = folders
    desk.ask(first, shown(), TEXTS)
    assert encodings == [first]
    desk.ask(first, shown(name="b.png"), ["the red tank"])
    for threshold in (0.1, 0.5, 0.9):
        desk.findings(first, shown(), TEXTS, threshold)
    assert encodings == [first]
    desk.ask(second, shown(), TEXTS)
    desk.ask(first, shown(1), TEXTS)
    assert encodings == [first, second, first]


def test_a_known_answer_needs_no_model(desk, folders, monkeypatch):
    masks = [f.mask.decode() for f in desk.findings(folders[0], shown(), TEXTS, 0.5).found]

    def never(*_):
        raise AssertionError("the model ran again")

    monkeypatch.setattr(base.ReferringSegmenter, "refer_in_groups", never)
    probabilities = desk.ask(folders[0], shown(), TEXTS).probabilities
    for threshold in (0.3, 0.6):
        again = desk.findings(folders[0], shown(), TEXTS, threshold)
        for one, p, mask in zip(again.found, probabilities, masks, strict=True):
            assert np.array_equal(one.mask.decode(), p > threshold)
            assert threshold > 0.5 or (mask <= one.mask.decode()).all()


def test_what_there_is_no_room_for_is_worked_out_again(folders, monkeypatch):
    monkeypatch.setattr(answers, "_STATES", 1)
    monkeypatch.setattr(answers, "_ANSWERS", 1)
    desk = Desk(folders)
    first = desk.ask(folders[0], shown(), TEXTS)
    desk.ask(folders[0], shown(1), TEXTS)
    again = desk.ask(folders[0], shown(), TEXTS)
    assert again is not first
    assert np.array_equal(again.probabilities, first.probabilities)


def test_many_ask_at_once(desk, folders, encodings):
    """Eight threads, four pictures, two models: everybody gets the own answer, and nothing is worked out twice."""
    questions = [(folders[n % 2], shown(n % 4), TEXTS[: 1 + n % 2]) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda q: desk.ask(*q), [*questions, *questions]))
    assert len(encodings) == len({(name, picture.key) for name, picture, _ in questions})
    alone = Desk(folders)
    for (name, picture, texts), answer in zip([*questions, *questions], given, strict=True):
        assert np.array_equal(answer.probabilities, alone.ask(name, picture, texts).probabilities)


def test_presence_is_passed_on(desk, folders, monkeypatch):
    """For models with a calibration."""

    def calibrated(model, pixels, texts, **_):
        n, (height, width) = len(texts), pixels.shape[-2:]
        p = np.full((n, height, width), 0.75, np.float32)
        return Segmentation(p > 0.5, p, p[:, :4, :4], tuple(texts), shown().pixels, np.array([0.9, 0.2]))

    assert [one.presence for one in desk.findings(folders[0], shown(), TEXTS, 0.5).found] == [None, None]
    monkeypatch.setattr(answers, "segment", calibrated)
    assert [one.presence for one in Desk(folders).findings(folders[0], shown(), TEXTS, 0.5).found] == [0.9, 0.2]


def test_what_cannot_be_asked(desk, folders, tmp_path):
    with pytest.raises(ConfigError, match="no sentence: write one"):
        desk.ask(folders[0], shown(), [])
    with pytest.raises(ConfigError, match="17 sentences are too many for a picture of 90 x 70 pixels: ask up to 16"):
        desk.ask(folders[0], shown(), ["a"] * 17)
    with pytest.raises(ConfigError, match="ask up to 4 at once"):
        desk.ask(folders[0], shown(height=4096, width=4096), ["a"] * 5)
    with pytest.raises(ConfigError, match="unknown method on this page '/etc/passwd'"):
        desk.ask("/etc/passwd", shown(), TEXTS)
    with pytest.raises(ConfigError, match="threshold must be between 0 and 1"):
        desk.findings(folders[0], shown(), TEXTS, 1.0)
    with pytest.raises(ConfigError, match="give mini:rsrefseg, a checkpoint"):
        Desk(["rsrefseg"]).ready("rsrefseg")
    with pytest.raises((ConfigError, MissingWeightsError), match=r"none\.ckpt"):
        Desk([str(tmp_path / "none.ckpt")]).ready(str(tmp_path / "none.ckpt"))


def test_too_little_memory_is_said(desk, folders, monkeypatch):
    def full(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(desk.ready(folders[0]).model, "encode_image", full)
    with pytest.raises(DataFormatError, match=r"a\.png is too large for this machine's memory with 2 sentences"):
        desk.ask(folders[0], shown(), TEXTS)


def test_lines_are_sentences():
    assert sentences("  the ship \n\n\tthe pier\r\n \n") == ["the ship", "the pier"]
    assert sentences(" \n") == []
