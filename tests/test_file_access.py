import gzip
import json
import os
import threading

import numpy as np
import pytest

from rrsis_zoo import files
from rrsis_zoo.errors import DataFormatError, MissingDataError, OutputError, WeightsMismatchError


def leftovers(folder):
    return [p.name for p in folder.rglob("*") if ".part" in p.name]


def test_lines_end_at_line_feeds_only(tmp_path):
    (tmp_path / "a").write_bytes("one\u2028still one\x85\x0c\r\ntwo\rstill two\n\nfour".encode())
    assert files.read_lines(tmp_path / "a") == ["one\u2028still one\x85\x0c", "two\rstill two", "", "four"]


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_lines_one_after_the_other(tmp_path, name):
    """The same lines; a bomb is found at the first line that is too long, or when the whole is."""

    def put(content):
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return tmp_path / name

    for text in ("", "one", "one\n", "\ufeffone\u2028still one\x85\x0c\r\ntwo\rstill two\n\nfour"):
        assert list(files.each_line(put(text.encode()))) == files.read_lines(tmp_path / name)
    with pytest.raises(DataFormatError, match=r"line 2: .*larger than"):
        list(files.each_line(put(b"a\n" + bytes(2**22)), longest=2**10))
    with pytest.raises(DataFormatError, match=r"line 6: .*larger than"):
        list(files.each_line(put(b"a\n" * 100), limit=10))
    with pytest.raises(DataFormatError, match=r"line 2: not UTF-8 text .*0xff"):
        list(files.each_line(put(b"a\n\xff\n")))
    with pytest.raises(MissingDataError):
        list(files.each_line(tmp_path / "gone"))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"a\n" * 10**5)[:-20])
    with pytest.raises(DataFormatError, match="cannot be read"):
        list(files.each_line(tmp_path / "cut.gz"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 10_000, "digits"),
        (b"\xff{}", "byte 0xff at 0"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_is_none_is_named(tmp_path, content, why):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataFormatError, match=why) as refused:
        files.read_json(tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(refused.value)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsMismatchError, match="pipe, device or socket"):
        files.read_bytes(tmp_path / "pipe", error=WeightsMismatchError)
    with pytest.raises(DataFormatError, match="is a folder"):
        files.read_bytes(tmp_path)
    (tmp_path / "link").symlink_to("/nowhere/x")
    with pytest.raises(MissingDataError, match="link to /nowhere/x"):
        files.read_bytes(tmp_path / "link")


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    with gzip.open(tmp_path / "bomb.gz", "wb") as file:
        for _ in range(64):
            file.write(bytes(2**20))
    with pytest.raises(DataFormatError, match="more than 1 MiB"):
        files.read_bytes(tmp_path / "bomb.gz", limit=2**20)
    damaged = bytearray((tmp_path / "bomb.gz").read_bytes())
    damaged[20:40] = bytes(20)
    (tmp_path / "damaged.gz").write_bytes(damaged)
    with pytest.raises(DataFormatError, match="cannot be read"):
        files.read_bytes(tmp_path / "damaged.gz")


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    target = tmp_path / "a.json"
    files.write_json(target, {"n": 1})

    def half(path):
        with files.writing(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"a\.json cannot be written \(No space left on device\)"):
        half(target)
    assert json.loads(target.read_text()) == {"n": 1}
    assert not leftovers(tmp_path)


def test_where_nothing_can_be_written_the_error_names_the_output(tmp_path):
    (tmp_path / "file").write_text("")
    for target, why in ((tmp_path, "folder"), (tmp_path / "file" / "a", "Not a directory|File exists")):
        with pytest.raises(OutputError, match=why):
            files.write_text(target, "x")
    with pytest.raises(OutputError, match="File exists"):
        files.make_folder(tmp_path / "file")


def test_two_writers_never_share_a_temporary_file(tmp_path):
    target, whole = tmp_path / "a", {bytes([n]) * 300_000 for n in range(4)}
    files.write_bytes(target, next(iter(whole)))
    wrong = []

    def write(content):
        for _ in range(20):
            files.write_bytes(target, content)

    writers = [threading.Thread(target=write, args=(content,)) for content in whole]
    for thread in writers:
        thread.start()
    while any(thread.is_alive() for thread in writers):
        if target.read_bytes() not in whole:
            wrong.append(1)
    assert not wrong
    assert not leftovers(tmp_path)


def test_a_lone_surrogate_is_written_as_a_question_mark(tmp_path):
    files.write_text(tmp_path / "a", "x\ud800y")
    assert files.read_text(tmp_path / "a") == "x?y"


def test_a_second_name(tmp_path, monkeypatch):
    """It takes the place of what was there, and stays as it is when the first is replaced; a copy without links."""
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("earlier")
    files.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").samefile(tmp_path / "a")
    files.write_text(tmp_path / "a", "two")
    assert (tmp_path / "b").read_text() == "one"

    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", no_links)
    files.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "two"
    assert not (tmp_path / "b").samefile(tmp_path / "a")
    with pytest.raises(OutputError, match="new cannot be written"):
        files.link(tmp_path / "nothing", tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_parts_of_dead_writers_are_removed(tmp_path):
    kept = [".hidden", "a.part", ".partial.txt", "last.ckpt"]
    for name in (*kept, ".last.0123456789abcdef.part.ckpt", ".last.ckpt.part", ".a.0123456789abcdef.part"):
        (tmp_path / name).touch()
    files.remove_parts(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize("umask", [0o022, 0o007])
def test_files_are_as_readable_as_the_user_wants_them(tmp_path, umask, monkeypatch):
    """A temporary file that takes a file's place could keep everyone else out."""
    import torch

    from rrsis_zoo.metrics.samples import Counts, Samples, write_samples
    from rrsis_zoo.weights.files import save_tensors
    from rrsis_zoo.weights.saving import save

    before = os.umask(umask)
    try:
        files.write_bytes(tmp_path / "bytes", b"x")
        files.write_text(tmp_path / "in" / "text", "x")
        files.write_json(tmp_path / "json", {})
        files.link(tmp_path / "json", tmp_path / "linked")
        monkeypatch.setattr(files.os, "link", lambda *names: (_ for _ in ()).throw(OSError("no links here")))
        files.link(tmp_path / "json", tmp_path / "copied")
        monkeypatch.undo()
        save({"x": torch.zeros(1)}, tmp_path / "torch.ckpt")
        save_tensors({"x": torch.zeros(1)}, tmp_path / "a.safetensors")
        write_samples(tmp_path / "samples.jsonl.gz", Samples([], Counts.from_rows(np.zeros((0, 5), np.int64))))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert len(modes) == 8
    assert set(modes.values()) == {0o666 & ~umask}
    assert (tmp_path / "in").stat().st_mode & 0o777 == 0o777 & ~umask
