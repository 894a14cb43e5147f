"""Operations and memory of calls whose cost is known, and the record of every method."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from bench.profile import Effort, dtype_name, main, measure, profile, run
from kinds import TRAINED
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd
from rrsis_zoo.data.synthetic import make_sample
from rrsis_zoo.errors import ConfigError, MissingDataError
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.models.base import count_parameters
from rrsis_zoo.models.types import Batch

SHORT = Effort(warm_up=1, least=2, most=2, seconds=0)


def batch():
    sample = make_sample("train", 0, expressions=2)
    image = torch.from_numpy(sample.scene.image).permute(2, 0, 1).contiguous()
    masks = [torch.from_numpy(sample.scene.objects[e.referent].mask) for e in sample.expressions]
    texts = [e.text for e in sample.expressions]
    return Batch([image], texts, torch.zeros(len(texts), dtype=torch.int64), masks, [str(i) for i in range(len(texts))])


def test_operations_of_a_known_layer():
    layer, x = nn.Linear(30, 50), torch.randn(7, 30)
    forward = measure(lambda: layer(x), 7, layer, SHORT)
    assert forward["flops"] == 2 * 7 * 30 * 50
    assert forward["latency_s"]["n"] == 2
    assert forward["latency_s"]["low"] <= forward["latency_s"]["median"] <= forward["latency_s"]["high"]
    assert forward["per_second"] == pytest.approx(7 / forward["latency_s"]["median"])
    # the input needs no gradient: one product forward and one for the weights
    both = measure(lambda: layer(x).sum().backward(), 7, layer, SHORT)
    assert both["flops"] == 2 * forward["flops"]


def test_attention_is_counted_whatever_computes_it():
    q = torch.randn(2, 4, 16, 8)
    call = lambda: nn.functional.scaled_dot_product_attention(q, q, q)  # noqa: E731
    forward = 2 * 2 * (2 * 4 * 16 * 16 * 8)
    assert measure(call, 1, nn.Identity(), SHORT)["flops"] == forward
    # scores once more, and four products of the same size for the gradients of query, key, value and scores
    q.requires_grad_()
    assert measure(lambda: call().sum().backward(), 1, nn.Identity(), SHORT)["flops"] == forward + 5 * forward // 2


def test_calls_go_on_until_the_time_is_over():
    effort = Effort(warm_up=0, least=3, most=1000, seconds=0.05)
    n = measure(lambda: torch.randn(100, 100), 1, nn.Identity(), effort)["latency_s"]["n"]
    assert 3 < n <= 1000
    assert measure(lambda: torch.randn(10), 1, nn.Identity(), Effort(0, 3, 5, 60))["latency_s"]["n"] == 5


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of resident memory is read from /proc")
@pytest.mark.usefixtures("bench_on_path")
def test_peak_memory_of_a_known_call():
    """In turn small, large, small: neither hides the other, and the weights are in all of them.

    In a process of its own, whose allocator gives large arrays back at once (a fixed threshold): glibc's moving one
    keeps those of earlier calls resident, and lays the next beside them.
    """
    code = """
        import torch
        from bench.profile import Effort, measure

        model = torch.nn.Linear(1024, 1024, bias=False)  # 4 MiB
        for megabytes in (20, 100, 20):
            call = lambda: torch.ones(megabytes * 2**18)
            print(measure(call, 1, model, Effort(1, 2, 2, 0))["peak_bytes"] / 2**20)
    """
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    small, large, again = map(float, done.stdout.split())
    assert small == pytest.approx(24, abs=6)
    assert large == pytest.approx(104, abs=6)
    assert again == pytest.approx(24, abs=6)


@pytest.mark.parametrize("method", TRAINED)
def test_every_method_has_a_profile(method):
    model = method_named(method).model().from_preset("tiny")
    b = batch()
    model.fit_tokenizer(b.expressions)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    record = profile(model, b, clip=1.0, effort=SHORT)
    counts = count_parameters(model)
    assert record["model"] == method
    assert record["parameters"] == {"total": counts.total, "trained": counts.trained}
    assert record["image"] == [128, 128]
    assert (record["device"].split()[0], record["dtype"]) == ("cpu", "float32")
    assert record["threads"] == torch.get_num_threads()
    assert record["versions"]["torch"] == torch.__version__
    one, many = record["inference"]
    assert (one["expressions"], many["expressions"]) == (1, 16)
    assert one["flops"] < many["flops"] <= 17 * one["flops"]  # sentences of other lengths
    step = record["step"]
    assert (step["batch"], step["images"]) == (2, 1)
    assert step["flops"] > 2 * one["flops"]  # forward and backward, two expressions
    for case in (one, many, step):
        assert case["peak_bytes"] > 4 * counts.total
        assert case["per_second"] > 0
    assert step["peak_bytes"] > 16 * counts.trained  # weights, gradients and two moments
    assert all(torch.allclose(p, before[name], atol=1e-5) for name, p in model.named_parameters())
    json.dumps(record, allow_nan=False)


def test_a_profile_needs_something_to_measure():
    model = method_named("control").model().from_preset("tiny")
    b = batch()
    with pytest.raises(ConfigError, match="masks"):
        profile(model, Batch(b.images, b.expressions, b.image_index))
    with pytest.raises(ConfigError, match=r"\[0\]"):
        profile(model, b, expressions=[0])


def test_names_of_precisions():
    names = [dtype_name(p) for p in ("32-true", "bf16-mixed", "16-mixed", "transformer-engine")]
    assert names == ["float32", "bfloat16, mixed", "float16, mixed", "transformer-engine"]


def test_command(root, tmp_path_factory, tmp_path, monkeypatch, capsys):
    """It takes what `rrsis fit` takes, trains nothing and needs no weights."""
    mask = np.zeros((64, 80), dtype=np.bool_)
    mask[20:40, 20:50] = True
    scenes = [
        ReferredScene(np.full((64, 80, 3), n, np.uint8), [Referent(mask, ["the ship"], "ship")], "train")
        for n in range(6)
    ]
    tree = tmp_path_factory.mktemp("profile") / "data"
    write_rrsisd(tree, scenes)
    saved = tmp_path / "config.yaml"
    saved.write_text("ckpt_path: null\nweights_only: null\n")  # `rrsis fit` saves these two beside the rest
    configs = [root / "configs" / "control.yaml", root / "configs" / "overlays" / "control_tiny.yaml", saved]
    arguments = [part for path in configs for part in ("--config", str(path))]
    out = tmp_path / "there" / "profile.json"
    options = ["--data.batch_size", "4", "--trainer.max_epochs", "3", "--seconds", "0", "--expressions", "1", "3"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["profile", *arguments, *options, "--data.root", str(tree), "--out", str(out)])
    assert main() == 0
    record = json.loads(out.read_text())
    assert (record["model"], record["preset"], record["step"]["batch"]) == ("control", "tiny", 4)
    assert record["image"] == [64, 80]
    assert [i["expressions"] for i in record["inference"]] == [1, 3]
    assert "M parameters" in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {"config.yaml", "there"}
    monkeypatch.setattr(sys, "argv", ["profile", *arguments, "--data.root", "nowhere", "--out", str(out)])
    with pytest.raises(MissingDataError, match="nowhere"):
        main()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "file/p.json"], "file cannot be written (File exists)"),
        (["--out", "folder"], "folder cannot be written (it is a folder)"),
        (["--out", "p.json", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["--out", "p.json", "--seconds", "-1"], "--seconds must be from 0 to 3600, got -1.0"),
        (["--out", "p.json", "--expressions", "0"], "--expressions must be at least 1, got [0]"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_built(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert run(options) == 2
    assert capsys.readouterr().err == f"profile: {said}\n"
