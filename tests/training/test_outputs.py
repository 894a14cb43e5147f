"""What a run writes: whole or not at all, and one line where it cannot be written."""

import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rrsis_zoo.cli import run
from rrsis_zoo.errors import OutputError
from rrsis_zoo.files import read_lines
from rrsis_zoo.metrics.saved import open_saved
from rrsis_zoo.provenance import code_version
from rrsis_zoo.terminal import guarded
from rrsis_zoo.training.callbacks import PredictionWriter
from rrsis_zoo.training.gallery import PICTURES, Gallery


def trainer(folder, size=1, rank=0, **more):
    return SimpleNamespace(
        log_dir=str(folder), default_root_dir=str(folder), world_size=size, global_rank=rank,
        is_global_zero=rank == 0, **more,
    )  # fmt: skip


def batch(n=3, side=40, text="the ship"):
    rng = np.random.default_rng(0)
    masks = [torch.from_numpy(rng.normal(size=(side, side))) for _ in range(n)]
    return SimpleNamespace(native=masks), SimpleNamespace(
        sample_ids=[f"d/test/{i}/0" for i in range(n)], expressions=[text] * n
    )


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# -- predictions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "rank", "name"), [(1, 0, "predictions.jsonl"), (2, 1, "predictions.1.jsonl")])
def test_predictions_have_their_name_when_they_are_complete(tmp_path, size, rank, name):
    writer, at = PredictionWriter(), trainer(tmp_path / "run", size, rank)
    outputs, samples = batch(text="a\u2028ship\u0085 \ud800")
    writer.on_predict_start(at, None)
    writer.on_predict_batch_end(at, None, outputs, samples, 0)
    assert not (tmp_path / "run" / name).exists()
    writer.on_predict_end(at, None)
    writer.teardown(at, None, "predict")
    assert names(tmp_path / "run") == [name]
    assert len(read_lines(tmp_path / "run" / name)) == 3
    saved = open_saved(tmp_path / "run" / name, "pred")
    assert (saved.read("d/test/1/0") == (outputs.native[1] > 0).numpy()).all()
    assert saved.facts["d/test/1/0"]["expression"] == "a\u2028ship\u0085 ?"


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_that_ends_early_leaves_no_predictions(tmp_path, begun):
    writer, at = PredictionWriter(), trainer(tmp_path)
    (tmp_path / "predictions.jsonl").write_text("earlier\n")
    if begun:
        writer.on_predict_start(at, None)
        writer.on_predict_batch_end(at, None, *batch(), 0)
    writer.on_exception(at, None, KeyboardInterrupt())
    writer.teardown(at, None, "predict")
    assert names(tmp_path) == ["predictions.jsonl"]
    assert (tmp_path / "predictions.jsonl").read_text() == "earlier\n"


