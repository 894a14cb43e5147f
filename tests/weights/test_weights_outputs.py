"""Whatever of weights cannot be written: one line, and nothing half left."""

import errno
import json
import shutil
import sys
from pathlib import Path

import layouts
import pytest
import torch

from rrsis_zoo import cli, files
from rrsis_zoo.errors import OutputError
from rrsis_zoo.loading import load_model
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.methods.rsrefseg.model import RSRefSeg
from rrsis_zoo.pretrained.adapters import save_adapters
from rrsis_zoo.weights import folders
from rrsis_zoo.weights.checkpoints import weights_hash
from rrsis_zoo.weights.files import save_tensors

EXPRESSIONS = ["the red ship left of the pier", "a storage tank"] * 5


def tiny(method="control", **settings):
    model = method_named(method).model().from_preset("tiny", **settings)
    model.fit_tokenizer(EXPRESSIONS)
    return model.eval()


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def full(monkeypatch):
    """A disk that is full as soon as anything is to stay on it."""

    def to_disk(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_to_disk", to_disk)


def test_a_full_disk_leaves_no_folder(tmp_path, full):
    with pytest.raises(OutputError, match=r"m.*cannot be written \(No space left on device"):
        tiny().save_pretrained(tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fails", ["tokenizer.model", "model.safetensors", "README.md", "config.json"])
def test_a_folder_that_was_there_stays_as_it_was(tmp_path, monkeypatch, fails):
    tiny().save_pretrained(tmp_path)
    (tmp_path / "README.md").unlink()
    before = snapshot(tmp_path)
    whole = files._to_disk

    def to_disk(path):
        if path.name.startswith(f".{Path(fails).stem}.") and path.suffix == Path(fails).suffix:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(path)

    monkeypatch.setattr(files, "_to_disk", to_disk)
    with pytest.raises(OutputError, match=f"{tmp_path}/{fails} cannot be written"):
        tiny().save_pretrained(tmp_path)
    assert snapshot(tmp_path) == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_the_config_comes_last(tmp_path, monkeypatch):
    moved = []
    replace = folders.os.replace
    monkeypatch.setattr(folders.os, "replace", lambda a, b: (moved.append(Path(b).name), replace(a, b)))
    tiny().save_pretrained(tmp_path / "m")
    assert moved[-1] == "config.json"
    assert set(moved) >= {"model.safetensors", "tokenizer.model", "README.md"}


def test_a_write_that_is_broken_off_looks_like_no_model(tmp_path, monkeypatch):
    replace = folders.os.replace

    def broken_off(a, b):
        if Path(b).name == "config.json" and Path(b).parent == tmp_path / "m":
            raise KeyboardInterrupt
        replace(a, b)

    (tmp_path / "m").mkdir()
    monkeypatch.setattr(folders.os, "replace", broken_off)
    with pytest.raises(KeyboardInterrupt):
        tiny().save_pretrained(tmp_path / "m")
    assert not folders.is_folder(tmp_path / "m")


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "m").write_text("mine")
    for place in (tmp_path / "m", tmp_path / "m" / "below"):
        with pytest.raises(OutputError, match=r"m cannot be written|below cannot be written"):
            tiny().save_pretrained(place)
    assert (tmp_path / "m").read_text() == "mine"


def test_a_folder_in_a_files_place(tmp_path):
    (tmp_path / "m" / "model.safetensors").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"model\.safetensors cannot be written"):
        tiny().save_pretrained(tmp_path / "m")
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["model.safetensors"]


def test_adapters(tmp_path, full):
    with pytest.raises(OutputError, match=r"a\.safetensors cannot be written"):
        save_adapters(tiny("rsrefseg", adapt="lora"), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def authors(golden, tmp_path, monkeypatch):
    case, _, weights = layouts.golden_model(golden, "rsrefseg")
    monkeypatch.setitem(RSRefSeg.presets, "golden", layouts.empty_model(case).config)
    return layouts.write({"module": weights}, tmp_path / "authors.pt")


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["rrsis", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr().err


def test_convert(authors, tmp_path, monkeypatch, capsys):
    """To a file's place, below a file, and both ways on a full disk: status 2, one line, nothing left."""
    source = [f"local:{authors}", "--model", "rsrefseg", "--preset", "golden", "--tokenizer", "none"]
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        status, said = command(monkeypatch, capsys, "convert", *source[:1], place, *source[1:])
        assert status == 2
        assert "cannot be written" in said
        assert said.count("\n") == 1
    ours = tmp_path / "ours"
    assert command(monkeypatch, capsys, "convert", *source[:1], ours, *source[1:])[0] == 0
    back = ["convert", f"local:{ours}"]
    for place in (tmp_path / "file" / "x.pt", ours):
        status, said = command(monkeypatch, capsys, *back, place, "--model", "rsrefseg", "--to-official")
        assert status == 2
        assert "cannot be written" in said
    before = snapshot(tmp_path)

    def to_disk(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_to_disk", to_disk)
    for name in ("back.pt", "back.safetensors"):
        status, said = command(monkeypatch, capsys, *back, tmp_path / name, "--model", "rsrefseg", "--to-official")
        assert status == 2
        assert f"{name} cannot be written (No space left on device" in said
    status, said = command(monkeypatch, capsys, "convert", *source[:1], tmp_path / "again", *source[1:])
    assert status == 2
    assert "No space left on device" in said
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "again").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_torch_on_a_device_that_is_full(tmp_path):
    """Torch's own writer speaks of an unexpected position."""
    from rrsis_zoo.weights import saving

    with pytest.raises(OutputError, match="No space left on device"):
        _save_to_full(saving, tmp_path / "x.pt")
    assert not list(tmp_path.iterdir())


def _save_to_full(saving, path):
    opened = Path.open

    def full(self, *arguments, **options):
        return opened(Path("/dev/full") if ".part" in self.name else self, *arguments, **options)

    patch = pytest.MonkeyPatch()
    patch.setattr(Path, "open", full)
    try:
        saving.save({"a": torch.zeros(10**6)}, path)
    finally:
        patch.undo()


def test_saving_over_the_folder_that_a_model_is_mapped_to(tmp_path):
    tiny().save_pretrained(tmp_path / "m")
    model = load_model(tmp_path / "m")
    before = weights_hash(model)
    model.save_pretrained(tmp_path / "m")
    shutil.copytree(tmp_path / "m", tmp_path / "n")
    assert weights_hash(load_model(tmp_path / "n")) == weights_hash(model) == before
    assert json.loads((tmp_path / "n" / "config.json").read_text())["library_name"] == "rrsis-zoo"


def test_files_can_be_read_by_whom_ones_files_can_be_read(tmp_path):
    """safetensors' own writer makes files for nobody else, whatever the umask."""
    (tmp_path / "plain").touch()
    save_tensors({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
