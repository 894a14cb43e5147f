"""What checkpoints, folders, adapters and tokenizers say of themselves is looked at before it is believed."""

import json
import shutil
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from rrsis_zoo.errors import ConfigError, RRSISError, WeightsMismatchError
from rrsis_zoo.loading import load_model
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.methods.rsrefseg2.model import RSRefSeg2
from rrsis_zoo.models.tokenizers import BEiT3Tokenizer, PieceTokenizer, SigLIP2Tokenizer, SigLIPTokenizer
from rrsis_zoo.pretrained.adapters import load_adapters, save_adapters
from rrsis_zoo.pretrained.whole import fill_model
from rrsis_zoo.weights.checkpoints import META

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


@pytest.fixture(scope="module")
def checkpoint():
    model = tiny()
    return {
        META: model.description(),
        "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
    }


def put(holder, where, value):
    """Set a dotted field, or delete it where the value is ``...``."""
    *outer, last = where.split(".")
    for name in outer:
        holder = holder[name]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value


FAULTS = [
    ("format", 99, "has format 99; this version reads format 1"),
    ("format", True, "format"),
    ("format", "1", "format"),
    ("format", 1.0, "format"),
    ("format", ..., "format"),
    ("model", "contrl", "unknown model 'contrl'.*did you mean 'control'"),
    ("model", 5, "model"),
    ("model", ..., "model"),
    ("config", [], "config"),
    ("config", ..., "config"),
    ("config.image_size", -1, "image_size"),
    ("config.image_size", 0, "image_size"),
    ("config.image_size", 10**9, "image_size"),
    ("config.image_size", True, "image_size"),
    ("config.image_size", "128", "image_size"),
    ("config.image_size", 128.9, "image_size"),
    ("config.image_size", None, "image_size"),
    ("config.max_length", -5, "max_length"),
    ("config.widths", [16, 32, -64, 96], r"widths\[2\]"),
    ("config.widths", [16, 32, 2.9, 96], r"widths\[2\]"),
    ("config.widths", [16, 32, True, 96], r"widths\[2\]"),
    ("config.widths", ["16", 32, 64, 96], r"widths\[0\]"),
    ("config.widths", [], "control"),
    ("config.widths", [16] * 3000, "3000 items"),
    ("config.sentence_width", 2**40, "sentence_width"),
    ("config.vocabulary", 2**62, "vocabulary"),
    ("config.bce_weight", float("nan"), "bce_weight"),
    ("config.backbone", "../../x", "no backbone"),
    ("config.backbone", "hf-hub:org/repo", "no backbone"),
    ("config.surprise", 1, "unknown setting"),
    ("tokenizer", 5, "tokenizer"),
    ("tokenizer", ..., "tokenizer"),
    ("tokenizer.max_length", -5, "max_length"),
    ("tokenizer.max_length", 2, "max_length"),
    ("tokenizer.max_length", 10**6, "reads at most 64"),
    ("tokenizer.max_length", "64", "max_length"),
    ("tokenizer.max_length", 2.9, "max_length"),
    ("tokenizer.max_length", True, "max_length"),
    ("tokenizer.max_length", ..., "max_length"),
    ("provenance", {"source": 5}, "provenance"),
]


@pytest.mark.parametrize(("where", "value", "words"), FAULTS)
def test_fields_of_folders(saved, tmp_path, where, value, words):
    folder = tmp_path / "m"
    shutil.copytree(saved, folder)
    said = json.loads((folder / "config.json").read_text())
    put(said, where, value)
    (folder / "config.json").write_text(json.dumps(said))
    began = time.process_time()
    with pytest.raises(RRSISError, match=words) as refused:
        load_model(folder)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(("where", "value", "words"), FAULTS)
def test_fields_of_checkpoints(checkpoint, tmp_path, where, value, words):
    said = dict(checkpoint[META])
    said |= {"config": dict(said["config"]), "tokenizer": dict(said["tokenizer"])}
    put(said, where, value)
    torch.save({**checkpoint, META: said}, tmp_path / "x.ckpt")
    with pytest.raises(RRSISError, match=words) as refused:
        load_model(tmp_path / "x.ckpt")
    assert "x.ckpt" in str(refused.value)


@pytest.mark.parametrize("value", [None, 5, [], "x", {"format": 1}, {}])
def test_descriptions_of_another_shape(checkpoint, tmp_path, value):
    torch.save({**checkpoint, META: value}, tmp_path / "x.ckpt")
    with pytest.raises(WeightsMismatchError, match=META):
        load_model(tmp_path / "x.ckpt")


@pytest.mark.parametrize("files", [None, 5, "model", [5], [["model"]], {"model": 1}, ["model", "../model"]])
def test_lists_of_tokenizer_files(saved, tmp_path, files):
    folder = tmp_path / "m"
    shutil.copytree(saved, folder)
    said = json.loads((folder / "config.json").read_text())
    said["tokenizer"]["files"] = files
    (folder / "config.json").write_text(json.dumps(said))
    with pytest.raises(WeightsMismatchError, match="files"):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "[" * 100_000, "\ud800", '{"library_name": "rrsis-zoo"}'])
def test_configs_that_are_none(saved, tmp_path, text):
    folder = tmp_path / "m"
    shutil.copytree(saved, folder)
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(WeightsMismatchError, match=r"config\.json"):
        load_model(folder)


