"""`rrsis runs`: what each folder is, how far it came, its scores."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from filelock import FileLock
from made_runs import Row, make

from rrsis_zoo.cli import run
from rrsis_zoo.errors import MissingDataError
from rrsis_zoo.tables.listing import list_runs, listing

CLASS = "rrsis_zoo.methods.rsrefseg.module.RSRefSegModule"
LOG = """epoch,step,train/loss,val/miou,val/oiou,val/pr@0.5,val/miou+oiou
0,4,0.5,,,,
0,4,,20.5,30.25,1.0,50.75
1,9,,22.0,28.0,2.0,50.0
2,14,0.4,,,,
"""


def fit(folder, monitor="val/miou", log=LOG, point=None, last=True, name=None):
    (folder / "checkpoints").mkdir(parents=True)
    callback = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"monitor": monitor}}
    config = {
        "model": {"class_path": CLASS, "init_args": {"preset": "tiny", "protocol": "lavt480"}},
        "data": {"dataset": "rrsis-d", "name": name},
        "trainer": {"callbacks": [callback]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.csv").write_text(log)
    if last:
        (folder / "checkpoints" / "last.ckpt").write_text("")
    if point:
        (folder / "checkpoints" / "resume.json").write_text(json.dumps(point))
    return folder


def one(folder):
    (entry,) = list_runs(folder)
    return entry


def test_a_training(tmp_path):
    entry = one(fit(tmp_path / "a"))
    assert (entry.kind, entry.method, entry.preset, entry.data) == ("fit", "rsrefseg", "tiny", "rrsis-d")
    assert (entry.name, entry.state, entry.detail, entry.protocol) == ("a", "finished", "epoch 3", "lavt480")
    assert entry.scores == {"miou": 22.0, "oiou": 28.0, "pr@0.5": 2.0, "epoch": 2}
    text = listing([entry]).splitlines()[1]
    assert "val mIoU 22.00, oIoU 28.00 (epoch 2)" in text
    entry = one(fit(tmp_path / "b", monitor="val/miou+oiou", name="mine"))  # the score its checkpoint is chosen by
    assert (entry.scores["miou"], entry.scores["epoch"], entry.data) == (20.5, 1, "mine")


@pytest.mark.parametrize(
    ("made", "state", "detail"),
    [
        ({"point": {"epoch": 3, "step": 15, "finished": True}}, "finished", "epoch 3"),
        ({"point": {"epoch": 3, "step": 15, "finished": False}}, "stopped", "epoch 3"),
        ({"point": {"epoch": 5, "step": 25, "finished": False}}, "stopped", "epoch 5"),
        ({"last": False}, "incomplete", "epoch 3"),
        ({"last": False, "log": ""}, "incomplete", "no step"),
        ({"log": "epoch,step\nx,\x00\n"}, "finished", ""),
    ],
)
def test_how_far_it_came(tmp_path, made, state, detail):
    entry = one(fit(tmp_path / "a", **made))
    assert (entry.state, entry.detail) == (state, detail)


def test_a_training_that_runs(tmp_path):
    folder = fit(tmp_path / "a", point={"epoch": 3, "step": 15, "finished": False})
    with FileLock(folder / ".lock"):
        # flock does not know of threads: another process asks
        code = "import sys; from rrsis_zoo.tables.listing import list_runs; print(list_runs(sys.argv[1])[0].state)"
        done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "running"
    assert one(folder).state == "stopped"


def test_tests_predictions_and_validations(tmp_path):
    suite = make(tmp_path / "suite", [Row("a", 0.6), Row("b", 0.3, more={"partial": {"n": 4, "of": 9}})], seeds=[1])
    for name in "ab":
        result = json.loads((suite / f"{name}--synthetic--seed1" / "job.json").read_text())["result"]
        place = suite / f"{name}--synthetic--seed1" / "test" / "version_0"
        (place / "test.json").write_text(json.dumps(result))
        place.rename(tmp_path / f"test_{name}")
    (tmp_path / "test_a" / "config.yaml").write_text("ckpt_path: /x/best.ckpt\n")
    entry = one(tmp_path / "test_a")
    assert (entry.kind, entry.data, entry.state, entry.checkpoint) == (
        "test",
        "synthetic test",
        "finished",
        "/x/best.ckpt",
    )
    assert entry.scores["miou"] > 0
    assert f"mIoU {entry.scores['miou']:.2f}" in listing([entry])
    assert "seen" not in listing([entry])
    trained_on_test = {"dataset": "synthetic", "split": "test", "selected_on": "test"}
    result = json.loads((tmp_path / "test_a" / "test.json").read_text())
    (tmp_path / "test_a" / "test.json").write_text(json.dumps({**result, "lineage": {"trainings": [trained_on_test]}}))
    assert one(tmp_path / "test_a").seen == "targets"
    assert listing([one(tmp_path / "test_a")]).endswith("; its weights have seen the split: targets")
    assert one(tmp_path / "test_b").detail == "only 4 of 9 samples were scored"
    (tmp_path / "test_b" / "test.json").write_text("{}")
    assert (one(tmp_path / "test_b").state, one(tmp_path / "test_b").detail) == ("incomplete", "test.json is damaged")

    predict, validate = tmp_path / "m" / "predict" / "p", tmp_path / "m" / "validate" / "v"
    predict.mkdir(parents=True)
    (predict / "predictions.0.jsonl").write_text("{}\n{}\n")
    (predict / "predictions.1.jsonl").write_text("{}\n")
    validate.mkdir(parents=True)
    (validate / "metrics.csv").write_text("epoch,step,val/miou,val/oiou\n0,0,12.5,\n")
    assert (one(predict).kind, one(predict).method, one(predict).scores) == ("predict", "m", {"masks": 3})
    assert "3 masks" in listing([one(predict)])
    assert (one(validate).kind, one(validate).state) == ("validate", "finished")
    assert one(validate).scores == {"miou": 12.5, "oiou": None}


def test_all_of_a_folder_old_shapes_too(tmp_path, capsys):
    """In the order of their start; nothing inside a run is taken for another one."""
    places = ["m/fit/new", "m/version_0", "suite/job/fit/version_0"]
    for i, place in enumerate(places):
        folder = fit(tmp_path / place)
        (folder / "checkpoints" / "metrics.csv").write_text(LOG)
        os.utime(folder / "config.yaml", (1_700_000_000 - i, 1_700_000_000 - i))
    (tmp_path / "wandb" / "run").mkdir(parents=True)
    (tmp_path / "wandb" / "run" / "metrics.csv").write_text(LOG)
    (tmp_path / "link").symlink_to(tmp_path)
    assert run(["runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [str(tmp_path / place) for place in reversed(places)]
    assert run(["runs", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == [entry.plain() for entry in list_runs(tmp_path)]
    assert said[0]["scores"]["miou"] == 22.0
    assert said[0]["date"].startswith("2023-11-1")


def test_nothing_and_nowhere(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingDataError, match=r"there is no folder runs: `rrsis fit` writes"):
        run(["runs"])
    (tmp_path / "runs").mkdir()
    assert run(["runs"]) == 0
    assert capsys.readouterr().out == "there are no runs in runs\n"


def test_a_strangers_files(tmp_path):
    folder = fit(tmp_path / "a")
    for text in ("[1, 2]", "model: [1]\ndata: 3\ntrainer: {callbacks: [4, {class_path: 5}]}\n", "{", "\xff\x00"):
        (folder / "config.yaml").write_text(text)
        assert one(folder).kind == "fit"
    (folder / "config.yaml").write_text('data: {name: "x\\u202e\\n\\ty"}\n')
    assert "x� y" in listing([one(folder)])


def test_it_is_light():
    code = (
        "import sys; from rrsis_zoo.cli import run; run(['runs', '.']); "
        "assert not {'torch', 'lightning', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
