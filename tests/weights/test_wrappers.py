"""Names that torch.compile, FSDP and data parallel training leave in state dicts."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

from rrsis_zoo.errors import WeightsMismatchError
from rrsis_zoo.loading import load_model
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.pretrained.adapters import load_adapters, save_adapters
from rrsis_zoo.pretrained.whole import fill_model
from rrsis_zoo.weights.checkpoints import META, weights_hash
from rrsis_zoo.weights.files import read_state_dict
from rrsis_zoo.weights.load import fill_module
from rrsis_zoo.weights.wrappers import own_names

EXPRESSIONS = ["the red ship left of the pier", "a storage tank"] * 5


def tiny(method="control", **settings):
    model = method_named(method).model().from_preset("tiny", **settings)
    model.fit_tokenizer(EXPRESSIONS)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return tiny()


def compiled(model):
    """A model with a compiled part, as ``model.part = torch.compile(model.part)`` makes it."""
    model = copy.deepcopy(model)
    model.text = torch.compile(model.text, backend="eager")
    assert any("._orig_mod." in name for name in model.state_dict())
    return model


SPELLINGS = {
    "whole model": lambda name: f"model._orig_mod.{name}",
    "part": lambda name: f"model.{name.replace('text.', 'text._orig_mod.', 1)}",
    "whole module": lambda name: f"_orig_mod.model.{name}",
    "strategy": lambda name: f"_forward_module.model.{name}",
    "FSDP": lambda name: f"model._fsdp_wrapped_module.{name.replace('text.', 'text._fsdp_wrapped_module.')}",
    "data parallel": lambda name: f"module.model.{name}",
    "data parallel model": lambda name: f"model.module.{name}",
    "both": lambda name: f"module._orig_mod.model.module._orig_mod.{name}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_checkpoints(model, tmp_path, spelling):
    path = tmp_path / "x.ckpt"
    state = {SPELLINGS[spelling](name): tensor for name, tensor in model.state_dict().items()}
    torch.save({META: model.description(), "state_dict": state}, path)
    assert weights_hash(load_model(path)) == weights_hash(model)
    other = tiny()
    fill_model(other, f"local:{path}")
    assert weights_hash(other) == weights_hash(model)


@pytest.mark.parametrize(
    "spelling", ["_orig_mod.{}", "module.{}", "_fsdp_wrapped_module._orig_mod.{}", "module.module.{}"]
)
def test_state_dicts_and_folders(model, tmp_path, spelling):
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({spelling.format(name): tensor for name, tensor in load_file(path).items()}, path)
    assert read_state_dict(path).keys() == model.state_dict().keys()
    assert weights_hash(load_model(tmp_path)) == weights_hash(model)


def test_a_name_that_comes_twice_is_refused():
    with pytest.raises(WeightsMismatchError, match=r"has a\.b twice"):
        own_names({"a.b": 1, "a._orig_mod.b": 2})


def test_a_module_of_that_name_is_kept():
    assert own_names({"module.a": 1, "b": 2}) == {"module.a": 1, "b": 2}


@pytest.mark.parametrize("whole", [True, False])
def test_compiled_models_are_saved_under_clean_names(model, tmp_path, whole):
    ours = torch.compile(model, backend="eager") if whole else compiled(model)
    ours.save_pretrained(tmp_path / "m")
    assert not any("_orig_mod" in name for name in load_file(tmp_path / "m" / "model.safetensors"))
    assert weights_hash(load_model(tmp_path / "m")) == weights_hash(model) == weights_hash(ours)


def test_compiled_models_are_filled(model, tmp_path):
    model.save_pretrained(tmp_path)
    other = compiled(tiny())
    fill_model(other, f"local:{tmp_path}")
    assert weights_hash(other) == weights_hash(model)
    third = compiled(tiny())
    fill_module(third, other.state_dict(), what="a compiled model's state")
    assert weights_hash(third) == weights_hash(model)


def test_adapters_of_compiled_models(tmp_path):
    model = tiny("rsrefseg", adapt="lora")
    other = copy.deepcopy(model)
    other.prompter = torch.compile(other.prompter, backend="eager")
    save_adapters(other, tmp_path / "a.safetensors")
    assert not any("_orig_mod" in name for name in load_file(tmp_path / "a.safetensors"))
    for target in (model, other):
        assert load_adapters(target, tmp_path / "a.safetensors").loaded
