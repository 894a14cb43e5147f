"""`rrsis models` and `rrsis convert`, through the command."""

import json
import os
import subprocess
import sys

import layouts
import numpy as np
import pytest
import torch

import warm
from rrsis_zoo.commands.convert import run_convert
from rrsis_zoo.commands.models import run_models
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd
from rrsis_zoo.errors import ConfigError, MissingWeightsError
from rrsis_zoo.loading import load_model
from rrsis_zoo.methods.registry import card, list_models
from rrsis_zoo.methods.rsrefseg.model import RSRefSeg
from rrsis_zoo.weights.checkpoints import META, weights_hash
from rrsis_zoo.weights.files import read_state_dict
from rrsis_zoo.weights.training import TRAINING

EXPRESSIONS = ["the red ship left of the pier", "a storage tank", "the tennis court at the bottom"] * 5


def test_models(capsys):
    assert run_models([]) == 0
    said = capsys.readouterr().out
    for name in list_models():
        assert f"{name}\n  {card(name).title}" in said
        assert all(f"preset {preset}: " in said for preset in card(name).presets)
    assert "preset l: 1,206.8 M parameters (20.4 M trained)" in said
    assert "sam: hub:facebook/sam-vit-large (SAM ViT-L, 1.2 GB, Apache-2.0)" in said
    assert run_models(["--json"]) == 0
    cards = json.loads(capsys.readouterr().out)
    assert cards["rsrefseg"]["presets"]["b"]["weights"]["sam"] == "hub:facebook/sam-vit-base"


def test_models_is_light():
    code = (
        "import sys; from rrsis_zoo import cli; cli.run(['models']); "
        "print([m for m in ('torch', 'huggingface_hub', 'numpy', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.fixture
def authors(golden, tmp_path, monkeypatch):
    """A file of the authors for a preset, and a tokenizer for it."""
    case, _, weights = layouts.golden_model(golden, "rsrefseg")
    monkeypatch.setitem(RSRefSeg.presets, "golden", layouts.empty_model(case).config)
    path = layouts.write({"module": layouts.bf16(weights)}, tmp_path / "mp_rank_00_model_states.pt")
    pieces = tmp_path / "pieces" / "spiece.model"
    pieces.parent.mkdir()
    pieces.write_bytes(RSRefSeg.tokenizer_kind.from_expressions(EXPRESSIONS, 60, 16).model)
    return path, pieces, layouts.bf16(weights)


def test_convert_there_and_back(authors, tmp_path, capsys):
    path, pieces, weights = authors
    to = ["--model", "rsrefseg", "--preset", "golden"]
    assert run_convert([f"local:{path}", str(tmp_path / "ours"), *to, "--tokenizer", f"local:{pieces.parent}"]) == 0
    said = capsys.readouterr().out
    assert f"mapped: {len(weights)} entries" in said
    assert "left over: 0" in said
    assert str(tmp_path) not in (tmp_path / "ours" / "README.md").read_text()  # a card tells of nobody's folders
    model = load_model(tmp_path / "ours")
    assert model.tokenize(["the red ship"], "independent").ids.shape[0] == 1

    out = tmp_path / "back.pth"
    back = ["--model", "rsrefseg", "--to-official"]
    assert run_convert([f"local:{tmp_path / 'ours'}", str(out), *back]) == 0
    assert f"{len(weights)} entries" in capsys.readouterr().out
    assert list(torch.load(out, weights_only=True)) == ["state_dict"]
    state = read_state_dict(out)
    assert state.keys() == weights.keys()
    assert all(state[k].dtype == v.dtype and state[k].equal(v) for k, v in weights.items())


def test_convert_without_tokenizer_and_merged(authors, tmp_path):
    path, _, _ = authors
    to = ["--model", "rsrefseg", "--preset", "golden", "--tokenizer", "none"]
    run_convert([f"local:{path}", str(tmp_path / "ours"), *to])
    assert not load_model(tmp_path / "ours").tokenizer_ready
    run_convert([f"local:{path}", str(tmp_path / "merged"), *to, "--merge"])
    assert load_model(tmp_path / "merged").config.adapt == "full"
    assert not any("lora" in name for name in read_state_dict(tmp_path / "merged" / "model.safetensors"))


def test_convert_a_checkpoint_of_fit(tmp_path):
    model = RSRefSeg.from_preset("tiny")
    model.fit_tokenizer(EXPRESSIONS)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, META: model.description()}, tmp_path / "a.ckpt")
    to = ["--model", "rsrefseg"]
    run_convert([f"local:{tmp_path / 'a.ckpt'}", str(tmp_path / "ours"), *to])
    assert weights_hash(load_model(tmp_path / "ours")) == weights_hash(model)
    run_convert([f"local:{tmp_path / 'a.ckpt'}", str(tmp_path / "official.safetensors"), *to, "--to-official"])
    names = read_state_dict(tmp_path / "official.safetensors")
    assert "prompter_down_channel.conv.weight" in names
    with pytest.raises(ConfigError, match="contains its own preset"):
        run_convert([f"local:{tmp_path / 'a.ckpt'}", str(tmp_path / "o"), *to, "--preset", "tiny"])
    with pytest.raises(ConfigError, match="holds rsrefseg, not control"):
        run_convert([f"local:{tmp_path / 'a.ckpt'}", str(tmp_path / "o"), "--model", "control"])


