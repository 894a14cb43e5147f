"""Levers on memory: blocks that are recomputed, frozen weights in half precision. The numbers stay."""

import copy
import io

import contract
import pytest
import torch

from kinds import TRAINED
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.models.recomputing import blocks_of, recompute

FROZEN = ("rsrefseg", "rsrefseg2", "rs2sam2", "evisam3")
"""Methods with frozen encoders."""


def gradients(model, context=None):
    torch.manual_seed(3)
    batch = contract.batch()
    model.zero_grad()
    with context or torch.autocast("cpu", enabled=False):
        loss = model.loss(model(batch, "published"), batch)["loss"]
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def equal(a, b):
    assert a[0].equal(b[0])
    assert a[1].keys() == b[1].keys()
    assert all(value.equal(b[1][name]) for name, value in a[1].items())


@pytest.mark.parametrize("method", [name for name in TRAINED if name != "control"])
def test_recomputing_changes_nothing(method):
    expected, kept = None, []
    for on in (False, True, ["*"]):
        model = contract.build(lambda: method_named(method).model().from_preset("tiny")).train()
        names = list(model.state_dict())
        model.use_checkpointing(on)
        assert list(model.state_dict()) == names
        seen = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, seen=seen: seen.append(x.numel()) or x, lambda x: x):
            found = gradients(model)
        kept.append(sum(seen))
        expected = expected or found
        equal(found, expected)
    assert kept[1] < kept[0]
    assert kept[2] < kept[0]


def test_chosen_blocks():
    model = contract.build(lambda: method_named("rsrefseg").model().from_preset("tiny")).train()
    blocks = blocks_of(model)
    assert {"sam.image_encoder.blocks.0", "siglip.vision_model.encoder.layers.1"} <= blocks.keys()
    model.use_checkpointing(["sam.image_encoder.blocks.*"])
    on = {name for name, block in blocks.items() if "forward" in block.__dict__}
    assert on == {name for name in blocks if name.startswith("sam.image_encoder.")}
    model.use_checkpointing(False)
    assert not any("forward" in block.__dict__ for block in blocks.values())
    with pytest.raises(ConfigError, match=r"'sam\.encoder\.\*' names no block of rsrefseg; there are: sam\.image_enc"):
        model.use_checkpointing(["sam.encoder.*"])
    with pytest.raises(ConfigError, match=r"names no block of control; there are: none"):
        method_named("control").model().from_preset("tiny").use_checkpointing(["x"])


def test_a_copy_has_its_own_blocks():
    block = torch.nn.Linear(2, 2)
    recompute(block, True)
    other = copy.deepcopy(block)
    with torch.no_grad():
        block.weight.zero_()
    x = torch.ones(1, 2)
    assert other(x).equal(torch.nn.functional.linear(x, other.weight, other.bias))
    assert not other(x).equal(block(x))


@pytest.mark.parametrize("method", FROZEN)
def test_frozen_weights_in_bfloat16_change_nothing_under_autocast(method):
    def made():
        return contract.build(lambda: method_named(method).model().from_preset("mini")).train()

    expected = gradients(made(), torch.autocast("cpu", torch.bfloat16))
    model = made()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bytes_before = sum(p.numel() * p.element_size() for p in model.parameters())
    model.store_frozen(torch.bfloat16)
    assert sum(p.numel() * p.element_size() for p in model.parameters()) < bytes_before
    stored = {name for name, p in model.named_parameters() if p.dtype == torch.bfloat16}
    assert stored == model.stored_frozen
    assert not any(dict(model.named_parameters())[name].requires_grad for name in stored)
    equal(gradients(model, torch.autocast("cpu", torch.bfloat16)), expected)

    state = model.state_dict()  # files keep their form
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}
    for name, tensor in state.items():
        assert (
            tensor.equal(before[name].bfloat16().float() if name in stored else before[name])
            or "running_" in name
            or ("num_batches" in name)
        )
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    made().load_state_dict(torch.load(file, weights_only=True))
