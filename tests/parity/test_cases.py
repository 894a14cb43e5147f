"""The golden cases pass, through the command; and they fail when anything is wrong."""

import json
import shutil
import subprocess
from collections import Counter
from fnmatch import fnmatch

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import warm
from golden_cases.case import Case, fill
from golden_cases.report import compare_tensor
from golden_cases.run import check
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError

CASES = ("prompter", "prompter_nodense", "tiny", "full_keys_b", "full_keys_l")


@pytest.mark.parametrize("case", CASES)
def test_rsrefseg(golden, case):
    report = check(golden / "rsrefseg" / case)
    assert report.passed, report.text()
    kinds = {row.kind for row in report.rows}
    if case == "tiny":
        assert {"tensor", "loss", "gradient", "names", "count", "skipped"} <= kinds
        assert sum(row.kind == "gradient" for row in report.rows) == 189
    if case.startswith("full_keys"):
        assert sum(row.kind == "name" for row in report.rows) == len(
            json.loads((golden / "rsrefseg" / case / "keys.json").read_text())
        )


RSREFSEG2 = (
    "prompter", "prompter_short_text", "prompter_opt_no_dense", "prompter_opt_prompt_proj",
    "prompter_opt_queries2_pool", "prompter_opt_refined_pool_sine", "losses", "tiny", "tiny_sam1",
    "full_keys_l", "full_keys_t",
)  # fmt: skip


@pytest.mark.parametrize("case", RSREFSEG2)
def test_rsrefseg2(golden, case):
    folder = golden / "rsrefseg2" / case
    report = check(folder)
    assert report.passed, report.text()
    meta = json.loads((folder / "meta.json").read_text())
    names = {row.name for row in report.rows}
    assert names >= {name for name, record in meta["tensors"].items() if record["role"] != "input"}
    if "gradients" in meta:
        assert names >= set(meta["gradients"]["values"])
        assert any(row.name.startswith("trainable without gradient") for row in report.rows)
    if case == "losses":
        assert names >= {f"{variant}.{loss}" for variant, losses in meta["losses"].items() for loss in losses}
    if case.startswith("full_keys"):
        assert sum(row.kind == "name" for row in report.rows) == meta["n_keys"]
        assert {row.name for row in report.rows if row.kind == "count"} == {"total parameters", "trainable parameters"}


def test_rsrefseg2_has_both_branches_of_the_fallback(golden):
    """One sample of `tiny` is stable and one is not, so that `out.low_res_logits` holds a first mask and another."""
    case = Case(golden / "rsrefseg2" / "tiny")
    assert (case.stored["out.single_mask_stability"].flatten() >= 0.98).tolist() == [True, False]
    evaluated, first = (case.stored[f"out.low_res_logits{mode}"] for mode in ("", "_train_mode"))
    assert [torch.equal(a, b) for a, b in zip(evaluated, first, strict=True)] == [True, False]


def test_rsrefseg2_refuses_what_it_has_no_switch_for(golden, tmp_path):
    case = tmp_path / "prompter"
    shutil.copytree(golden / "rsrefseg2" / "prompter", case)
    order = "queries1_to_img_attn_operation_order"
    edit(case, lambda meta: meta["configuration"]["prompter"][order].reverse())
    with pytest.raises(DataFormatError, match="queries1_to_img_attn_layers has the operations"):
        check(case)


def test_rsrefseg2_wrong_fixtures_fail(golden, tmp_path):
    """A gradient of a buffer of ours, a count, a loss of one variant."""
    case = tmp_path / "tiny_sam1"
    shutil.copytree(golden / "rsrefseg2" / "tiny_sam1", case)
    matrix = "backbone.model.shared_image_embedding.positional_embedding"

    def change(meta):
        meta["gradients"]["values"][matrix] *= 1.01
        meta["parameters"]["trainable"] += 1

    edit(case, change)
    assert failed(case) == {matrix, "trainable parameters"}
    case = tmp_path / "losses"
    shutil.copytree(golden / "rsrefseg2" / "losses", case)
    edit(case, lambda meta: meta["losses"]["refined_perbatch"].update({"loss_dice": 4.0}))
    assert failed(case) == {"refined_perbatch.loss_dice"}


