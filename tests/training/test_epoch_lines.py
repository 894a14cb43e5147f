"""Progress that can be read from a log."""

import csv
import io
import re
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.trainer.states import TrainerFn

import warm
from rrsis_zoo.training import epoch_lines
from rrsis_zoo.training.epoch_lines import EpochLines, lines_for_logs

SMALL = ["--config", "control", "--config", "overlays/control_tiny", "--data.root", "made", "--data.batch_size", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("logged")
    done = warm.command(["data", "make", "--root", "made", "--scenes", "12", "--size", "64"], place)
    assert done.returncode == 0, done.stderr
    return place


def test_a_training_whose_output_is_a_file(folder):
    """One line per epoch, with the numbers of the log; no carriage returns."""
    words = ["--trainer.max_epochs", "3", "--trainer.check_val_every_n_epoch", "2", "--trainer.log_every_n_steps", "1"]
    # a step of two batches, so that each loss in the log is that of every other batch
    done = warm.command(["fit", *SMALL, *words, "--trainer.accumulate_grad_batches", "2"], folder)
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    rows = list(csv.DictReader((folder / "runs" / "control" / "fit" / "version_0" / "metrics.csv").open()))
    for epoch, line in enumerate(lines):
        losses = [float(row["train/loss"]) for row in rows if row["train/loss"] and row["epoch"] == str(epoch)]
        shown = float(re.search(r"train/loss ([\d.]+)", line)[1])
        assert min(losses) * 0.7 < shown < max(losses) * 1.4  # whole, not divided by the batches of a step
        assert re.search(r"  lr \d\.\de-\d\d( to \d\.\de-\d\d)?  ", line)
    (row,) = [row for row in rows if row["val/miou"]]
    assert f"  val/miou {float(row['val/miou']):.2f}  val/oiou {float(row['val/oiou']):.2f}  " in lines[1]
    assert "val/" not in lines[0] + lines[2]
    assert lines[0].endswith(" left")
    assert lines[2].endswith(" in all")


def test_none_if_progress_is_switched_off(folder):
    done = warm.command(["fit", *SMALL, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"], folder)
    assert done.returncode == 0, done.stderr
    assert "epoch 1" not in done.stdout


def test_a_terminal_has_its_bar(monkeypatch):
    assert [type(line) for line in lines_for_logs([], None)] == [EpochLines]
    assert lines_for_logs([TQDMProgressBar()], None) == []
    assert lines_for_logs([], False) == []
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", screen)
        assert lines_for_logs([], None) == []


def test_a_notebook_has_its_bar(monkeypatch):
    from ipykernel.kernelapp import IPKernelApp

    assert [type(line) for line in lines_for_logs([], None)] == [EpochLines]  # imported, but this is no kernel
    monkeypatch.setattr(IPKernelApp, "_instance", IPKernelApp())
    assert lines_for_logs([], None) == []


def trainer(**state):
    plain = {
        "current_epoch": 0, "global_step": 0, "max_epochs": 10, "max_steps": -1, "accumulate_grad_batches": 1,
        "optimizers": [], "callbacks": [], "is_global_zero": True, "callback_metrics": {},
        "state": SimpleNamespace(fn=TrainerFn.FITTING),
    }  # fmt: skip
    return SimpleNamespace(**plain | state)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"current_epoch": 1}, "epoch 2/10  train/loss 2.0000  6.7 min left"),
        ({"max_epochs": -1, "max_steps": 50, "global_step": 25}, "epoch 1  train/loss 2.0000  1.7 min left"),
        ({"max_steps": 40, "global_step": 20}, "epoch 1/10  train/loss 2.0000  1.7 min left"),
        ({"max_epochs": -1}, "epoch 1  train/loss 2.0000  1.7 min in all"),
    ],
)
def test_time_left(monkeypatch, capsys, state, said):
    """From the epochs, or the steps if they end the training sooner."""
    lines, clock = EpochLines(), [1000.0]
    monkeypatch.setattr(epoch_lines.time, "monotonic", lambda: clock[0])
    lines.on_train_start(trainer(), None)
    clock[0] += 100.0
    for loss in (1.0, 3.0):
        lines.on_train_batch_end(trainer(), None, {"loss": torch.tensor(loss)}, None, 0)
    lines.on_train_epoch_end(trainer(**state), None)
    assert capsys.readouterr().out.strip() == said


def test_other_processes_print_nothing(capsys):
    lines, other = EpochLines(), trainer(is_global_zero=False)
    lines.setup(other, None, "fit")
    lines.on_train_start(other, None)
    lines.on_train_epoch_end(other, None)
    assert capsys.readouterr().out == ""


def test_an_evaluation_tells_how_far_it_is(monkeypatch, capsys):
    """After every tenth, but not more than twice a minute."""
    lines, clock = EpochLines(), [0.0]
    monkeypatch.setattr(epoch_lines.time, "monotonic", lambda: clock[0])
    running = trainer(num_test_batches=[200])
    for index in range(200):
        lines.on_test_batch_end(running, None, None, None, index)
        clock[0] += 1.0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "testing: batch 40 of 200  2.7 min left"
    assert [line.split()[2] for line in told] == ["40", "80", "120", "160", "200"]
