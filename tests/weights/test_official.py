"""The authors' files: in every wrapping, strictly, there and back; the golden outputs through the way."""

import json
import warnings
from dataclasses import replace

import layouts
import pytest
import torch

from golden_cases.case import Case
from golden_cases.report import compare_tensor
from golden_cases.run import ADAPTERS
from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.loading import load_model
from rrsis_zoo.methods.registry import card, list_models, method_named
from rrsis_zoo.pretrained.official import (
    convert,
    fill_official,
    match_official,
    read_official,
    skeleton,
    skipped_beside,
    write_official,
)
from rrsis_zoo.pretrained.whole import fill_model
from rrsis_zoo.weights.files import read_state_dict

METHODS = [name for name in list_models() if card(name).official]
WRAPPED = [(method, wrapper) for method in METHODS for wrapper in layouts.wrappers(method)]


def equal(a, b):
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype, name
        assert torch.equal(tensor, b[name]), name
    return True


# -- real configurations -----------------------------------------------------------------------------------------------


def full_cases(golden, method):
    """One folder for each list of names: EviSAM3's `full` and `full_keys` have the same."""
    folders = sorted(p for p in (golden / method).iterdir() if p.name.startswith("full"))
    return list({str(Case(folder).keys): folder for folder in folders}.values())


@pytest.mark.parametrize("method", METHODS)
def test_real_key_lists_fit_in_every_wrapper(golden, method, tmp_path):
    """The complete lists of names and shapes of the real configurations, as files in the authors' layouts."""
    cases = full_cases(golden, method)
    assert cases
    for number, folder in enumerate(cases):
        model, state = layouts.empty_model(Case(folder)), layouts.key_list(folder)
        if number:
            match_official(model, state, folder.name)
            continue
        wrappers = layouts.wrappers(method)
        for name, wrap in wrappers.items():
            path = layouts.write(wrap(state), tmp_path / "file.pth")
            found = match_official(model, read_official(model, path), name)
            assert len(found.entries) + len(found.skipped) == len(state), name
            assert set(found.entries.values()) | set(found.skipped) == set(state)
        for name, rename in layouts.PEFT.items():
            found = match_official(model, {rename(k): v for k, v in state.items()}, name)
            assert len(found.entries) + len(found.skipped) == len(state), name


