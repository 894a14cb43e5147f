"""Curves of runs from their logs, and `rrsis plot`."""

import csv

import numpy as np
import pytest
from PIL import Image

from rrsis_zoo.cli import run
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.tables.curves import curves_figure, drawn_curves, named_apart, read_curves


def write_log(folder, steps=30, rate=1e-3, **columns):
    """A log as our trainings write it: rows of rates, of losses and of scores."""
    folder.mkdir(parents=True)
    names = ["epoch", "lr-AdamW/a", "lr-AdamW/b", "step", "train/loss", "val/miou", "val/n", "val/oiou"]
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for step in range(steps):
            writer.writerow({"lr-AdamW/a": rate, "lr-AdamW/b": rate / 2, "step": step})
            loss = columns.get("loss", 5.0) / (1 + step)
            writer.writerow({"epoch": step // 10, "step": step, "train/loss": loss})
            if step % 10 == 9:
                writer.writerow({"step": step, "val/miou": 2.0 * step, "val/oiou": 1.5 * step, "val/n": 3.0})
    return folder


def test_what_a_log_says(tmp_path):
    curves = read_curves(write_log(tmp_path / "version_0"))
    assert curves.name == "version_0"
    assert curves.points["val/miou"] == [(9, 18.0), (19, 38.0), (29, 58.0)]
    assert curves.points["train/loss"][:2] == [(0, 5.0), (1, 2.5)]
    assert len(curves.points["lr-AdamW/a"]) == 30
    assert read_curves(tmp_path / "version_0" / "metrics.csv") == curves


def test_a_run_that_is_still_training(tmp_path):
    """Its last line is not complete, and a loss may have become infinite."""
    folder = write_log(tmp_path / "run", steps=3)
    with (folder / "metrics.csv").open("a") as file:
        file.write("0,,,3,inf,,,\n0,,,4,0.12")
    assert [step for step, _ in read_curves(folder).points["train/loss"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (None, MissingDataError, "give the folder of a run of rrsis fit"),
        ("", DataFormatError, "not the log of a run"),
        ("a,b\n1,2\n", DataFormatError, "no rows with a column 'step'"),
        ("step,train/loss\n0,much\n", DataFormatError, "line 2: train/loss is 'much' at step '0'"),
        ("step,train/loss\n,1.0\n", DataFormatError, "line 2: train/loss is '1.0' at step ''"),
        ("step,val/n\n0,3\n", DataFormatError, "neither a loss nor validation scores nor learning rates"),
        ("step\n" + "x" * 200_000 + "\n", DataFormatError, "not a CSV file"),
    ],
)
def test_what_is_no_log(tmp_path, text, kind, said):
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(kind, match=said):
        read_curves(tmp_path)


def test_a_folder_of_runs_is_named(tmp_path):
    write_log(tmp_path / "version_0")
    with pytest.raises(MissingDataError, match="it contains the runs version_0"):
        read_curves(tmp_path)


def test_names(tmp_path):
    """As short as they differ, and with the folder above, which names the method."""
    folders = [tmp_path / "a" / "control" / "version_0", tmp_path / "b" / "control" / "version_0"]
    runs = [read_curves(write_log(folder, steps=2)) for folder in folders]
    assert [run.name for run in named_apart(runs[:1], folders[:1])] == ["control/version_0"]
    assert [run.name for run in named_apart(runs, folders)] == ["a/control/version_0", "b/control/version_0"]


def shows(path, colour):
    return bool((np.asarray(Image.open(path).convert("RGB")) == colour).all(axis=-1).any())


def test_every_run_has_its_colour(tmp_path):
    blue, orange = (31, 119, 180), (255, 127, 14)
    folders = [write_log(tmp_path / "x" / "version_0"), write_log(tmp_path / "x" / "version_$1", steps=500, rate=2e-3)]
    for count in (1, 2):
        out = tmp_path / f"{count}.png"
        curves_figure([read_curves(folder) for folder in folders[:count]], out)
        assert (shows(out, blue), shows(out, orange)) == (True, count == 2)


def test_no_curve_leaves_its_panel(tmp_path):
    """Also if a later run is better, or longer."""
    folders = [write_log(tmp_path / "a", steps=20), write_log(tmp_path / "b", steps=40, loss=9.0, rate=3e-3)]
    figure = drawn_curves([read_curves(folder) for folder in folders])
    assert [axis.get_title() for axis in figure.axes] == [
        "training loss", "validation: mIoU (line), oIoU (dashed)", "learning rates",
    ]  # fmt: skip
    for axis in figure.axes:
        assert len(axis.lines) >= 2
        for line in axis.lines:
            for values, (low, high) in ((line.get_xdata(), axis.get_xlim()), (line.get_ydata(), axis.get_ylim())):
                assert low <= min(values) <= max(values) <= high
    assert figure.axes[1].get_ylim()[0] == 0


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "runs" / "version_0")
    write_log(tmp_path / "runs" / "version_1")
    assert run(["plot", "runs/version_0"]) == 0
    assert capsys.readouterr().out == "wrote curves.png\n"
    size = Image.open("curves.png").size
    assert run(["plot", "runs/version_0", "runs/version_1", "--out", "new/two.png"]) == 0
    assert Image.open("new/two.png").size[1] > size[1]  # a line more in the legend
    with pytest.raises(ConfigError, match=r"two\.xyz: a figure's name must end in one of"):
        run(["plot", "runs/version_0", "--out", "two.xyz"])
