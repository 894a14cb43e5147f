"""TensorBoard, in the run's own folder."""

import pytest
from lightning.pytorch.loggers import CSVLogger

import warm
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.training import tensorboard_log
from rrsis_zoo.training.tensorboard_log import RunTensorBoard


def test_a_training_with_it(tmp_path):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra tensorboard is not installed"
    )
    made = warm.command(["data", "make", "--root", "made", "--scenes", "12", "--size", "64"], tmp_path)
    assert made.returncode == 0, made.stderr
    configs = ["control", "overlays/control_tiny", "overlays/tensorboard"]
    words = [word for name in configs for word in ("--config", name)]
    small = ["--data.root", "made", "--data.batch_size", "4", "--trainer.check_val_every_n_epoch", "1"]
    small += ["--trainer.log_every_n_steps", "1"]
    for version in (0, 1):
        done = warm.command(["fit", *words, *small, "--trainer.max_epochs", "1"], tmp_path)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "runs" / "control" / f"version_{version}"
        assert (folder / "metrics.csv").is_file()
        assert len(list(folder.glob("events.out.tfevents.*"))) == 1
        events = accumulators.EventAccumulator(str(folder)).Reload()
        assert {"train/loss", "val/miou", "val/oiou"} <= set(events.Tags()["scalars"])
        (point,) = events.Scalars("val/miou")
        shown = [row.split(",") for row in (folder / "metrics.csv").read_text().splitlines()]
        column = shown[0].index("val/miou")
        (logged,) = [float(row[column]) for row in shown[1:] if row[column]]
        assert point.value == pytest.approx(logged, rel=1e-5)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["control"]


def test_without_it(monkeypatch):
    monkeypatch.setattr(tensorboard_log, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"TensorBoard is not installed: pip install 'rrsis-zoo\[tensorboard\]'"):
        RunTensorBoard()


def test_it_follows_the_log(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    (tmp_path / "mine" / "version_3").mkdir(parents=True)
    board = RunTensorBoard()
    board.follow(CSVLogger(str(tmp_path), "mine"))
    assert board.log_dir == str(tmp_path / "mine" / "version_4")
    board.follow(CSVLogger(str(tmp_path), "mine", "seed1"))
    assert board.log_dir == str(tmp_path / "mine" / "seed1")
