"""The server: many at once, nothing from elsewhere, nothing left behind."""

import re
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from asked import TEXTS, noise, shown
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from pycocotools import mask as coco

from rrsis_zoo.demo.server import HOST, Page, free_port
from rrsis_zoo.errors import ConfigError


@pytest.fixture
def page(desk, folders):
    with Page(desk, folders[0], None, 0) as page:
        yield page


def test_eight_at_once_are_answered_right(page, desk, folders, encodings, tmp_path):
    questions = []
    for n in range(8):
        Image.fromarray(noise(n % 4)).save(tmp_path / f"{n}.png")
        questions.append((tmp_path / f"{n}.png", "\n".join(TEXTS[: 1 + n % 2]), folders[n // 4], 0.45 + 0.02 * n))
    clients = [Client(page.url, verbose=False) for _ in questions]

    def ask(client, question):
        path, *others = question
        return client.predict(handle_file(path), *others, api_name="/segment")

    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(ask, clients, questions))
    for n, (record, (path, text, folder, threshold)) in enumerate(zip(records, questions, strict=True)):
        assert (record["input"], record["source"], record["threshold"]) == (path.name, folder, threshold)
        assert [answer["text"] for answer in record["answers"]] == text.split("\n")
        expected = desk.ask(folder, shown(n % 4), text.split("\n")).probabilities > threshold
        for answer, mask in zip(record["answers"], expected, strict=True):
            assert np.array_equal(coco.decode(answer["segmentation"]), mask)
    assert len(encodings) == 8  # four pictures, two models; the test itself found them encoded


def test_a_program_gets_a_sentence_too(page, folders, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    client = Client(page.url, verbose=False)
    with pytest.raises(AppError, match=r"^bad\.png: cannot be read as an image"):
        client.predict(handle_file(tmp_path / "bad.png"), "the ship", folders[0], 0.5, api_name="/segment")
    with pytest.raises(AppError, match="not in the list of choices"):
        client.predict(handle_file(tmp_path / "bad.png"), "the ship", "/etc/passwd", 0.5, api_name="/segment")


def test_no_other_file_is_served(page):
    """What a program names must have been uploaded."""
    question = {"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "the ship", None, 0.5]}
    done = httpx.post(f"{page.url}gradio_api/run/segment", json=question)
    assert done.status_code >= 400
    assert "root:" not in done.text
    assert httpx.get(f"{page.url}gradio_api/file=/etc/passwd").status_code == 403


def test_nothing_from_elsewhere(page):
    """A browser that were told to load something from another host would refuse."""
    served = httpx.get(page.url)
    policy = dict(part.strip().split(" ", 1) for part in served.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self' data: blob:"
    assert not re.search(r"https?:|\*", served.headers["content-security-policy"])
    assert "fonts.googleapis" not in served.text
    assert '"analytics_enabled":false' in served.text.replace(" ", "")
    assert httpx.get(f"{page.url}theme.css").text.count("@import") == 0


def test_what_was_uploaded_is_deleted(desk, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    Image.fromarray(noise()).save(tmp_path / "secret.png")
    with Page(desk, folders[0], None, 0) as page:
        client = Client(page.url, verbose=False)
        client.predict(handle_file(tmp_path / "secret.png"), "the ship", folders[0], 0.5, api_name="/segment")
        assert list((tmp_path / "tmp").rglob("secret.png"))
    assert not list((tmp_path / "tmp").glob("rrsis-demo-*"))


def test_only_this_machine_is_served(page):
    with socket.socket() as probe:
        probe.connect((HOST, page.port))
        assert probe.getpeername()[0] == "127.0.0.1"
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), page.port, socket.AF_INET)}
    for address in others - {"127.0.0.1"}:
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((address, page.port)) != 0


def test_a_proxy_is_not_asked(desk, folders, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Page(desk, folders[0], None, 0) as page:
        assert httpx.get(page.url).status_code == 200


def test_a_port_in_use():
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is in use: give another with --port, or --port 0 for any"):
            free_port(port)
    assert free_port(port) == port
    assert free_port(0) > 0


def test_the_style_is_shipped():
    assert (Path(__file__).parents[2] / "src" / "rrsis_zoo" / "demo" / "page.css").is_file()