def test_the_tokenizer_must_be_one_tensor_of_bytes(checkpoint, tmp_path):
    for value in (5, b"x", torch.ones(3), torch.zeros(0, dtype=torch.uint8), torch.zeros((2, 2), dtype=torch.uint8)):
        said = {**checkpoint[META], "tokenizer": {"model": value, "max_length": 64}}
        torch.save({**checkpoint, META: said}, tmp_path / "x.ckpt")
        with pytest.raises(RRSISError, match="tokenizer"):
            load_model(tmp_path / "x.ckpt")


def test_settings_that_were_added_later_keep_their_defaults(tmp_path):
    """``loss.side`` of RSRefSeg 2 came after the first checkpoints."""
    model = tiny("rsrefseg2")
    model.save_pretrained(tmp_path / "m")
    said = json.loads((tmp_path / "m" / "config.json").read_text())
    del said["config"]["loss"]["side"]
    (tmp_path / "m" / "config.json").write_text(json.dumps(said))
    assert load_model(tmp_path / "m").config == model.config
    fill_model(tiny("rsrefseg2"), f"local:{tmp_path / 'm'}")
    assert load_model("rsrefseg2", weights=f"local:{tmp_path / 'm'}", preset="tiny").config == model.config
    with pytest.raises(ConfigError, match=r"loss\.side"):
        fill_model(tiny("rsrefseg2", loss={"side": 32}), f"local:{tmp_path / 'm'}")


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("format", 99, "has format 99"),
        ("format", ..., "format"),
        ("model", "control", "holds adapters of control"),
        ("model", 5, "model"),
        ("config", 5, "config"),
        ("config.sam.image_size", -1, "image_size"),
        ("config.surprise", -1, "unknown setting"),
        ("base_sha256", 5, "base_sha256"),
        ("base_sha256", ..., "base_sha256"),
    ],
)
def test_fields_of_adapters(tmp_path, where, value, words):
    model = tiny("rsrefseg", adapt="lora")
    path = tmp_path / "a.safetensors"
    save_adapters(model, path)
    with safe_open(path, framework="pt") as file:
        said = json.loads(file.metadata()["rrsis_adapters"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    put(said, where, value)
    save_file(tensors, path, metadata={"rrsis_adapters": json.dumps(said)})
    with pytest.raises(RRSISError, match=words):
        load_adapters(model, path)
    save_file(tensors, path, metadata={"rrsis_adapters": "[" * 50_000})
    with pytest.raises(WeightsMismatchError, match="rrsis_adapters"):
        load_adapters(model, path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 5}}', "[" * 50_000])
def test_indices(tmp_path, text):
    from rrsis_zoo.weights.sources import read_index

    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(WeightsMismatchError, match=r"index\.json"):
        read_index(tmp_path / "model.safetensors.index.json")


# -- tokenizers --------------------------------------------------------------------------------------------------------

KINDS = [SigLIPTokenizer, SigLIP2Tokenizer, BEiT3Tokenizer, PieceTokenizer]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 50, b"{}", b"[" * 5000, b"\xff" * 100])
def test_files_that_are_no_tokenizers(kind, content, tmp_path):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(ConfigError, match="tokenizer file"):
        kind.from_file(tmp_path / "t", 16)


@pytest.mark.parametrize("kind", KINDS)
def test_lone_surrogates_are_read(kind):
    tokenizer = kind.from_expressions(EXPRESSIONS, 60, 16)
    assert tokenizer(["the ship \ud800"], "independent").ids.equal(tokenizer(["the ship ?"], "independent").ids)


def test_ids_beyond_the_table_are_refused():
    """The pieces are few, but one of them has a large id."""
    said = json.loads(SigLIP2Tokenizer.from_expressions(EXPRESSIONS, 60, 16).model)
    said["model"]["vocab"]["ship" * 3] = 900_000
    tokenizer = SigLIP2Tokenizer(json.dumps(said).encode(), 16)
    assert tokenizer.vocabulary_size == 900_001
    with pytest.raises(ConfigError, match="900001 pieces, but the token table of rsrefseg2 has 512 rows"):
        RSRefSeg2.from_preset("tiny").tokenizer = tokenizer


def test_a_panic_of_the_tokenizers_library_is_our_error(monkeypatch):
    from rrsis_zoo.models import tokenizers

    panic = type("PanicException", (BaseException,), {})

    class Library:
        @staticmethod
        def from_buffer(model):
            raise panic("index out of bounds")

    monkeypatch.setattr(tokenizers.tokenizers, "Tokenizer", Library)
    with pytest.raises(ConfigError, match=r"not a tokenizer\.json.*index out of bounds"):
        SigLIP2Tokenizer(b"{}", 16)


@pytest.mark.parametrize("targets", ["(a+)+$", "(", "a*b*c*d*e*f*g*h*", "x" * 501])
def test_patterns_of_adapters_are_quick(targets):
    with pytest.raises(ConfigError, match=r"vision_lora\.targets"):
        method_named("rsrefseg").model().from_preset("tiny", vision_lora={"targets": targets})


def test_models_too_large_are_not_built():
    began = time.process_time()
    with pytest.raises(ConfigError, match="too many for any file"):
        method_named("rsrefseg").model().from_preset("tiny", sam={"width": 2**18, "mlp_width": 2**18, "depth": 12})
    assert time.process_time() - began < 5


def test_settings_that_do_not_go_together_are_one_line():
    with pytest.raises(ConfigError, match="rsrefseg cannot be built with these settings") as refused:
        method_named("rsrefseg").model().from_preset("tiny", siglip={"vision_heads": 7})
    assert "\n" not in str(refused.value)
