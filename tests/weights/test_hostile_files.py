"""Weight files of strangers: nothing in them is executed, nothing outside their folder is read, nothing is promised
that they do not have. Every path by which a file reaches torch is tried with every kind of file."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from test_sources import add_to_cache

import rrsis_zoo
from rrsis_zoo.commands.convert import run_convert
from rrsis_zoo.errors import ConfigError, MissingWeightsError, RRSISError, WeightsMismatchError
from rrsis_zoo.loading import load_model
from rrsis_zoo.methods.control.model import Control
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.pretrained.adapters import load_adapters
from rrsis_zoo.pretrained.foundations import fill_foundations, fill_tokenizer
from rrsis_zoo.pretrained.official import file_hashes, skipped_beside
from rrsis_zoo.pretrained.whole import fill_model
from rrsis_zoo.weights.checkpoints import META
from rrsis_zoo.weights.files import read_state_dict

EXPRESSIONS = ["the red ship left of the pier", "a storage tank"] * 5


def tiny(method="control", **settings):
    model = method_named(method).model().from_preset("tiny", **settings)
    model.fit_tokenizer(EXPRESSIONS)
    return model.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny().save_pretrained(folder)
    return folder


def copy(folder, to):
    shutil.copytree(folder, to)
    return to


def edit(folder, change):
    path = folder / "config.json"
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))
    return folder


# -- code --------------------------------------------------------------------------------------------------------------


class Attack:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def as_zip(content, path, **how):
    torch.save(content, path, **how)


def as_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


def as_new_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=4))


def as_tar(content, path):
    """The layout of torch 0.1: a tar archive of pickles."""
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(content, protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def as_packed_zip(content, path):
    torch.save(content, path)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


def as_script(content, path):
    """A TorchScript archive with the pickle where such a program keeps its constants."""
    torch.save(content, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{path.stem}/constants.pkl", pickle.dumps(content, protocol=2))
        archive.writestr(f"{path.stem}/code/__torch__.py", "import os")


WRITERS = [as_zip, as_legacy, as_pickle, as_new_pickle, as_tar, as_packed_zip, as_script]


def _adapters(path, monkeypatch):
    load_adapters(tiny("rsrefseg", adapt="lora"), path)


def _cached(path, monkeypatch):
    cache = path.parent / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    add_to_cache(cache, "org/repo", "weights.pt", path.read_bytes())
    load_model("rsrefseg", weights="hub:org/repo:weights.pt", preset="tiny")


def _as_folder(path, monkeypatch, saved):
    folder = copy(saved, path.parent / "folder")
    shutil.copy(path, folder / "model.safetensors")
    return folder


def _shard(path, monkeypatch):
    index = path.parent / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": path.name}}))
    read_state_dict(index)


PATHS = {
    "load_model(PATH)": lambda path, m: load_model(path),
    "load_model(local:)": lambda path, m: load_model(f"local:{path}"),
    "load_model(NAME, local:)": lambda path, m: load_model("rsrefseg", weights=f"local:{path}", preset="tiny"),
    "load_model(NAME, hub:)": _cached,
    "fill_model": lambda path, m: fill_model(tiny("rsrefseg"), f"local:{path}"),
    "foundation weights": lambda path, m: fill_foundations(tiny("rs2sam2"), {"sam2": f"local:{path}", "beit3": "none"}),
    "convert": lambda path, m: run_convert([f"local:{path}", str(path.parent / "out"), "--model", "rsrefseg"]),
    "convert --to-official": lambda path, m: run_convert(
        [f"local:{path}", str(path.parent / "out.pt"), "--model", "rsrefseg", "--to-official"]
    ),
    "adapters": _adapters,
    "shards": _shard,
    "tokenizer": lambda path, m: fill_tokenizer(tiny("rsrefseg"), f"local:{path}"),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", PATHS)
def test_no_path_executes_what_a_file_holds(name, writer, tmp_path, monkeypatch):
    trace = tmp_path / "it-ran"
    attack = Attack(trace)
    path = tmp_path / "weights.pt"
    # as a checkpoint of ours, so that it is read as far as possible
    writer({META: attack, "state_dict": {"a": attack}, "callbacks": attack}, path)
    with pytest.raises(RRSISError):
        PATHS[name](path, monkeypatch)
    assert not trace.exists()


@pytest.mark.parametrize("writer", WRITERS)
def test_no_folder_executes_what_it_holds(writer, saved, tmp_path):
    trace = tmp_path / "it-ran"
    folder = copy(saved, tmp_path / "folder")
    for name in ("model.safetensors", "skipped.safetensors"):
        writer({"state_dict": {"a": Attack(trace)}}, folder / name)
    for read in (load_model, ReferringSegmenter.from_pretrained, Control.from_pretrained, skipped_beside):
        with pytest.raises(RRSISError):
            read(folder)
    shutil.copy(folder / "model.safetensors", folder / "tokenizer.model")
    with pytest.raises(RRSISError):
        load_model(folder)
    assert not trace.exists()


@pytest.mark.parametrize("url", ["http://x.org/w.ckpt", "https://x.org/w.pt", "file:///tmp/w.pt", "s3://b/w.pt"])
def test_urls_are_refused(url, tmp_path):
    model = tiny("rsrefseg")
    for read in (
        lambda: load_model(url),
        lambda: load_model(Path(url)),
        lambda: load_model(f"local:{url}"),
        lambda: load_model("rsrefseg", weights=url),
        lambda: load_model("rsrefseg", weights=f"local:{url}"),
        lambda: fill_model(model, url),
        lambda: fill_foundations(model, {"sam": url, "siglip": "none"}),
        lambda: read_state_dict(url),
        lambda: load_adapters(tiny("rsrefseg", adapt="lora"), url),
        lambda: Control.from_pretrained(url),
        lambda: run_convert([url, str(tmp_path / "out"), "--model", "rsrefseg"]),
    ):
        with pytest.raises(ConfigError, match="is a URL, and nothing is downloaded"):
            read()


def test_no_name_in_a_file_is_imported(saved, tmp_path):
    """A module that writes a file when it is imported, named wherever a file may name a class."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')")
    folder = edit(copy(saved, tmp_path / "m"), lambda said: said.update(model="evil.Model"))
    checkpoint = tmp_path / "x.ckpt"
    content = {"class_path": "evil.Model", "_class_path": "evil.Model"}
    torch.save(
        {META: tiny().description() | {"model": "evil.Model"}, "hyper_parameters": content, "state_dict": {}},
        checkpoint,
    )
    sys.path.insert(0, str(tmp_path))
    try:
        for path in (folder, checkpoint):
            with pytest.raises(WeightsMismatchError, match=r"unknown model 'evil\.Model'"):
                load_model(path)
    finally:
        sys.path.remove(str(tmp_path))
    assert not (tmp_path / "it-ran").exists()


