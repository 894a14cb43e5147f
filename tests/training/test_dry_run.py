"""`rrsis fit --profile`: what a training would cost, without training; and levers on speed through the command."""

import re
import shlex

import pytest
import torch

import warm
from rrsis_zoo.commands.fit import instantiate
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.control.module import ControlModule
from rrsis_zoo.methods.rsrefseg.module import RSRefSegModule
from rrsis_zoo.models.types import Batch
from rrsis_zoo.training.dry_run import Report, Steps, dry_run, largest_fit, repeated, tried
from rrsis_zoo.training.memory import PeakMemory, advised


@pytest.fixture
def words(tree, root):
    configs = root / "configs"
    return [
        "--config", configs / "control.yaml", "--config", configs / "overlays/control_tiny.yaml",
        "--config", configs / "overlays/cpu.yaml", "--data.dataset", "rrsis-d", "--data.root", tree,
        "--data.num_workers", "0", "--data.batch_size", "4",
    ]  # fmt: skip


def test_the_command(words, tmp_path):
    """It prints the costs and writes nothing."""
    done = warm.command(["fit", *words, "--profile"], tmp_path)
    assert done.returncode == 0, done.stderr
    for line in (
        "control, preset tiny, on the CPU",
        "step time ",
        "epoch ",
        "loading ",
        "peak memory ",
        "largest batch ",
    ):
        assert line in done.stdout
    assert "for 4 expressions, the median of" in done.stdout
    assert "what a GPU would hold cannot be known here" in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_page(root, tree, tmp_path):
    """The commands of docs/speed.md, with other data; its Python; its targets."""
    page = (root / "docs" / "speed.md").read_text(encoding="utf-8")
    lines = [
        line.partition("#")[0]
        for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
        for line in block.split("\n")
    ]
    commands = [shlex.split(line) for line in lines if line.strip()]
    assert [words[:2] for words in commands] == [["rrsis", "fit"], ["make", "gpu"], ["make", "speed"]]
    data = ["--data.dataset", "rrsis-d", "--data.root", str(tree), "--data.batch_size", "4", "--config", "overlays/cpu"]
    done = warm.command([*commands[0][1:], *data], tmp_path)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| ([a-z ]+) \| ", page, re.MULTILINE)
    for row in ("step time", "epoch", "loading", "peak memory", "largest batch"):
        assert row in rows
        assert f"{row} " in done.stdout
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{words[1]}: " in makefile for words in commands[1:])
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "docs/speed.md", "exec"), {})


def test_only_a_training_is_profiled(words, tmp_path):
    done = warm.command(["test", *words, "--untrained", "--profile"], tmp_path)
    assert done.returncode == 2
    assert "--profile is for rrsis fit, not for rrsis test: leave it out" in done.stderr


def test_what_it_measures(words):
    report = dry_run(*instantiate([str(word) for word in words]), seconds=0.0)
    assert report.steps is not None
    assert report.steps.batch == 4
    assert report.steps.seconds > 0
    assert report.per_epoch == 3  # 14 samples
    assert not report.tried
    assert report.steps.peak is None or 2**20 < report.steps.peak < 2**32
    assert report.largest is None or report.largest >= 4


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 16, 37, 511, 512, 9999])
@pytest.mark.parametrize("start", [1, 4, 16])
def test_the_largest_batch_is_found(limit, start):
    asked = []

    def fits(size):
        asked.append(size)
        return size <= limit

    assert largest_fit(fits, start) == min(limit, 512)
    assert len(asked) <= 18
    assert len(set(asked)) == len(asked)


def test_nothing_fits():
    assert largest_fit(lambda size: False, 4) is None

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert tried(full) is None
    report = Report("it", None, 0.1, 10, 1, None, True)
    assert "the configured batch does not fit: lower --data.batch_size" in report.text()


def test_report():
    text = Report("it", Steps(4, 0.5, 6, 3 * 2**30), 0.7, 1000, 1, 11, True).text()
    assert "step time      0.500 s for 4 expressions" in text
    assert "epoch          8.3 min for 1000 steps" in text
    assert "training waits for it: raise --data.num_workers" in text
    assert "peak memory    3.00 GiB" in text
    assert "largest batch  11 expressions a step fit" in text