def test_predictions_on_a_full_disk(tmp_path, limited_files):
    writer, at = PredictionWriter(), trainer(tmp_path)
    with limited_files(300):
        writer.on_predict_start(at, None)
        writer.on_predict_batch_end(at, None, *batch(1), 0)  # still in memory
        with pytest.raises(OutputError, match=r"predictions\.jsonl cannot be written \(File too large\)"):
            writer.on_predict_end(at, None)
    assert names(tmp_path) == []
    with limited_files(1000):
        writer.on_predict_start(at, None)
        with pytest.raises(OutputError, match=r"predictions\.jsonl cannot be written \(File too large\)"):
            writer.on_predict_batch_end(at, None, *batch(50, 100), 0)
        writer.on_exception(at, None, OutputError())
    assert names(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/run cannot be written"):
        writer.on_predict_start(trainer(tmp_path / "file" / "run"), None)


# -- gallery -----------------------------------------------------------------------------------------------------------


def gallery(folder, n=5):
    about = {"expression": "a", "category": None, "kind": None, "no_target": False}
    records = [SimpleNamespace(sample_id=f"d/test/{i}/0", **about) for i in range(n)]
    data = SimpleNamespace(test_split="test", records=lambda split: records)
    shown = Gallery()
    shown._wanted = [record.sample_id for record in records]
    pictures = {kind: bytes(700) for kind in PICTURES}
    shown._kept = {name: {"iou": 0.5, "pictures": pictures} for name in shown._wanted}
    return shown, trainer(folder, datamodule=data)


def test_a_gallery_is_whole_or_not_there(tmp_path, limited_files):
    shown, at = gallery(tmp_path / "run")
    shown.on_test_end(at, None)
    assert len(names(tmp_path / "run" / "gallery")) == 5 * 5 + 1
    shown, at = gallery(tmp_path / "full")
    with limited_files(600), pytest.raises(OutputError, match=r"gallery/00/image\.webp cannot be written \(File too"):
        shown.on_test_end(at, None)
    assert names(tmp_path / "full") == []
    shown, at = gallery(tmp_path / "full")
    with limited_files(750), pytest.raises(OutputError, match=r"gallery\.json cannot be written \(File too large\)"):
        shown.on_test_end(at, None)
    assert names(tmp_path / "full") == []
    (tmp_path / "run" / "file").write_text("")
    shown, at = gallery(tmp_path / "run" / "file")
    with pytest.raises(OutputError, match=r"file/gallery cannot be written"):
        shown.on_test_end(at, None)


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(root, tree, tmp_path_factory):
    """Arguments of a tiny control that was trained, and the folder it was trained in."""
    folder = tmp_path_factory.mktemp("trained")
    configs = [root / "configs" / name for name in ("control.yaml", "overlays/control_tiny.yaml")]
    common = [word for path in configs for word in ("--config", str(path))]
    common += ["--data.root", str(tree), "--data.batch_size", "4", "--data.num_workers", "0"]
    common += ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_progress_bar", "false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["rrsis"])
        fit = ["fit", *common, "--trainer.max_epochs", "1", "--trainer.check_val_every_n_epoch", "1"]
        assert run([*fit, "--trainer.limit_train_batches", "1"]) == 0
    return SimpleNamespace(common=common, ckpt=folder / "runs/control/fit/version_0/checkpoints/best.ckpt")


@pytest.fixture
def command(trained, tmp_path, monkeypatch, capsys):
    """Runs a command in a folder of its own as the shell does; returns status and what it says as an error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rrsis"])

    def ran(name, *more):
        capsys.readouterr()
        arguments = [name, *trained.common, *more]
        if name != "fit":
            arguments += ["--ckpt_path", str(trained.ckpt)]
        status = guarded(lambda: run(arguments))
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rrsis: ")]
        return status, said

    return ran


def parts(folder):
    return [path for path in folder.rglob("*") if ".part" in path.name]


@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict"])
def test_a_file_where_the_runs_should_be(command, tmp_path, name):
    (tmp_path / "runs").write_text("")
    status, said = command(name)
    assert (status, len(said)) == (2, 1), said
    assert "runs" in said[0]
    assert names(tmp_path) == ["runs"]


@pytest.mark.parametrize(("name", "limit"), [("validate", 100), ("test", 100), ("predict", 100), ("test", 3000)])
def test_a_full_disk(command, tmp_path, limited_files, name, limit):
    """The configuration, then what the command is for."""
    with limited_files(limit):
        status, said = command(name)
    assert (status, len(said)) == (2, 1), said
    assert "cannot be written (File too large)" in said[0]
    assert f"runs/control/{name}/version_0" in said[0]
    assert not parts(tmp_path)


def test_git_takes_no_lock(monkeypatch):
    """`git status` notes what it saw, under a lock that stays behind on a full disk and stops every later commit."""
    asked = []

    def run_git(command, **options):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "x", "")

    monkeypatch.setattr(subprocess, "run", run_git)
    assert code_version()["commit"] == "x"
    assert any("status" in command for command in asked)
    assert all(command[:2] == ["git", "--no-optional-locks"] for command in asked)


@pytest.mark.parametrize("taken", ["predictions.jsonl", "config.yaml"])
def test_a_folder_where_a_file_should_be(command, tmp_path, taken):
    (tmp_path / "runs/control/predict/version_0" / taken).mkdir(parents=True)
    status, said = command("predict", "--trainer.logger.init_args.version", "0")
    assert (status, len(said)) == (2, 1), said
    assert taken in said[0]
    assert not parts(tmp_path)


def test_predictions_are_there(command, tmp_path):
    assert command("predict") == (0, [])
    lines = read_lines(tmp_path / "runs/control/predict/version_0/predictions.jsonl")
    assert len({json.loads(line)["sample_id"] for line in lines}) == 10