# -- places ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x/../../../../etc/passwd", "../model", "/etc/passwd", "", ".", "a/b", "a\0b", "~"])
def test_names_of_tokenizer_files_are_plain(saved, tmp_path, name):
    folder = edit(copy(saved, tmp_path / "m"), lambda said: said["tokenizer"].update(files=[name]))
    with pytest.raises(
        WeightsMismatchError, match=r"config\.json: tokenizer\.files names .*letters, digits and _ are allowed"
    ):
        load_model(folder)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/../../x", "..", ".", "", "a\0b", "sub/x"])
def test_shards_lie_beside_their_index(tmp_path, name):
    (tmp_path / "m").mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    index = tmp_path / "m" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    for read in (read_state_dict, file_hashes):
        with pytest.raises(WeightsMismatchError, match="which is not a file name in its folder"):
            read(index)


@pytest.mark.parametrize("name", ["tokenizer.model", "model.safetensors", "config.json"])
def test_links_do_not_lead_out_of_a_folder(saved, tmp_path, name):
    folder = copy(saved, tmp_path / "m")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(WeightsMismatchError, match="is a link to a place outside the folder"):
        load_model(folder)
    (folder / name).unlink()
    (folder / "stored").mkdir()
    (tmp_path / name).rename(folder / "stored" / name)
    (folder / name).symlink_to(Path("stored") / name)
    assert load_model(folder).name == "control"


def test_shards_are_no_links_out_of_their_folder(tmp_path):
    (tmp_path / "m").mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    (tmp_path / "m" / "x.safetensors").symlink_to(tmp_path / "x.safetensors")
    index = tmp_path / "m" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "x.safetensors"}}))
    with pytest.raises(WeightsMismatchError, match="is a link to a place outside its folder"):
        read_state_dict(index)


def test_the_hub_cache_links_into_its_store(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for path in saved.iterdir():
        link = add_to_cache(tmp_path / "hub", "org/ours", path.name, path.read_bytes())
    assert link.is_symlink()
    assert load_model("hub:org/ours").name == load_model(link.parent).name == "control"
    secret = tmp_path / "secret"
    secret.write_text("{}")
    (link.parent / "config.json").unlink()
    (link.parent / "config.json").symlink_to(secret)
    with pytest.raises(RRSISError):
        load_model(link.parent)


def test_revisions_stay_in_the_cache():
    with pytest.raises(ConfigError, match="is not a valid revision"):
        load_model("hub:org/repo@a/../../b")


# -- promises ----------------------------------------------------------------------------------------------------------


def test_packed_members_are_not_unpacked(tmp_path):
    path = tmp_path / "bomb.pt"
    torch.save({"a": torch.zeros(2)}, path)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name) + bytes(50_000_000 if name.endswith("/data/0") else 0))
    assert path.stat().st_size < 100_000
    with pytest.raises(WeightsMismatchError, match="compressed or encrypted members"):
        read_state_dict(path)


