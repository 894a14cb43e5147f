"""The golden cases of LAVT, RMSIN, zero-shot SAM 3 and Think2Seg-RS pass, name every tensor, and fail when changed."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from golden_cases.run import check
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.methods.lavt import layers as lavt
from rrsis_zoo.methods.rmsin import layers as rmsin
from rrsis_zoo.models.backbones import swin

CASES = {
    "lavt": {"pwam": 14, "pwam_heads": 14, "decoder": 20, "tiny": 239, "size480": 0, "full_keys": 0},
    "rmsin": {
        "intra_scale": 38, "cross_scale": 150, "rotated_conv": 7, "decoder": 38, "losses": 2, "tokens": 0, "tiny": 515,
        "size480": 0, "full_keys": 0, "full_keys_remotesam": 0,
    },
    "sam3_zeroshot": {"tiny": 0, "rules": 0, "full_keys": 0, "head_noun.json": 0, "tokenizer.json": 0},
    "think2seg": {"sam2": 0, "replies.json": 0, "prompt.json": 0},
}  # fmt: skip
"""Method -> case -> its recorded gradients."""


@pytest.mark.parametrize(("method", "case"), [(method, case) for method, cases in CASES.items() for case in cases])
def test_case(golden, method, case):
    path = golden / method / case
    report = check(path)
    assert report.passed, report.text()
    if path.is_file():
        return
    meta = json.loads((path / "meta.json").read_text())
    names = {row.name for row in report.rows}
    assert names >= {name for name, record in meta.get("tensors", {}).items() if record["role"] != "input"}
    assert names >= set(meta.get("losses", {}))
    assert sum(row.kind == "gradient" for row in report.rows) >= CASES[method][case]


def test_every_case_is_named(golden):
    for method, cases in CASES.items():
        assert {path.name for path in (golden / method).iterdir()} == set(cases)


def failed(path):
    return {row.name for row in check(path).rows if not row.passed}


def test_shifting_before_padding_fails(golden, monkeypatch):
    """timm's order: equal where the padding is a multiple of the shift, wrong where it is not."""

    def attend(self, u):
        (_, H, W, _), w, s = u.shape, self.attn.window, self.shift
        if s:
            u = u.roll((-s, -s), (1, 2))
        u = swin.F.pad(u, (0, 0, 0, -W % w, 0, -H % w))
        size = (u.shape[1], u.shape[2])
        far = swin.far_pairs(size, w, s, u.device) if s else None
        u = swin.from_windows(self.attn(swin.into_windows(u, w), far), size, w)[:, :H, :W]
        return u.roll((s, s), (1, 2)) if s else u

    monkeypatch.setattr(swin.SwinBlock, "attend", attend)
    assert failed(golden / "lavt" / "size480") >= {"out.stage4.blocks", "out.logits"}


def test_a_plain_resize_in_the_decoder_fails(golden, monkeypatch):
    monkeypatch.setattr(lavt, "resize_corners", rmsin.resize)
    assert "out.decoder.4" in failed(golden / "lavt" / "decoder")


def test_a_single_residual_fails(golden, monkeypatch):
    monkeypatch.setattr(rmsin.CrossScale, "each_scale", each_once)
    assert failed(golden / "rmsin" / "cross_scale") >= {"out.intra_ff", "out.level4"}


def each_once(mixer, x):
    parts = x.split([c // 4 for c in mixer.channels], 1)
    return rmsin.torch.cat([ff(part) for part, ff in zip(parts, mixer.intra_ff, strict=True)], 1)


def test_a_few_pixels_of_a_mask_may_flip_and_no_more(golden, tmp_path):
    case = tmp_path / "rules"
    shutil.copytree(golden / "sam3_zeroshot" / "rules", case)
    tensors = load_file(case / "tensors.safetensors")
    for byte, wrong in ((0b11000000, set()), (0b11100000, {"top_mask"})):
        changed = {name: tensor.clone() for name, tensor in tensors.items()}
        changed["top_mask"][7] ^= byte
        save_file(changed, case / "tensors.safetensors")
        assert failed(case) == wrong


def test_a_wrong_line_of_a_list_is_named(golden, tmp_path):
    content = json.loads((golden / "think2seg" / "replies.json").read_text())
    content["cases"][0]["evaluation"]["instances"][0]["bbox_2d"][0] += 1
    (tmp_path / "replies.json").write_text(json.dumps(content))
    assert failed(tmp_path / "replies.json") == {"valid_two: objects"}
    (tmp_path / "other.json").write_text(json.dumps({"cases": [{"a": 1}]}))
    with pytest.raises(DataFormatError, match="has no cases of the kinds"):
        check(tmp_path / "other.json")


def test_settings_without_a_switch_are_refused(golden, tmp_path):
    case = tmp_path / "tiny"
    case.mkdir()
    meta = json.loads((golden / "lavt" / "tiny" / "meta.json").read_text())
    meta["configuration"]["image_mean"] = [0.5, 0.5, 0.5]
    (case / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(DataFormatError, match=r"image_mean is \[0\.5"):
        check(case)
