from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from rrsis_zoo.errors import WeightsMismatchError
from rrsis_zoo.weights import load
from rrsis_zoo.weights.load import fill_module
from rrsis_zoo.weights.skeleton import without_weights


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2)
        self.norm = nn.BatchNorm2d(4)  # has buffers, one of them an integer
        self.head = nn.Linear(4, 2)
        self.register_buffer("table", torch.zeros(5), persistent=False)


def values(module, seed=0):
    """A state dict of the module's names with other values."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(t.shape, generator=generator, dtype=torch.float64).mul(9).to(t.dtype)
        for name, t in module.state_dict().items()
    }


def snapshot(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def unchanged(module, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def refuse(module, state, *words, error=WeightsMismatchError, **kwargs):
    """The load must fail with all these words in one sentence and write nothing."""
    before = snapshot(module)
    with pytest.raises(error) as caught:
        fill_module(module, state, what="net from x.pt", **kwargs)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
    assert unchanged(module, before)


def test_everything_is_copied_in_place():
    net = Net()
    state = values(net)
    places = {name: (tensor, tensor.data_ptr()) for name, tensor in net.state_dict(keep_vars=True).items()}
    net.head.weight.requires_grad_(False)
    report = fill_module(net, state, what="net")
    assert set(report.loaded) == set(state)
    assert (report.missing, report.skipped) == ((), {})
    for name, tensor in net.state_dict(keep_vars=True).items():
        assert torch.equal(tensor, state[name])
        assert tensor is places[name][0]
        assert tensor.data_ptr() == places[name][1]
        assert tensor.grad_fn is None
    assert net.conv.weight.requires_grad
    assert not net.head.weight.requires_grad


def test_the_module_keeps_its_dtypes():
    net = Net().to(torch.bfloat16)
    state = {name: t.double() if t.is_floating_point() else t.int() for name, t in values(Net()).items()}
    fill_module(net, state, what="net")
    assert net.conv.weight.dtype == torch.bfloat16
    assert torch.equal(net.conv.weight, state["conv.weight"].bfloat16())
    assert net.norm.num_batches_tracked.dtype == torch.int64


def test_one_wrong_name():
    net = Net()
    state = values(net)
    state["head.wieght"] = state.pop("head.weight")
    refuse(net, state, "net from x.pt does not fit Net", "1 missing: head.weight", "1 unexpected: head.wieght")


def test_one_wrong_shape_names_both():
    net = Net()
    # Of the same number of elements, and one that would broadcast.
    refuse(
        net, values(net) | {"head.weight": torch.ones(4, 2)}, "head.weight ((4, 2) in the file, (2, 4) in the module)"
    )
    refuse(net, values(net) | {"head.bias": torch.ones(1)}, "1 wrongly shaped: head.bias ((1,) in the file, (2,)")
    refuse(net, values(net) | {"norm.num_batches_tracked": torch.tensor([1])}, "((1,) in the file, () in the module)")


def test_all_faults_come_in_one_error():
    net = Net()
    state = values(net) | {"extra": torch.ones(1), "head.weight": torch.ones(1, 1)}
    del state["conv.bias"]
    refuse(net, state, "1 missing: conv.bias;", "1 unexpected: extra;", "1 wrongly shaped: head.weight")


def test_long_lists_are_cut_with_their_count():
    net = nn.Linear(1, 1)
    refuse(net, values(net) | {f"x{i}": torch.ones(1) for i in range(20)}, "20 unexpected: x0, x1, ", "x7, ...")


def test_an_empty_state_is_all_missing():
    refuse(nn.Linear(1, 1), {}, "2 missing: weight, bias")


def test_numbers_of_another_kind():
    net = Net()
    refuse(
        net, values(net) | {"norm.num_batches_tracked": torch.tensor(1.5)}, "another kind of number: norm.num_batches"
    )
    refuse(net, values(net) | {"head.bias": torch.tensor([1, 2])}, "head.bias (torch.int64 in the file, torch.float32")
    refuse(net, values(net) | {"head.bias": torch.ones(2, dtype=torch.complex64)}, "torch.complex64")


def test_rename_and_skip():
    net = nn.Linear(2, 2)
    state = {"old.w": torch.ones(2, 2), "old.b": torch.ones(2), "other.x": torch.ones(9)}
    names = {"old.w": "weight", "old.b": "bias"}
    report = fill_module(net, state, what="net", rename=names.get)
    assert torch.equal(net.weight, torch.ones(2, 2))
    assert report.skipped == {"not ours": 1}
    refuse(net, state, "1 unexpected: other.x (as y)", rename=(names | {"other.x": "y"}).get)
    refuse(net, state, "other.x (as bias, which another entry fills)", rename=(names | {"other.x": "bias"}).get)


@pytest.mark.parametrize("allowed", [("norm.running_*", "*.num_batches_tracked"), lambda n: n in NORM])
def test_what_may_be_missing(allowed):
    net = Net()
    state = {name: tensor for name, tensor in values(net).items() if name not in NORM}
    before = snapshot(net)
    assert set(fill_module(net, state, what="net", may_be_missing=allowed).missing) == NORM
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in NORM)
    del state["head.bias"]
    refuse(net, state, "1 missing: head.bias", may_be_missing=allowed)


NORM = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}


def test_what_may_be_missing_is_still_loaded_and_checked():
    net = Net()
    state = values(net)
    fill_module(net, state, what="net", may_be_missing=("norm.*",))
    assert torch.equal(net.norm.running_mean, state["norm.running_mean"])
    refuse(net, values(net, 1) | {"norm.running_mean": torch.ones(3)}, "wrongly shaped", may_be_missing=("norm.*",))


def test_a_lone_pattern_is_refused():
    refuse(Net(), values(Net()), "'norm.*'", error=TypeError, may_be_missing="norm.*")


def test_ignored_entries_are_counted_by_reason():
    net = nn.Linear(1, 1)
    state = values(net) | {"a.position_ids": torch.ones(1), "b.position_ids": torch.ones(1), "old": torch.ones(1)}
    ignore = {"*.position_ids": "computed", "old": "not used by the method"}
    report = fill_module(net, state, what="net", ignore=ignore)
    assert report.skipped == {"computed": 2, "not used by the method": 1}
    refuse(net, state, "1 unexpected: old", ignore={"*.position_ids": "computed"})


def test_non_persistent_buffers_have_no_place():
    refuse(Net(), values(Net()) | {"table": torch.ones(5)}, "1 unexpected: table")


def tied():
    net = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 3, bias=False))
    net[1].weight = net[0].weight
    return net


def test_tied_weights():
    one, two = torch.ones(3, 2), torch.zeros(3, 2)
    for state in ({"0.weight": one}, {"1.weight": one}, {"0.weight": one, "1.weight": one.clone()}):
        net = tied()
        fill_module(net, state, what="net")
        assert torch.equal(net[1].weight, one)
    refuse(
        tied(), {"0.weight": one, "1.weight": two}, "1 in conflict: 1.weight (tied to 0.weight, whose entry differs)"
    )


# -- memory ----------------------------------------------------------------------------------------------------------


def test_modules_without_weights_get_memory_of_their_own():
    with without_weights():
        net = Net()
        net.head.weight.requires_grad_(False)
    assert net.conv.weight.is_meta
    state = values(Net())
    fill_module(net, state, what="net")
    for name, tensor in net.state_dict(keep_vars=True).items():
        assert torch.equal(tensor, state[name])
        assert tensor.data_ptr() != state[name].data_ptr()
    assert isinstance(net.conv.weight, nn.Parameter)
    assert (net.conv.weight.requires_grad, net.head.weight.requires_grad) == (True, False)
    net.norm(net.conv(torch.zeros(1, 3, 4, 4))).sum().backward()


def test_modules_without_weights_may_share_the_states_memory():
    with without_weights():
        net = Net()
    state = values(Net())
    state["head.weight"] = state["head.weight"].to(torch.bfloat16)  # of another dtype: a copy
    fill_module(net, state, what="net", share=True)
    assert net.conv.weight.data_ptr() == state["conv.weight"].data_ptr()
    assert net.head.weight.dtype == torch.float32
    assert torch.equal(net.head.weight, state["head.weight"].float())


def test_tied_weights_stay_tied_without_weights():
    for share in (True, False):
        with without_weights():
            net = tied()
        fill_module(net, {"1.weight": torch.ones(3, 2)}, what="net", share=share)
        assert net[0].weight is net[1].weight
        assert net[0].weight.sum() == 6


def test_a_place_without_values_is_refused():
    with without_weights():
        net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="bias is on the meta device and has no entry"):
        fill_module(net, {"weight": torch.ones(2, 2)}, what="net", may_be_missing=["bias"])


@pytest.mark.parametrize("limit", [1, 30, 10**9])
@pytest.mark.parametrize("empty", [True, False])
def test_a_state_that_is_opened_is_read_in_parts(monkeypatch, limit, empty):
    """Large tensors by rows, small ones one after the other; the file is opened anew in between."""
    monkeypatch.setattr(load, "_PART", limit)
    state, opened = values(Net()), []

    def reopen():
        opened.append(True)
        return {name: tensor.double() if name == "conv.weight" else tensor for name, tensor in state.items()}

    with without_weights() if empty else nullcontext():
        net = Net()
    fill_module(net, reopen, what="net")
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert len(opened) > 5 if limit < 100 else len(opened) == 2


def test_buffers_and_what_is_computed_stay_real():
    class WithTable(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))
            self.register_buffer("table", torch.arange(3), persistent=False)

    with without_weights():
        net = WithTable()
    assert net.table.tolist() == [0, 1, 2]
    assert net.weight.is_meta
    assert not WithTable().weight.is_meta


# -- LoRA ------------------------------------------------------------------------------------------------------------


def adapted():
    net = nn.ModuleDict({"q": nn.Linear(3, 3), "conv": nn.Conv2d(2, 2, 1), "v": nn.Linear(3, 3)})
    return inject_adapter_in_model(LoraConfig(r=2, target_modules=["q", "conv"]), net)


def test_weights_of_before_the_adaptation_go_to_the_wrapped_layers():
    net = adapted()
    plain = values(nn.ModuleDict({"q": nn.Linear(3, 3), "conv": nn.Conv2d(2, 2, 1), "v": nn.Linear(3, 3)}))
    before = snapshot(net)
    report = fill_module(net, plain, what="net")
    after = net.state_dict()
    for name in ("q", "conv"):
        for leaf in ("weight", "bias"):
            assert torch.equal(after[f"{name}.base_layer.{leaf}"], plain[f"{name}.{leaf}"])
        assert torch.equal(after[f"{name}.lora_A.default.weight"], before[f"{name}.lora_A.default.weight"])
    assert torch.equal(after["v.weight"], plain["v.weight"])
    assert len(report.missing) == 4
    assert all("lora_" in name for name in report.missing)


def test_weights_of_after_the_adaptation_must_be_complete():
    net = adapted()
    state = values(net)
    fill_module(net, state, what="net")
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    del state["q.lora_B.default.weight"]
    refuse(net, state, "1 missing: q.lora_B.default.weight")


def test_base_weights_of_an_adapted_layer_may_not_be_missing():
    plain = values(nn.ModuleDict({"q": nn.Linear(3, 3), "conv": nn.Conv2d(2, 2, 1), "v": nn.Linear(3, 3)}))
    del plain["q.weight"]
    refuse(adapted(), plain, "1 missing: q.base_layer.weight")
    refuse(adapted(), plain | {"q.weight": torch.ones(2, 3)}, "q.base_layer.weight ((2, 3) in the file, (3, 3)")


def test_both_names_of_one_wrapped_layer_are_a_conflict():
    net = adapted()
    state = values(net) | {"q.weight": torch.ones(3, 3)}
    refuse(net, state, "q.weight (as q.base_layer.weight, which another entry fills)")


def test_a_name_of_its_own_comes_before_the_wrapped_one():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))
            self.base_layer = nn.Linear(2, 2, bias=False)

    net = Both()
    fill_module(net, {"weight": torch.ones(2), "base_layer.weight": torch.full((2, 2), 3.0)}, what="net")
    assert net.weight.tolist() == [1, 1]
    assert net.base_layer.weight[0].tolist() == [3, 3]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2])
@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize("share", [True, False])
def test_weights_that_are_not_finite_are_named(value, dtype, empty, share):
    """What a training leaves that diverged; nothing is written."""
    source = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    state = {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
    state["0.weight"] = state["0.weight"].to(dtype)
    state["0.weight"][1, 2] = value
    with without_weights() if empty else nullcontext():
        net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    before = {name: None if tensor.is_meta else tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(WeightsMismatchError, match=r"net: 1 of 7 entries are not finite: 0\.weight; "):
        fill_module(net, state, what="net", share=share)
    for name, tensor in net.state_dict().items():
        assert tensor.is_meta if before[name] is None else tensor.equal(before[name])


def test_large_finite_weights_are_fine():
    state = {"weight": torch.full((3, 4), torch.finfo(torch.float32).max), "bias": torch.zeros(3)}
    fill_module(nn.Linear(4, 3), state, what="net")