def test_tensors_are_not_larger_than_their_file(tmp_path):
    torch.save({"a": torch.zeros(1).expand(10**5, 10**6)}, tmp_path / "w.pt")
    with pytest.raises(WeightsMismatchError, match="too large for the values in the file"):
        read_state_dict(tmp_path / "w.pt")
    torch.save({"ids": torch.arange(64).expand(4, 64)}, tmp_path / "w.pt")  # as some programs save positions
    assert read_state_dict(tmp_path / "w.pt")["ids"].shape == (4, 64)


@pytest.mark.parametrize("new", [True, False])
def test_memory_is_not_taken_for_the_asking(tmp_path, new):
    path = tmp_path / "w.pt"
    torch.save({"a": bytearray(b"x")}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(WeightsMismatchError):
        read_state_dict(path)
    code = f"""
from pathlib import Path
from rrsis_zoo.weights.files import read_state_dict
from rrsis_zoo.errors import WeightsMismatchError
try:
    read_state_dict({str(path)!r})
except WeightsMismatchError as error:
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) // 1000 for line in lines if line.startswith("VmHWM:")), error)
"""
    huge = b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R."  # bytearray(2147483647)
    if not new:
        path.write_bytes(b"\x80\x02" + huge)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("w/data.pkl", b"\x80\x02" + huge)
            archive.writestr("w/version", "3\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[0]) < 1500


@pytest.mark.parametrize(
    "content", [torch.eye(3).to_sparse(), torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)]
)
def test_tensors_of_other_kinds_are_named(tmp_path, content):
    torch.save({"a": content}, tmp_path / "w.pt")
    with pytest.raises(WeightsMismatchError, match=r"a is not a plain tensor|not only tensors|damaged"):
        read_state_dict(tmp_path / "w.pt")


def test_state_dicts_in_state_dicts_end(tmp_path):
    content: dict = {}
    content["state_dict"] = content
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsMismatchError, match="nested in more than 4 levels"):
        read_state_dict(tmp_path / "w.pt")


def test_strange_headers_of_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"
    for header in (
        b"[" * 5000,
        b'{"__metadata__":{"format":7}}',
        b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":["0",4]}}',
    ):
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        with pytest.raises(WeightsMismatchError):
            read_state_dict(path)
    path.write_bytes((2**63).to_bytes(8, "little") + b"{")
    with pytest.raises(WeightsMismatchError):
        read_state_dict(path)


def test_pipes_are_not_waited_for(saved, tmp_path):
    os.mkfifo(tmp_path / "w.pt")
    with pytest.raises(WeightsMismatchError, match="pipe"):
        read_state_dict(tmp_path / "w.pt")
    with pytest.raises(WeightsMismatchError, match="pipe"):
        load_model(tmp_path / "w.pt")
    for name in ("config.json", "tokenizer.model", "model.safetensors"):
        folder = copy(saved, tmp_path / name.replace(".", "_"))
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(WeightsMismatchError, match="pipe"):
            load_model(folder)


# -- what is said ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.9, 0.999])
def test_our_own_checkpoint_cut_short_is_said_to_be_so(tmp_path, share):
    model = tiny()
    path = tmp_path / "cut.ckpt"
    torch.save(
        {META: model.description(), "state_dict": {f"model.{n}": t for n, t in model.state_dict().items()}}, path
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for read in (
        lambda: load_model(path),
        lambda: load_model(f"local:{path}"),
        lambda: load_model("control", weights=f"local:{path}"),
        lambda: run_convert([f"local:{path}", str(tmp_path / "out"), "--model", "control"]),
    ):
        with pytest.raises(WeightsMismatchError, match=r"cut\.ckpt \(\d+ bytes\) is truncated"):
            read()
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_weights(tmp_path):
    torch.save({META: tiny().description()}, tmp_path / "x.ckpt")
    with pytest.raises(WeightsMismatchError, match="no state_dict"):
        load_model(tmp_path / "x.ckpt")


def test_nothing_there():
    with pytest.raises(MissingWeightsError, match=r"gone\.ckpt"):
        rrsis_zoo.load_model("gone.ckpt")
