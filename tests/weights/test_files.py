import argparse
import json
import os
import pickle
import re
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rrsis_zoo.errors import MissingWeightsError, RRSISError, WeightsMismatchError
from rrsis_zoo.weights.files import read_state_dict


def tensors():
    return {
        "a.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "a.half": torch.tensor([0.5, -2.0], dtype=torch.bfloat16),
        "n": torch.tensor(3),
    }


def same(state, expected):
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert state[name].dtype == tensor.dtype
        assert not state[name].requires_grad
        assert torch.equal(state[name], tensor.detach())
    return True


WRITERS = {
    "safetensors": save_file,
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize(
    ("writer", "name"),
    [("safetensors", "w.safetensors"), *((writer, name) for writer in WRITERS for name in ("w.bin", "w"))],
)
def test_formats_are_told_from_the_content(tmp_path, writer, name):
    WRITERS[writer](tensors(), tmp_path / name)
    assert same(read_state_dict(tmp_path / name), tensors())


@pytest.mark.parametrize("length", [0x80, 0x4B50])
def test_safetensors_whose_header_length_looks_like_another_format(tmp_path, length):
    # The first bytes of a safetensors file are a length, here those of a pickle and those of a zip archive.
    path = tmp_path / "w.bin"
    save_file({"a": torch.ones(2)}, path)
    raw = path.read_bytes()
    header = raw[8 : 8 + int.from_bytes(raw[:8], "little")]
    path.write_bytes(length.to_bytes(8, "little") + header.ljust(length) + raw[8 + len(header) :])
    assert same(read_state_dict(path), {"a": torch.ones(2)})


@pytest.mark.parametrize("writer", ["zip", "legacy"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3, "hyper_parameters": {"lr": 1.0}, "optimizer_states": [{"state": {}}]},
        lambda s: {"module": OrderedDict(s), "dp_world_size": 1},
        lambda s: {"model": s},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {f"module.{name}": tensor for name, tensor in s.items()},
        lambda s: {"state_dict": {f"module.{name}": tensor for name, tensor in s.items()}},
        lambda s: {n: torch.nn.Parameter(t) if t.is_floating_point() else t for n, t in s.items()},
    ],
)
def test_wrappers_and_prefix(tmp_path, writer, wrap):
    WRITERS[writer](wrap(tensors()), tmp_path / "w.pt")
    assert same(read_state_dict(tmp_path / "w.pt"), tensors())


def test_a_prefix_that_not_all_names_share_stays(tmp_path):
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(state, tmp_path / "w.pt")
    assert same(read_state_dict(tmp_path / "w.pt"), state)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mapped files")
@pytest.mark.parametrize("writer", ["safetensors", "zip"])
def test_tensors_are_mapped_and_not_read(tmp_path, writer):
    path = tmp_path / "w"
    WRITERS[writer]({"a": torch.ones(1 << 20)}, path)
    state = read_state_dict(path)
    with open("/proc/self/maps") as maps:
        assert any(str(path) in line for line in maps)
    before = path.read_bytes()
    state["a"].zero_()  # writing to what was loaded must not reach the file
    assert path.read_bytes() == before