def test_a_batch_is_repeated():
    batch = Batch(
        [torch.zeros(3, 2, 2, dtype=torch.uint8), torch.ones(3, 2, 2, dtype=torch.uint8)],
        ["a", "b", "c"], torch.tensor([1, 0, 1]), [torch.zeros(2, 2, dtype=torch.bool)] * 3, ["x", "y", "z"],
    )  # fmt: skip
    more = repeated(batch, 5)
    assert more.expressions == ["a", "b", "c", "a", "b"]
    assert [int(image[0, 0, 0]) for image in more.images] == [1, 0, 1, 1, 0]
    assert more.image_of == [0, 1, 2, 3, 4]


def test_a_full_gpu_gets_advice():
    message = r"the GPU's memory is full \(CUDA out of memory\): lower --data.batch_size .*expandable_segments:True"
    with pytest.raises(ConfigError, match=message), advised():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …")


def test_peak_memory_grows_with_what_is_held():
    layer = torch.nn.Linear(4, 4)
    memory = PeakMemory(layer, torch.device("cpu"))
    if memory.peak() is None:
        pytest.skip("this system does not tell the resident memory")
    held = torch.ones(2**25)  # 128 MiB
    assert 2**26 < memory.peak() < 2**29
    del held


# -- settings ----------------------------------------------------------------------------------------------------------


def test_levers_through_the_command(words, tmp_path):
    """They do not get into a checkpoint's settings, except those that the training itself depends on."""
    levers = ["--model.compile", "off", "--model.fused", "true", "--trainer.max_steps", "1", "--name", "one"]
    done = warm.command(["fit", *words, *levers, "--trainer.limit_val_batches", "1"], tmp_path)
    assert done.returncode == 0, done.stderr
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    content = torch.load(checkpoint, weights_only=True)
    assert content["hyper_parameters"]["fused"] is True
    assert not {"compile", "frozen_dtype"} & content["hyper_parameters"].keys()
    assert content["optimizer_states"][0]["param_groups"][0]["fused"] is True


@pytest.mark.parametrize(
    ("setting", "precision", "clip", "says"),
    [
        ({"frozen_dtype": "bfloat16"}, "32-true", None, "frozen_dtype bfloat16 needs --trainer.precision bf16-mixed"),
        ({"fused": True}, "16-mixed", 1.0, "fused AdamW unscales the gradients of 16-mixed itself"),
    ],
)
def test_settings_that_contradict_the_trainers(setting, precision, clip, says):
    module = ControlModule("tiny", **setting)
    with pytest.raises(ConfigError, match=says):
        module.check_speed(precision, clip)
    module.check_speed("bf16-mixed", clip)


@pytest.mark.parametrize(
    ("setting", "says"),
    [({"compile": "fast"}, "unknown compile 'fast'"), ({"frozen_dtype": "int8"}, "unknown frozen_dtype 'int8'")],
)
def test_unknown_values(setting, says):
    with pytest.raises(ConfigError, match=says):
        ControlModule("tiny", **setting)


def test_fused_is_the_same_up_to_rounding():
    def trained(fused):
        torch.manual_seed(0)
        groups = ("backbone", "text", "decoder")
        module = ControlModule("tiny", learning_rates=dict.fromkeys(groups, 1e-3), fused=fused)
        optimiser = module.make_optimiser()
        for p in module.parameters():
            p.grad = torch.full_like(p, 0.01) * torch.arange(p.numel()).view_as(p).remainder(7)
        for _ in range(3):
            optimiser.step()
        return [p.detach().clone() for p in module.parameters()]

    for ours, theirs in zip(trained(True), trained(None), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_module_makes_its_model_fast_once():
    module = RSRefSegModule("mini", compile="default", frozen_dtype="bfloat16", gradient_checkpointing=["sam.*"])
    module.make_fast(training=True)
    stored = module.model.stored_frozen
    assert stored
    assert all(part.module._compiled_call_impl is not None for part in module.model.compiled_parts().values())
    module.make_fast(training=True)
    assert module.model.stored_frozen == stored
    assert not any("_orig_mod" in name for name in module.state_dict())