def test_our_own_need_no_method(tmp_path, monkeypatch, capsys):
    """A checkpoint, a run's folder, a model's folder; as a path or a source; with permissions as the user has them."""
    monkeypatch.chdir(tmp_path)
    model = RSRefSeg.from_preset("tiny")
    model.fit_tokenizer(EXPRESSIONS)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    best = tmp_path / "runs/rsrefseg/fit/a/checkpoints/best.ckpt"
    best.parent.mkdir(parents=True)
    settings = {"root": "/home/somebody", "text": "sent"}
    training = {"settings": settings, "data": None, "precision": "32-true", "step": 7}
    torch.save({"state_dict": state, META: model.description(), TRAINING: training}, best)
    digest = weights_hash(model)
    scores = {"n": 4, "oiou": 50.0, "miou": 40.0}
    result = {
        "model": "rsrefseg", "preset": "tiny", "protocol": "canonical", "eval_size": "native", "dataset": "here",
        "split": "test", "n": 4, "n_empty": 0, "metrics": scores, "weights_sha256": digest,
        "annotations_sha256": "0" * 64, "code": {"version": "0", "commit": None, "changed": None},
    }  # fmt: skip
    other = {"other": {**result, "weights_sha256": "1" * 64}, "part": {**result, "partial": {"n": 4, "of": 9}}}
    for name, content in {"mine": result, "twice": result, **other, "bad": {}}.items():
        place = tmp_path / "runs/rsrefseg/test" / name / "test.json"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps({**content, "dataset": name if name != "twice" else "mine"}))
    before = os.umask(0o027)
    try:
        assert run_convert([str(best), "a"]) == 0
        assert run_convert(["runs/rsrefseg/fit/a", "b"]) == 0
        assert run_convert([f"local:{tmp_path / 'b'}", "c"]) == 0
        assert run_convert(["b", "d.safetensors", "--to-official"]) == 0
        assert run_convert(["b", "e.pth", "--to-official"]) == 0
    finally:
        os.umask(before)
    kept = {**training, "settings": {"text": "sent"}, "tests": [
        {"dataset": "mine", "split": "test", "protocol": "canonical", "n": 4, "metrics": scores}
    ]}  # fmt: skip
    for name in "abc":
        assert weights_hash(load_model(tmp_path / name)) == digest
        assert json.loads((tmp_path / name / "config.json").read_text())["training"] == kept
        card_text = (tmp_path / name / "README.md").read_text()
        assert "| mine | test | canonical | 4 |" in card_text
        assert "somebody" not in card_text
        assert "Published results" not in card_text
    files = [
        *(p for name in "abc" for p in (tmp_path / name).iterdir()),
        tmp_path / "d.safetensors",
        tmp_path / "e.pth",
    ]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o640"}
    capsys.readouterr()


def test_the_authors_need_it(authors, tmp_path):
    with pytest.raises(ConfigError, match=r"not a model of rrsis-zoo: .* --model lavt \| .*\| rsrefseg \| "):
        run_convert([str(authors[0]), str(tmp_path / "out")])
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match="run has no checkpoints/best"):
        run_convert([str(tmp_path / "run"), str(tmp_path / "out")])
    with pytest.raises(MissingWeightsError, match="nowhere"):
        run_convert([str(tmp_path / "nowhere.ckpt"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--to-official"], "is not a model of rrsis-zoo"),
        (["--to-official", "--merge"], "takes no --preset"),
        (["--release", "rrsisd"], "unknown release of rsrefseg 'rrsisd'"),
        (["--preset", "gloden"], "did you mean 'golden'"),
    ],
)
def test_convert_refuses(authors, tmp_path, more, words):
    with pytest.raises(ConfigError, match=words):
        run_convert([f"local:{authors[0]}", str(tmp_path / "out"), "--model", "rsrefseg", *more])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_whole_model_in_a_config(root, tmp_path):
    """`rrsis test` of a shared folder: one source string instead of a checkpoint."""
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[20:40, 20:50] = True
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    scenes = [ReferredScene(image, [Referent(mask, ["the ship"], "ship")], split) for split in ("train", "val", "test")]
    write_rrsisd(tmp_path / "data", scenes)
    model = RSRefSeg.from_preset("tiny")
    model.fit_tokenizer(EXPRESSIONS)
    model.save_pretrained(tmp_path / "model")
    configs = [root / "configs" / "rsrefseg.yaml", root / "configs" / "overlays" / "rsrefseg_tiny.yaml"]
    command = ["test", *(a for c in configs for a in ("--config", c)), "--data.root", tmp_path / "data"]
    command += ["--model.init_args.weights", f"local:{tmp_path / 'model'}"]
    done = warm.command(command, tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(next(tmp_path.glob("runs/**/test.json")).read_text())
    assert record["weights_sha256"] == weights_hash(model)