@pytest.mark.parametrize("method", METHODS)
def test_published_presets_are_the_real_configurations(golden, method):
    """A preset that the paper names has the names and shapes of a golden list, so that its file fits."""
    lists = [layouts.key_list(folder) for folder in full_cases(golden, method)]
    model = skeleton(method_named(method).model())

    def fits(state):
        try:
            return bool(match_official(model, state, "list"))
        except WeightsMismatchError:
            return False

    assert sum(map(fits, lists)) == 1


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "wrapper"), WRAPPED)
def test_there_and_back(golden, method, wrapper, tmp_path):
    """Official -> ours -> official is equal to the bit, names, dtypes and all."""
    _, model, weights = layouts.golden_model(golden, method)
    state = layouts.bf16(weights) if "bf16" in wrapper else weights
    path = layouts.write(layouts.wrappers(method)[wrapper](state), tmp_path / "epoch_1.pth")
    report = convert(model, path, tmp_path / "ours")
    assert len(report.mapped) + len(report.skipped) == len(state)
    for out in (tmp_path / "back.pth", tmp_path / "back.safetensors"):
        ours = read_state_dict(tmp_path / "ours" / "model.safetensors")
        entries = write_official(model, ours, out, skipped_beside(tmp_path / "ours"))
        assert entries == len(state)
        assert equal(read_state_dict(out), state)
    if wrapper == "bf16 in mmengine":
        loaded = load_model(tmp_path / "ours")
        assert {t.dtype for t in loaded.state_dict().values() if t.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("method", METHODS)
def test_golden_outputs_through_the_conversion(golden, method, tmp_path):
    case, model, weights = layouts.golden_model(golden, method)
    path = layouts.write({"state_dict": weights}, tmp_path / "epoch_1.pth")
    convert(model, path, tmp_path / "ours")
    loaded = load_model(tmp_path / "ours")
    with torch.no_grad():
        computed = ADAPTERS[method].parts[case.part](loaded, case)
    rows = [compare_tensor(case, name, computed.tensors.get(name)) for name in case.names("output")]
    assert rows
    assert all(row.passed for row in rows), [row for row in rows if not row.passed]

    direct = layouts.empty_model(case)
    fill_official(direct, path)
    assert equal(direct.state_dict(), loaded.state_dict())


def test_settings_of_the_published_numbers(golden, tmp_path):
    """RSRefSeg 2 was evaluated with SAM 2's fallback, which is off for one's own training."""
    assert skeleton(method_named("rsrefseg2").model(), "tiny").config.stability_fallback
    kind = method_named("rsrefseg2").model()
    _, model, weights = layouts.golden_model(golden, "rsrefseg2")
    own = kind(replace(model.config, stability_fallback=False))
    own.fit_tokenizer(["a ship", "a plane"] * 5)
    path = layouts.write({"state_dict": weights}, tmp_path / "rrsisd.pth")
    published = kind(replace(model.config, stability_fallback=True))
    published.tokenizer = own.tokenizer
    convert(published, path, tmp_path / "ours")
    for source in (path, tmp_path / "ours"):
        with pytest.warns(UserWarning, match="has stability_fallback=True, this rsrefseg2 has False"):
            fill_model(own, f"local:{source}")
        assert not own.config.stability_fallback
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fill_model(published, f"local:{tmp_path / 'ours'}")
    assert load_model(tmp_path / "ours").config.stability_fallback


def test_names_of_adapters_of_other_versions(golden, tmp_path):
    _, model, weights = layouts.golden_model(golden, "rsrefseg")
    convert(model, layouts.write(weights, tmp_path / "a.pth"), tmp_path / "a")
    for name, rename in layouts.PEFT.items():
        path = layouts.write({rename(k): v for k, v in weights.items()}, tmp_path / "b.pth")
        convert(model, path, tmp_path / "b")
        files = [read_state_dict(tmp_path / f / "model.safetensors") for f in "ab"]
        assert equal(*files), name


def test_the_report_and_the_card(golden, tmp_path):
    _, model, weights = layouts.golden_model(golden, "rsrefseg")
    extra = {"clip_vision_encoder.base_model.model.model.embeddings.position_ids": torch.arange(9)}
    path = layouts.write(weights | extra, tmp_path / "epoch_3.pth")
    report = convert(model, path, tmp_path / "ours", source="local:epoch_3.pth")
    assert report.text().splitlines() == [
        f"mapped: {len(weights)} entries",
        f"skipped: 1 (computed, not learned): {next(iter(extra))}",
        "left over: 0",
    ]
    said = (tmp_path / "ours" / "README.md").read_text()
    for part in (
        "local:epoch_3.pth",
        "Apache-2.0",
        "sha256",
        "skipped: 1",
        "2501.06809",
        "77.24",
        "not stated",
        "float32",
        '"down_spatial_times": 2',
    ):
        assert part in said
    assert said.startswith("---\n")
    provenance = json.loads((tmp_path / "ours" / "config.json").read_text())["provenance"]
    assert provenance["source"] == "local:epoch_3.pth"
    assert len(provenance["sha256"]["epoch_3.pth"]) == 64
    # saved again, the card still says where the weights are from
    load_model(tmp_path / "ours").save_pretrained(tmp_path / "again")
    assert "bit for bit" in said
    again = (tmp_path / "again" / "README.md").read_text()
    assert "local:epoch_3.pth" in again
    assert "saved again" in again
    assert "bit for bit" not in again
    with pytest.raises(ConfigError, match="unknown release"):
        convert(model, path, tmp_path / "ours", release="rrsisd")


# -- faults ------------------------------------------------------------------------------------------------------------


def refused(golden, method, tmp_path, change):
    _, model, weights = layouts.golden_model(golden, method)
    state = dict(weights)
    change(state)
    path = layouts.write({"state_dict": state}, tmp_path / "epoch_1.pth")
    with pytest.raises(WeightsMismatchError) as caught:
        convert(model, path, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    assert "epoch_1.pth" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_one_fault_of_each_kind_is_named(golden, method, tmp_path):
    """By the authors' names, for a plain entry, an adapter and a buffer; nothing is written."""
    _, model, weights = layouts.golden_model(golden, method)
    used = match_official(model, weights, "list").entries.values()
    lora = [n for n in used if ".lora_B." in n][:1]
    for name in [next(n for n in used if weights[n].ndim > 1), *lora]:
        wrong = name + "x"
        said = refused(golden, method, tmp_path, lambda s, n=name, w=wrong: s.update({w: s.pop(n)}))
        assert f"1 missing: {name};" in said
        assert f"1 unexpected: {wrong}" in said
        said = refused(golden, method, tmp_path, lambda s, n=name: s.pop(n))
        assert f"1 missing: {name}" in said
        assert "unexpected" not in said
        said = refused(golden, method, tmp_path, lambda s, n=name: s.update({n: s[n][:-1]}))
        assert f"1 wrongly shaped: {name} (" in said
        said = refused(golden, method, tmp_path, lambda s, n=name: s.update({n: s[n].to(torch.int64)}))
        assert f"of another kind of number: {name} (torch.int64" in said
    said = refused(golden, method, tmp_path, lambda s: s.update({"optimizer.step": torch.ones(1)}))
    assert "1 unexpected: optimizer.step" in said
    # our own name of an entry is not the authors'
    ours = "sam.mask_decoder.iou_token.weight"
    said = refused(golden, method, tmp_path, lambda s: s.update({ours: torch.ones(1)}))
    assert f"1 unexpected: {ours}" in said


def test_an_entry_twice_under_two_names(golden, tmp_path):
    name = "backbone.base_model.model.model.layers.0.attn.qkv.base_layer.weight"
    said = refused(golden, "rsrefseg", tmp_path, lambda s: s.update({name.replace(".base_layer", ""): s[name].clone()}))
    assert "1 in conflict: backbone.base_model.model.model.layers.0.attn.qkv.weight" in said


def test_truncated_files(golden, tmp_path):
    _, model, weights = layouts.golden_model(golden, "rsrefseg")
    for name in ("epoch_1.pth", "model.safetensors"):
        path = layouts.write(weights, tmp_path / name)
        whole = path.read_bytes()
        for size in (len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(WeightsMismatchError, match=r"truncated|damaged"):
                convert(model, path, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_method_of_our_own_has_no_authors():
    with pytest.raises(ConfigError, match="this project's own"):
        match_official(skeleton(method_named("control").model(), "tiny"), {}, "nothing")
