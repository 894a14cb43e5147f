import pytest
import torch
from torch import nn

from rrsis_zoo.models.layers.lora import LoRA, inject_lora
from rrsis_zoo.weights.wrappers import is_lora


def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))


def test_starts_as_the_base_and_trains_only_adapters():
    base, x = net(), torch.randn(2, 3, 8, 8)
    before = base(x)
    inject_lora(base, LoRA("0|2", rank=4, dropout=0.0))
    torch.testing.assert_close(base(x), before)
    trained = {name for name, p in base.named_parameters() if p.requires_grad}
    assert trained == {f"{layer}.lora_{ab}.default.weight" for layer in "02" for ab in "AB"}
    assert all(is_lora(name) for name in trained)
    shapes = {name: tuple(p.shape) for name, p in base.named_parameters() if is_lora(name)}
    assert shapes["0.lora_A.default.weight"] == (4, 3, 3, 3)
    assert shapes["0.lora_B.default.weight"] == (8, 4, 1, 1)


def test_adapter_is_what_it_says():
    """Output = base + alpha / rank · B A x."""
    layer = nn.Sequential(nn.Linear(6, 5))
    inject_lora(layer, LoRA("0", rank=2, alpha=6, dropout=0.0))
    named = dict(layer.named_parameters())
    a, b = named["0.lora_A.default.weight"], named["0.lora_B.default.weight"]
    nn.init.normal_(b)
    x = torch.randn(3, 6)
    base = x @ named["0.base_layer.weight"].T + named["0.base_layer.bias"]
    torch.testing.assert_close(layer(x), base + 3 * (x @ a.T) @ b.T)


def test_nothing_to_adapt_is_an_error():
    with pytest.raises(ValueError, match="arget"):
        inject_lora(net(), LoRA("nowhere"))