def test_shards(tmp_path):
    whole = tensors()
    save_file({"a.weight": whole["a.weight"]}, tmp_path / "s-1.safetensors")
    save_file({"a.half": whole["a.half"], "n": whole["n"]}, tmp_path / "s-2.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    places = {"a.weight": "s-1.safetensors", "a.half": "s-2.safetensors", "n": "s-2.safetensors"}
    index.write_text(json.dumps({"weight_map": places}))
    assert same(read_state_dict(index), whole)

    index.write_text(json.dumps({"weight_map": places | {"n": "s-1.safetensors"}}))
    with pytest.raises(WeightsMismatchError, match=r"s-1\.safetensors does not match model\..* the first is n"):
        read_state_dict(index)
    index.write_text(json.dumps({"weight_map": places | {"n": "s-3.safetensors"}}))
    with pytest.raises(MissingWeightsError, match=r"s-3\.safetensors must be in the folder of"):
        read_state_dict(index)


def fault(path, words, kind=WeightsMismatchError):
    with pytest.raises(kind, match=words) as error:
        read_state_dict(path)
    assert isinstance(error.value, RRSISError)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("writer", WRITERS)
def test_truncated_files(tmp_path, writer):
    path = tmp_path / "w.part"
    WRITERS[writer]({"a": torch.ones(1000)}, path)
    whole = path.read_bytes()
    for size in (1, 9, 20, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        fault(path, f"{size} of at least|\\({size} bytes\\)|its {size} bytes")


def test_truncated_safetensors_says_how_much_is_missing(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(1000), "b": torch.ones(3)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    fault(path, f"is truncated: it has {len(whole) - 5} of at least {len(whole)} bytes")
    path.write_bytes(whole + b"x")
    fault(path, rf"\({len(whole) + 1} bytes\) is not a safetensors file")


def test_empty_and_absent_files(tmp_path):
    (tmp_path / "w.pt").touch()
    fault(tmp_path / "w.pt", r"is empty \(0 bytes\)")
    fault(tmp_path / "gone.pt", "there is no weight file", MissingWeightsError)
    fault(tmp_path, "there is no weight file", MissingWeightsError)


def test_what_is_no_weight_file(tmp_path):
    path = tmp_path / "w.pt"
    path.write_bytes(b"<!doctype html><html>Not found</html>")
    fault(path, r"\(37 bytes\) is neither a safetensors nor a torch file: it starts with b'<!doctype")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    fault(path, "Git LFS pointer of 64 bytes")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    fault(path, "not a torch file of weights")
    torch.save({"a": torch.ones(1)}, tmp_path / "w.safetensors")
    fault(tmp_path / "w.safetensors", "is not a safetensors file")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", ["zip", "legacy", "pickle"])
def test_code_in_a_pickle_never_runs(tmp_path, writer):
    trace = tmp_path / "it-ran"
    content = {"state_dict": {"a": torch.ones(1)}, "callback": Malicious(trace)}
    path = tmp_path / "w.pt"
    if writer == "pickle":
        path.write_bytes(pickle.dumps({"a": Malicious(trace)}, protocol=2))
        pickle.loads(path.read_bytes())  # the attack works where nobody guards
    else:
        WRITERS[writer](content, path)
        torch.load(path, weights_only=False)
    assert trace.is_dir()
    trace.rmdir()
    fault(path, r"holds (posix|nt)\.mkdir, not only tensors")
    assert not trace.exists()


def test_harmless_objects_are_named_too(tmp_path):
    torch.save({"model": tensors(), "args": types.SimpleNamespace(lr=1)}, tmp_path / "w.pt")
    fault(tmp_path / "w.pt", r"holds types\.SimpleNamespace")


def test_a_programs_options_are_read_as_plain_values(tmp_path):
    """Training programs keep an ``argparse.Namespace`` beside the weights; what is in it is examined like the rest."""
    options = argparse.Namespace(lr=1, path="a/b", sizes=[1, 2], inner=argparse.Namespace(deep=None))
    torch.save({"model": tensors(), "args": options}, tmp_path / "w.pt")
    assert read_state_dict(tmp_path / "w.pt").keys() == tensors().keys()
    options.inner.deep = types.SimpleNamespace()
    torch.save({"model": tensors(), "args": options}, tmp_path / "w.pt")
    fault(tmp_path / "w.pt", r"holds types\.SimpleNamespace")


def test_further_state_dicts_are_joined_on_request(tmp_path):
    torch.save({"model": {"a": torch.ones(1)}, "bert_model": {"module.b": torch.zeros(2)}}, tmp_path / "w.pt")
    assert [*read_state_dict(tmp_path / "w.pt")] == ["a"]
    assert [*read_state_dict(tmp_path / "w.pt", {"bert_model": "text.", "other": "x."})] == ["a", "text.b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.ones(1)], "holds a list, not a state dict"),
        (torch.ones(1), "holds a Tensor, not a state dict"),
        ({}, "holds an empty state dict"),
        ({"state_dict": {}}, "holds an empty state dict"),
        ({"a": torch.ones(1), "epoch": 3}, r"1 of its 2 entries are not named tensors \(epoch\)"),
        ({"weights": {"a": torch.ones(1)}}, r"\(weights\), and it has none under state_dict, module, model"),
        ({0: torch.ones(1)}, r"not named tensors \(0\)"),
        ({"model": {"a": torch.ones(1)}, "state_dict": {"a": torch.ones(1)}}, "several state dicts"),
    ],
)
def test_files_without_one_state_dict(tmp_path, content, words):
    torch.save(content, tmp_path / "w.pt")
    fault(tmp_path / "w.pt", re.compile(words))