@pytest.mark.parametrize(
    ("case", "rows"),
    [
        ("boundary_loss", {"gradient": 6, "loss": 16}),
        ("mask_prompt_generator", {"tensor": 11}),
        ("beit3_encoder", {"tensor": 16, "skipped": 1}),
        ("fusion_module", {"tensor": 10}),
        ("tiny", {"gradient": 658, "skipped": 160, "names": 1, "count": 2}),
    ],
)
def test_rs2sam2(golden, case, rows):
    report = check(golden / "rs2sam2" / case)
    assert report.passed, report.text()
    kinds = Counter(row.kind for row in report.rows)
    assert {kind: kinds[kind] for kind in rows} == rows


@pytest.mark.slow
@pytest.mark.usefixtures("large")
def test_rs2sam2_at_full_size(golden):
    """934,813,404 parameters at 1024 px, in a process of its own; measured: 5.5 GB, 56 s of processor time."""
    code = (
        "import resource, runpy, sys\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
    )
    command = [warm.python(), "-c", f"import sys\nsys.argv.pop(0)\n{code}", str(golden.parent / "parity")]
    done = subprocess.run([*command, str(golden / "rs2sam2" / "full"), "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    kinds = Counter(row["kind"] for row in json.loads(done.stdout)["rows"])
    assert kinds["skipped"] == 160
    assert kinds["count"] == 2
    assert kinds["tensor"] > 60
    assert int(done.stderr.splitlines()[-1]) < 8 * 2**20  # kB, at most so far


def test_rs2sam2_key_list_is_ours_and_what_is_skipped(golden):
    """2,853 official names: every one has its place here or is one of the 160 that the program never uses."""
    from rrsis_zoo.methods.rs2sam2.card import SKIPPED
    from rrsis_zoo.methods.rs2sam2.model import RS2SAM2
    from rrsis_zoo.pretrained.official import official_names

    case = Case(golden / "rs2sam2" / "full")
    with torch.device("meta"):
        model = RS2SAM2.from_preset("l")
    state = model.state_dict()
    ours = {theirs: list(state[name].shape) for name, theirs in official_names(model).items()}
    theirs = {name: record["shape"] for name, record in case.keys.items()}
    skipped = {name for name in theirs if any(fnmatch(name, pattern) for pattern in SKIPPED)}
    assert len(theirs) == 2853
    assert len(skipped) == 160
    assert ours == {name: shape for name, shape in theirs.items() if name not in skipped}


def test_metrics(golden, tmp_path):
    """The metric of RSRefSeg and RSRefSeg 2, with its NaN of an empty pair."""
    report = check(golden / "rsrefseg2" / "metrics")
    assert report.passed, report.text()
    assert {row.name for row in report.rows} >= {"out.union", "expected.mean_iou", "expected_with_empty_sample0.gIoU_1"}
    case = tmp_path / "metrics"
    shutil.copytree(golden / "rsrefseg2" / "metrics", case)
    edit(case, lambda meta: meta["expected"].update({"seg_acc_0.7_1": 26.0, "unknown": 1.0}))
    assert failed(case) == {"expected.seg_acc_0.7_1", "expected.unknown"}
    edit(case, lambda meta: meta.update(model="rsrefseg"))
    assert len(failed(case)) == 2
    edit(case, lambda meta: meta.update(model="lavt"))
    with pytest.raises(ConfigError, match="model with a metric 'lavt'"):
        check(case)


def test_evisam3_evaluators(golden, tmp_path):
    """The evaluator of its tables, which is our protocol, and its standalone one, which is not comparable."""
    report = check(golden / "evisam3" / "protocol")
    assert report.passed, report.text()
    assert {row.name for row in report.rows} >= {
        "out.iou_at_0.5", "expected.fixed_threshold.oIoU", "expected.threshold_sweep.mIoU"
    }  # fmt: skip
    case = tmp_path / "protocol"
    shutil.copytree(golden / "evisam3" / "protocol", case)
    edit(case, lambda meta: meta["expected"]["threshold_sweep"].update({"P@0.7": 0.6}))
    assert failed(case) == {"expected.threshold_sweep.P@0.7"}


def test_losses(golden, tmp_path):
    """A case of the loss alone: every `in.target<suffix>` gives `loss_ce<suffix>`."""
    logits, target = torch.randn(2, 1, 8, 8), torch.randint(0, 2, (2, 1, 32, 32), dtype=torch.uint8)
    big = torch.nn.functional.interpolate(logits, size=(32, 32), mode="bilinear", align_corners=False)
    value = 5 * torch.nn.functional.binary_cross_entropy_with_logits(big, target.float()).item()
    record = {"dtype": "float32", "stored": "full"}
    tiny = json.loads((golden / "rsrefseg" / "tiny" / "meta.json").read_text())
    meta = {
        **{k: tiny[k] for k in ("format", "model", "configuration", "tolerance")},
        "case": "losses",
        "part": "losses",
        "losses": {"loss_ce": value},
        "tensors": {
            "in.seg_logits": {**record, "role": "input", "shape": [2, 1, 8, 8]},
            "in.target": {**record, "role": "input", "shape": [2, 1, 32, 32]},
        },
    }
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    save_file({"in.seg_logits": logits, "in.target": target}, tmp_path / "tensors.safetensors")
    report = check(tmp_path)
    assert [row.name for row in report.rows] == ["loss_ce"]
    assert report.passed, report.text()


def test_command(golden, parity):
    done = subprocess.run([*parity, str(golden / "rsrefseg" / "prompter")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "11 of 11 passed" in done.stdout


def test_command_fails_with_status_1_and_json(golden, warm_parity, tmp_path):
    case = copy(golden, tmp_path, "prompter")
    tensors = load_file(case / "tensors.safetensors")
    tensors["out.down_channel"] = tensors["out.down_channel"].clone()
    tensors["out.down_channel"][1, 2, 3, 4] += 1e-3
    save_file(tensors, case / "tensors.safetensors")
    done = subprocess.run([*warm_parity, str(case), "--json"], capture_output=True, text=True)
    assert done.returncode == 1
    rows = json.loads(done.stdout)["rows"]
    assert [row["name"] for row in rows if not row["passed"]] == ["out.down_channel"]


def copy(golden, tmp_path, name):
    case = tmp_path / name
    shutil.copytree(golden / "rsrefseg" / name, case)
    return case


def edit(case, change):
    meta = json.loads((case / "meta.json").read_text())
    change(meta)
    (case / "meta.json").write_text(json.dumps(meta))


def failed(case):
    return {row.name for row in check(case).rows if not row.passed}


def test_a_wrong_key_is_named(golden, tmp_path):
    case = copy(golden, tmp_path, "prompter")
    keys = json.loads((case / "keys.json").read_text())
    keys["prompter_down_channel.bn.wieght"] = keys.pop("prompter_down_channel.bn.weight")
    (case / "keys.json").write_text(json.dumps(keys))
    assert failed(case) == {"prompter_down_channel.bn.wieght"}


def test_a_key_of_another_shape_is_named(golden, tmp_path):
    case = copy(golden, tmp_path, "full_keys_b")
    keys = json.loads((case / "keys.json").read_text())
    name = "prompter_down_channel.conv.weight"
    keys[name]["shape"][0] += 1
    removed = "sam_mask_decoder.model.iou_token.weight"
    del keys[removed]
    (case / "keys.json").write_text(json.dumps(keys))
    assert failed(case) == {name, removed}


def test_a_wrong_gradient_loss_or_count_is_named(golden, tmp_path):
    case = copy(golden, tmp_path, "tiny")
    name = "prompter_down_channel.bn.weight"

    def change(meta):
        meta["gradients"]["values"][name] *= 1.01
        meta["losses"]["loss_ce"] *= 1.01
        meta["parameters"]["total"] += 1
        meta["trainable_without_gradient"].pop()  # the position matrix, which is no parameter here
        meta["trainable_without_gradient"].pop()

    edit(case, change)
    assert failed(case) == {name, "loss_ce", "total parameters", "trainable without gradient (13)"}


def test_a_gradient_where_none_is_recorded_is_found(golden, tmp_path):
    case = copy(golden, tmp_path, "tiny")
    name = "prompter_down_channel.bn.weight"
    edit(case, lambda meta: meta["gradients"]["values"].update({name: None}))
    assert name in failed(case)


def test_another_configuration_of_the_format(golden, tmp_path):
    """A case that we do not have: other sizes, no dense prompt, three halvings, expectations made here."""
    case = copy(golden, tmp_path, "tiny")

    def change(meta):
        c = meta["configuration"]
        c["with_dense_feat"], c["down_spatial_times"], c["original_size"] = False, 3, [40, 77]
        c["sam"]["mask_decoder_config"]["iou_head_hidden_dim"] = 24
        for lora in c["lora"].values():
            lora["r"] = 8

    edit(case, change)
    report = check(case)
    wrong = {row.name: row.note for row in report.rows if not row.passed}
    # the keys are still those of the old configuration: every difference is named, nothing crashes
    assert "our shape is (8, 32)" in wrong["backbone.base_model.model.model.layers.0.attn.qkv.lora_A.default.weight"]
    assert wrong["prompter_down_spatial.3.conv.weight"] == "not in the case"


def test_stored_forms(golden, tmp_path):
    """A tensor may be stored whole, as a slice of its flattened form, or as packed bits."""
    full = torch.randn(3, 4, 5)
    bits = torch.rand(3, 7) > 0.5
    save_file(
        {"a": full.reshape(-1)[::7].clone(), "b": torch.from_numpy(np.packbits(bits.numpy()))},
        tmp_path / "tensors.safetensors",
    )
    meta = {
        "format": 1, "model": "rsrefseg", "case": "x", "part": "prompter", "tolerance": {"rtol": 0, "atol": 1e-6},
        "tensors": {
            "a": {"role": "output", "shape": [3, 4, 5], "dtype": "float32", "stored": "flat_stride", "stride": 7},
            "b": {"role": "output", "shape": [3, 7], "dtype": "uint8", "stored": "packbits"},
        },
    }  # fmt: skip
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    case = Case(tmp_path)
    assert compare_tensor(case, "a", full).passed
    assert compare_tensor(case, "b", bits.to(torch.uint8)).passed
    assert case.input("b").reshape(3, 7).equal(bits.to(torch.uint8))
    other = full.clone()
    other.view(-1)[14] += 1
    assert not compare_tensor(case, "a", other).passed
    assert not compare_tensor(case, "b", (~bits).to(torch.uint8)).passed
    assert not compare_tensor(case, "a", full[:2]).passed
    assert not compare_tensor(case, "a", torch.full_like(full, torch.nan)).passed
    assert not compare_tensor(case, "a", None).passed


def test_decoded_inputs(tmp_path):
    small = torch.randint(-128, 128, (1, 2, 3, 4), dtype=torch.int8)
    save_file({"in.x_i8": small}, tmp_path / "tensors.safetensors")
    record = {
        "role": "input",
        "shape": [1, 2, 3, 4],
        "dtype": "int8",
        "stored": "full",
        "decode": {"scale": 0.25, "repeat": 2},
    }
    meta = {"format": 1, "model": "m", "case": "x", "part": "p", "tensors": {"in.x_i8": record}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    x = Case(tmp_path).input("in.x_i8")
    assert x.shape == (1, 2, 6, 8)
    assert x[0, 1, 5, 2] == small[0, 1, 2, 1] * 0.25


def test_no_case_and_wrong_cases(golden, tmp_path):
    with pytest.raises(MissingDataError, match=r"no meta\.json"):
        check(tmp_path)
    case = copy(golden, tmp_path, "prompter")
    edit(case, lambda meta: meta.update(part="prompters"))
    with pytest.raises(ConfigError, match="did you mean 'prompter'"):
        check(case)
    edit(case, lambda meta: meta.update(part="prompter", model="rsrefsge"))
    with pytest.raises(ConfigError, match="did you mean 'rsrefseg'"):
        check(case)
    edit(case, lambda meta: meta.update(format=2))
    with pytest.raises(DataFormatError, match="format 2"):
        check(case)


def test_fill_is_the_one_of_the_format():
    """Values computed once with the format's own description."""
    assert fill("a.running_var", (2,)).min() >= 1
    assert not fill("x.num_batches_tracked", ()).any()
    weight, bias = fill("n.weight", (4,)), fill("n.bias", (4,))
    assert abs(weight.mean() - 1) < 0.2
    assert abs(bias.mean()) < 0.2
    noise = np.random.default_rng(__import__("zlib").crc32(b"w")).standard_normal((3, 8), dtype=np.float32)
    np.testing.assert_allclose(fill("w", (3, 8)), noise / np.sqrt(8), rtol=1e-6)
