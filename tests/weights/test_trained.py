"""Models stored without their foundation models' weights."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import rrsis_zoo
from kinds import MINIATURES
from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.methods.registry import card, method_named
from rrsis_zoo.pretrained.conversion import to_folder, to_official
from rrsis_zoo.pretrained.foundations import fill_foundations
from rrsis_zoo.pretrained.trained import save_trained
from rrsis_zoo.pretrained.whole import fill_model


def trained(method):
    """A miniature whose trained parameters have moved a little from where a training starts."""
    model = method_named(method).model().from_preset("mini")
    fill_foundations(model, card(method).presets["mini"].weights)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.01 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "rsrefseg"
    model = trained("rsrefseg")
    save_trained(model, folder, card("rsrefseg").presets["mini"].weights, torch.float32)
    return model, folder


@pytest.mark.parametrize("method", MINIATURES)
def test_it_holds_what_was_trained_and_comes_back_whole(method, tmp_path):
    model = trained(method)
    save_trained(model, tmp_path / "m", card(method).presets["mini"].weights, torch.float32)
    again = rrsis_zoo.load_model(tmp_path / "m")
    state, expected = again.state_dict(), model.state_dict()
    assert state.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(state[name], expected[name], rtol=0, atol=0, msg=name)
    assert again.tokenize(["the ship left of the pier"], "independent").ids.tolist() == (
        model.tokenize(["the ship left of the pier"], "independent").ids.tolist()
    )
    stored = sum(t.numel() for t in load_file(tmp_path / "m" / "model.safetensors").values())
    moved = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert moved <= stored < 0.8 * sum(t.numel() for t in expected.values())


def test_half_precision_rounds_only_what_was_trained(tmp_path):
    model = trained("rsrefseg")
    save_trained(model, tmp_path / "m", card("rsrefseg").presets["mini"].weights)
    again = rrsis_zoo.load_model(tmp_path / "m")
    moved = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for (name, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert other.dtype == torch.float32
        if name in moved or "lora_" in name:  # SigLIP's own pooling head is adapted too, but nothing trains it
            torch.testing.assert_close(other, one.half().float(), rtol=0, atol=0)
        else:
            assert torch.equal(other, one), name


def test_every_way_of_loading(saved, tmp_path):
    model, folder = saved
    expected = model.state_dict()
    given = rrsis_zoo.load_model("rsrefseg", weights=f"local:{folder}")
    filled = method_named("rsrefseg").model().from_preset("mini")
    fill_model(filled, f"local:{folder}")
    to_folder(type(model), f"local:{folder}", tmp_path / "whole")
    converted = rrsis_zoo.load_model(tmp_path / "whole")
    for other in (given, filled, converted):
        assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in expected.items())
        assert other.tokenizer_ready
    entries = to_official(type(model), f"local:{folder}", tmp_path / "official.pth")
    assert entries == to_official(type(model), f"local:{tmp_path / 'whole'}", tmp_path / "other.pth")


def test_other_foundation_weights_are_refused(saved, tmp_path):
    _, folder = saved
    changed = json.loads((folder / "config.json").read_text())
    changed["foundations"]["sha256"] = 64 * "0"
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.json").write_text(json.dumps(changed))
    (copy / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(WeightsMismatchError, match="trained on other foundation weights"):
        rrsis_zoo.load_model(copy)


def test_a_missing_entry_is_refused(saved, tmp_path):
    _, folder = saved
    state = load_file(folder / "model.safetensors")
    state.pop(next(iter(state)))
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(state, copy / "model.safetensors")
    with pytest.raises(WeightsMismatchError):
        rrsis_zoo.load_model(copy)


def test_the_class_alone_says_who_reads_it(saved):
    model, folder = saved
    with pytest.raises(ConfigError, match=r"rrsis_zoo\.load_model adds the foundation models"):
        type(model).from_pretrained(folder)


@pytest.mark.parametrize(
    ("source", "message"),
    [("mini:sam", "mini:sam is a foundation model; trained miniatures: mini:"), ("mini:nothing", "known: .*sam")],
)
def test_what_is_no_trained_model(source, message):
    with pytest.raises(ConfigError, match=message):
        rrsis_zoo.load_model(source)


def test_a_trained_model_is_no_foundation_model():
    from rrsis_zoo.weights.sources import trained_miniatures

    name = trained_miniatures()[0]
    with pytest.raises(ConfigError, match=f"mini:{name} is a trained method, not a foundation model"):
        rrsis_zoo.load_model("rsrefseg", preset="mini", weights={"sam": f"mini:{name}", "siglip": "mini:siglip"})


@pytest.mark.parametrize("method", MINIATURES)
def test_a_shipped_miniature_says_whether_it_is_there(method):
    """Its calibration is for exactly these weights."""
    model = rrsis_zoo.load_model(f"mini:{method}")
    assert model.calibration is not None
    assert (model.calibration.model, model.calibration.dataset) == (method, "synthetic")
    result = rrsis_zoo.segment(model, np.zeros((64, 64, 3), np.uint8), ["the ship", "the harbor"])
    assert ((result.presence > 0) & (result.presence < 1)).all()
