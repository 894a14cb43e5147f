import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from rrsis_zoo.models.layers.lora import LoRA, inject_lora, merged_state
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


class Mixed(nn.Module):
    """Every kind of layer that a method adapts, one inside an attention that reads its weight."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.point = nn.Conv2d(8, 6, 1, bias=False)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.linear = nn.Linear(6, 5)
        self.kept = nn.Linear(5, 5)

    def forward(self, x):
        x = self.point(self.conv(x)).flatten(2).transpose(1, 2)
        return self.kept(self.linear(x + self.attention(x, x, x)[0]))


TARGETS = r"conv|point|linear|attention\.out_proj"


def pair(dropout=0.0):
    """Return the same module with our adapters and with peft's, from the same random numbers."""
    torch.manual_seed(1)
    base = Mixed()
    ours, theirs = copy.deepcopy(base), copy.deepcopy(base)
    state = torch.get_rng_state()
    inject_lora(ours, LoRA(TARGETS, rank=4, alpha=6, dropout=dropout))
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    config = LoraConfig(r=4, lora_alpha=6, lora_dropout=dropout, target_modules=TARGETS, bias="none")
    inject_adapter_in_model(config, theirs)
    assert torch.equal(torch.get_rng_state(), after)
    return ours, theirs


def test_new_adapters_are_pefts():
    """Names, their order, values, what is trained, and how many random numbers were drawn."""
    ours, theirs = pair()
    expected = theirs.state_dict()
    assert list(ours.state_dict()) == list(expected)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert [n for n, p in ours.named_parameters() if p.requires_grad] == [n for n in expected if is_lora(n)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_and_gradients_are_pefts(dtype):
    ours, theirs = pair(dropout=0.3)
    x = torch.randn(2, 3, 8, 8).to(dtype)
    for model in (ours, theirs):
        torch.manual_seed(2)
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                nn.init.normal_(parameter)
        model.to(dtype)
    for training in (False, True):
        results = []
        for model in (ours, theirs):
            torch.manual_seed(3)
            model.train(training).zero_grad()
            out = model(x)
            out.square().sum().backward()
            gradients = [p.grad for p in model.parameters() if p.requires_grad and p.grad is not None]
            results.append([out, *gradients])
        assert len(results[0]) == len(results[1]) > 6
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_merged_weights_are_pefts():
    ours, theirs = pair()
    for name, parameter in ours.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(parameter)
    theirs.load_state_dict(ours.state_dict())
    merged = merged_state(ours)
    for name, layer in theirs.named_modules():
        if isinstance(layer, LoraLayer):
            expected = layer.get_base_layer().weight + layer.get_delta_weight("default")
            assert torch.equal(merged[f"{name}.weight"], expected), name


def test_other_layers_cannot_be_adapted():
    for layer in (nn.LayerNorm(4), nn.Conv2d(4, 4, 1, groups=2)):
        with pytest.raises(ValueError, match=r"not for (LayerNorm|Conv2d)"):
            inject_lora(nn.Sequential(layer), LoRA("0"))
