"""Adapters merged, saved alone, and loaded on a base."""

import pytest
import torch
from safetensors import safe_open
from torch import nn

from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.loading import load_model
from rrsis_zoo.methods.control.model import Control
from rrsis_zoo.methods.rsrefseg.model import RSRefSeg
from rrsis_zoo.methods.rsrefseg2.model import RSRefSeg2
from rrsis_zoo.models.layers.lora import LoRA, inject_lora, merged_state
from rrsis_zoo.models.types import Batch
from rrsis_zoo.pretrained.adapters import load_adapters, merged, save_adapters
from rrsis_zoo.weights.checkpoints import weights_hash
from rrsis_zoo.weights.wrappers import is_lora

EXPRESSIONS = ["the red ship left of the pier", "a storage tank", "the tennis court at the bottom"] * 5


def adapted(seed=0, kind=RSRefSeg, **settings):
    """A tiny model as training leaves it: no adapter is zero any more, and the norms have seen something."""
    torch.manual_seed(1)
    model = kind.from_preset("tiny", adapt="lora", **settings)
    model.fit_tokenizer(EXPRESSIONS)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_lora(name):
                parameter.normal_(std=0.2)
            elif parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.add_(0.1 * torch.rand_like(buffer))
    return model.eval()


def logits(model):
    images = [torch.randint(0, 256, (3, 100, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))]
    with torch.no_grad():
        return model(Batch(images, EXPRESSIONS[:2], torch.tensor([0, 0]))).mask_logits


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(7, 5),
        nn.Linear(7, 5, bias=False),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, 1),
        nn.Conv2d(4, 6, (3, 1), padding=(1, 0), bias=False),
    ],
    ids=str,
)
def test_a_merged_layer_computes_the_same(layer):
    net = nn.Sequential(layer)
    x = torch.randn(3, 7) if isinstance(layer, nn.Linear) else torch.randn(3, 4, 9, 8)
    plain = nn.Sequential(type(layer)(**_arguments(layer)))
    inject_lora(net, LoRA("0", rank=3, alpha=6))
    nn.init.normal_(net.get_parameter("0.lora_B.default.weight"))
    net.eval()
    plain.load_state_dict(merged_state(net))
    difference = (plain(x) - net(x)).abs().max()
    assert difference < 1e-5
    assert (net[0].base_layer(x) - net(x)).abs().max() > 0.1  # the adapter does something


def _arguments(layer):
    if isinstance(layer, nn.Linear):
        return {"in_features": layer.in_features, "out_features": layer.out_features, "bias": layer.bias is not None}
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding")
    return {name: getattr(layer, name) for name in names} | {"bias": layer.bias is not None}


@pytest.mark.parametrize("kind", [RSRefSeg, RSRefSeg2])
def test_a_merged_model_computes_the_same(kind):
    model = adapted(kind=kind)
    before = weights_hash(model)
    plain = merged(model)
    assert not any(is_lora(name) or "base_layer" in name for name in plain.state_dict())
    assert plain.config.adapt == "full"
    assert (logits(plain) - logits(model)).abs().max() < 1e-5
    bare = adapted(kind=kind)
    with torch.no_grad():
        for name, parameter in bare.named_parameters():
            if ".lora_B." in name:
                parameter.zero_()
    assert (logits(bare) - logits(model)).abs().max() > 1e-2
    assert weights_hash(model) == before


def test_a_merged_model_is_saved_and_loaded(tmp_path):
    plain = merged(adapted())
    plain.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert weights_hash(again) == weights_hash(plain)
    torch.testing.assert_close(logits(again), logits(plain), atol=1e-6, rtol=0)  # the last bit: mapped, not aligned


def test_nothing_to_merge():
    for model in (Control.from_preset("tiny"), RSRefSeg.from_preset("tiny")):
        for call in (merged, lambda m: save_adapters(m, "x.safetensors"), lambda m: load_adapters(m, "x.safetensors")):
            with pytest.raises(ConfigError, match="no low-rank adapters"):
                call(model)
    with pytest.raises(ValueError, match="no layer"):
        merged_state(nn.Linear(1, 1))


def test_adapters_alone(tmp_path):
    """The file holds what training changes and no foundation weight; on the same base it makes the same model."""
    trained = adapted(seed=5)
    path = tmp_path / "adapters.safetensors"
    save_adapters(trained, path)
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
    assert not any("base_layer" in name for name in names)
    assert {n for n in trained.state_dict() if is_lora(n)} < names
    assert {"prompter.down_channel.conv.weight", "prompter.down_channel.bn.running_mean"} < names
    assert "siglip.text_model.embeddings.token_embedding.weight" not in names
    base = adapted(seed=6)
    assert not logits(base).equal(logits(trained))
    report = load_adapters(base, path)
    assert set(report.loaded) == names
    assert weights_hash(base) == weights_hash(trained)
    assert logits(base).equal(logits(trained))


def test_adapters_of_something_else_are_refused(tmp_path):
    path = tmp_path / "adapters.safetensors"
    save_adapters(adapted(), path)
    other = adapted()
    with torch.no_grad():
        other.siglip.text_model.embeddings.token_embedding.weight[3, 1] += 1
    before = weights_hash(other)
    with pytest.raises(WeightsMismatchError, match="was trained on other foundation weights"):
        load_adapters(other, path)
    assert weights_hash(other) == before
    with pytest.raises(ConfigError, match="another configuration"):
        load_adapters(adapted(vision_lora={"rank": 8}), path)
    model = adapted()
    model.save_pretrained(tmp_path / "m")
    with pytest.raises(WeightsMismatchError, match="not a file of adapters"):
        load_adapters(model, tmp_path / "m" / "model.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(WeightsMismatchError, match="is truncated"):
        load_adapters(model, path)
