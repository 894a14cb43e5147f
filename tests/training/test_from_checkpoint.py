"""`rrsis test CKPT`: what a checkpoint says of itself is enough, and what is asked for counts more."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from rrsis_zoo import cli
from rrsis_zoo.commands.from_checkpoint import with_checkpoint
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError, MissingDataError, WeightsMismatchError
from rrsis_zoo.loading import load_model
from rrsis_zoo.metrics.protocols import PROTOCOLS
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.tables.records import Result, read_record
from rrsis_zoo.weights.checkpoints import META, weights_hash
from rrsis_zoo.weights.training import TRAINING, checked_training

CONFIGS = Path(__file__).parents[2] / "configs"
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]


def configs(method="control"):
    files = [CONFIGS / f"{method}.yaml", CONFIGS / "overlays" / f"{method}_tiny.yaml"]
    return [word for file in files for word in ("--config", str(file))]


@pytest.fixture(scope="module")
def trained(tree, tmp_path_factory):
    """The folder of a run whose settings are not the config's, nor the data module's defaults."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["fit", *configs(), "--data.root", str(tree), "--data.batch_size", "4", "--data.num_workers", "0"]
    words += ["--data.text", "sent", "--data.eval_batch_size", "3", "--model.init_args.settings", "{image_size: 96}"]
    words += ["--trainer.precision", "bf16-mixed", "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "2"]
    words += ["--trainer.check_val_every_n_epoch", "1", "--name", "mine", *QUIET]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["rrsis"])
        assert cli.run(words) == 0
    return folder / "runs" / "control" / "fit" / "mine"


@pytest.fixture(scope="module")
def best(trained):
    return trained / "checkpoints" / "best.ckpt"


@pytest.fixture
def rrsis(monkeypatch, capfd, tmp_path):
    """Run a command in this process, in a folder of its own; return status and output."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["rrsis", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return ended.value.code, out, err

    return run


def one_line(done, *texts):
    status, _, err = done
    lines = [line for line in err.splitlines() if line.startswith("rrsis: ")]
    assert (status, len(lines)) == (2, 1), err
    assert "Traceback" not in err
    for text in texts:
        assert text in lines[0]
    assert not Path("runs").exists()


def record(name):
    return json.loads(Path("runs/control/test", name, "test.json").read_text())


def edited(best, tmp_path, **changes):
    """Return a copy of a checkpoint with other top-level entries; None removes one."""
    content = torch.load(best, weights_only=True)
    for key, value in changes.items():
        content.pop(key, None)
        if value is not None:
            content[key] = value
    torch.save(content, tmp_path / "other.ckpt")
    return tmp_path / "other.ckpt"


# -- the record --------------------------------------------------------------------------------------------------------


def test_a_checkpoint_says_what_it_was_trained_on(best, tree):
    content = torch.load(best, weights_only=True)
    training = checked_training(content[TRAINING], "best.ckpt")
    assert training is not None
    assert training.settings == {
        "root": str(tree),
        "text": "sent",
        "batch_size": 4,
        "eval_batch_size": 3,
        "num_workers": 0,
    }
    assert (training.precision, training.step) == ("bf16-mixed", content["global_step"])
    data = RRSISDataModule(root=str(tree), text="sent")
    assert training.data is not None
    assert (training.data.name, training.data.published) == (tree.name, False)
    assert (training.data.train, training.data.val) == (len(data.records("train")), len(data.records("val")))
    assert training.validation is not None
    kept = next(s for name, s in content["callbacks"].items() if name.startswith("ModelCheckpoint"))
    assert training.validation.scores["miou"] == pytest.approx(float(kept["best_model_score"]), abs=1e-4)
    assert training.validation.scores["n"] == training.data.val
    assert type(content[TRAINING]["validation"]["scores"]["n"]) is int


def test_settings_of_the_data_are_plain(tree):
    """numpy's numbers and paths would make the whole checkpoint unreadable without running code."""
    import numpy as np

    data = RRSISDataModule(root=Path(tree), batch_size=np.int64(3), augment={"random_boxes": 0.5})  # type: ignore[arg-type]
    assert data.settings == {"root": str(tree), "batch_size": 3, "augment": {"random_boxes": 0.5}}
    assert all(type(value) in (str, int, dict) for value in data.settings.values())
    assert RRSISDataModule().settings == {}


# -- enough ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_enough(rrsis, trained, best, tree):
    """By its path, by its run's folder, and in the form with all configs: the same numbers."""
    full = [*configs(), "--data.root", tree, "--data.text", "sent", "--data.eval_batch_size", "3", *QUIET]
    full += ["--model.init_args.settings", "{image_size: 96}", "--trainer.precision", "bf16-mixed"]
    for name, words in {
        "path": [best],
        "folder": [trained],
        "option": ["--ckpt_path", best],
        "configs": [*full, "--ckpt_path", best],
    }.items():
        status, _, err = rrsis("test", *words, "--name", name, "--trainer.enable_progress_bar", "false")
        assert status == 0, err
    records = [record(name) for name in ("path", "folder", "option", "configs")]
    assert records[0] == records[1] == records[2] == records[3]
    assert (records[0]["dataset"], records[0]["precision"], records[0]["preset"]) == (tree.name, "bf16-mixed", "tiny")
    assert records[0]["reading"]["text"] == "sent"


def test_what_is_asked_for_counts_more(rrsis, trained):
    words = ["--data.text", "raw", "--trainer.precision", "32-true", "--name", "a", *QUIET]
    status, _, err = rrsis("test", *words, trained)
    assert status == 0, err
    assert (record("a")["reading"]["text"], record("a")["precision"]) == ("raw", "32-true")
    Path("more.yaml").write_text("data: {test_split: val}\n")
    status, _, err = rrsis("test", trained, "--config", "more.yaml", "--name", "b", *QUIET)
    assert status == 0, err
    assert (record("b")["split"], record("b")["reading"]["text"]) == ("val", "sent")


def test_validate_and_predict_and_score(rrsis, trained):
    status, out, err = rrsis("validate", trained, *QUIET)
    assert status == 0, err
    assert "val/miou" in out
    status, out, err = rrsis("predict", trained, "--with-targets", "--name", "p", *QUIET)
    assert status == 0, err
    folder = Path("runs/control/predict/p")
    masks = {name: folder / f"{name}.jsonl" for name in ("predictions", "targets")}
    assert all(f"wrote {path}" in out for path in masks.values())
    facts = json.loads(masks["targets"].read_text().splitlines()[0])
    assert {"sample_id", "scene_id", "expression", "size", "counts"} <= facts.keys()
    words = ["--predictions", masks["predictions"], "--targets", masks["targets"], "--json", "--breakdown"]
    status, out, err = rrsis("score", *words)
    assert status == 0, err
    scored = json.loads(out)
    assert rrsis("test", trained, "--name", "t", *QUIET)[0] == 0
    tested = record("t")
    assert {name: scored[name] for name in tested["metrics"]} == tested["metrics"]
    assert scored["breakdown"] == tested["breakdown"]


def test_a_folder_of_convert(rrsis, trained, best, tree, tmp_path):
    assert rrsis("convert", trained, "ours")[0] == 0
    one_line(rrsis("test", "ours"), "does not keep where its data", "rrsis-d layout", "--data.root FOLDER")
    status, _, err = rrsis("test", "ours", "--data.root", tree, "--name", "folder", *QUIET)
    assert status == 0, err
    assert rrsis("test", best, "--name", "file", *QUIET)[0] == 0
    one, other = record("folder"), record("file")
    assert one == other
    load_model(best).save_pretrained("plain")
    said = rrsis("test", "plain", "--data.root", tree)[2]
    assert "plain does not say what data it was trained on" in said
    status, _, err = rrsis("test", "plain", "--data.dataset", "rrsis-d", "--data.root", tree, "--name", "p", *QUIET)
    assert status == 0, err
    assert (record("p")["preset"], record("p")["weights_sha256"]) == ("tiny", one["weights_sha256"])


# -- not enough --------------------------------------------------------------------------------------------------------


def test_a_miniature_of_the_package(rrsis, tree):
    """A source says what it is as a checkpoint does; only the data are asked for."""
    words = ["--data.dataset", "rrsis-d", "--data.root", tree, "--data.num_workers", "0"]
    words += ["--trainer.limit_test_batches", "1", "--name", "mini"]
    with pytest.warns(UserWarning, match="presence is not tested: no sentence of this split is foreign to any"):
        status, _, err = rrsis("test", "mini:rsrefseg", *words, *QUIET)
    assert status == 0, err
    of_test = json.loads(Path("runs/rsrefseg/test/mini/test.json").read_text())
    assert of_test["weights_sha256"] == weights_hash(load_model("mini:rsrefseg"))


def test_a_checkpoint_of_an_earlier_version(rrsis, best, tree, tmp_path):
    """It loads everywhere; without its data there is one line on what to give."""
    old = edited(best, tmp_path, **{TRAINING: None})
    assert isinstance(load_model(old), ReferringSegmenter)
    given = f"`rrsis test {old} --data.dataset rrsis-d --data.root FOLDER`"
    one_line(rrsis("test", old), "does not say what data it was trained on", given, "the --config of its training")
    one_line(rrsis("test", old, "--data.root", tree), "does not say what data")
    status, _, err = rrsis(
        "test", old, "--data.dataset", "rrsis-d", "--data.root", tree, "--name", "a", "--data.text", "sent", *QUIET
    )
    assert status == 0, err
    assert record("a")["untrained"] is False
    assert rrsis("convert", old, "ours")[0] == 0
    assert "Published results" not in Path("ours/README.md").read_text()
    assert TRAINING not in json.loads(Path("ours/config.json").read_text())


def test_the_config_beside_an_old_checkpoint_is_named(rrsis, trained, best, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    shutil.move(edited(best, tmp_path, **{TRAINING: None}), copy / "checkpoints" / "best.ckpt")
    one_line(rrsis("test", "copy"), f"`--config {copy / 'config.yaml'}`, its run's")
    status, _, err = rrsis("test", "copy", "--config", copy / "config.yaml", "--name", "a", *QUIET)
    assert status == 0, err


def test_data_that_are_not_here(rrsis, best, tree, tmp_path):
    content = torch.load(best, weights_only=True)
    content[TRAINING]["settings"]["root"] = "/somebody/elses/data"
    torch.save(content, tmp_path / "moved.ckpt")
    done = rrsis("test", "moved.ckpt")
    one_line(done, "moved.ckpt was trained on data in /somebody/elses/data", "--data.root FOLDER", "does not exist")
    status, _, err = rrsis("test", "moved.ckpt", "--data.root", tree, "--name", "a", *QUIET)
    assert status == 0, err
    # scenes would be generated there
    content[TRAINING]["settings"] = {"dataset": "synthetic", "root": str(tmp_path / "absent")}
    torch.save(content, tmp_path / "moved.ckpt")
    assert "does not exist here" in rrsis("predict", "moved.ckpt")[2]
    assert not (tmp_path / "absent").exists()


def test_settings_of_one_dataset_do_not_go_to_another(best, tmp_path):
    words, _ = with_checkpoint(["test", str(best), "--data.dataset", "refsegrs"])
    config = json.loads(words[words.index("--config") + 1])
    assert config["data"] == {"batch_size": 4, "eval_batch_size": 3, "num_workers": 0}
    (tmp_path / "more.yaml").write_text("data: {dataset: refsegrs}\n")
    again, _ = with_checkpoint(["test", "--config", str(tmp_path / "more.yaml"), str(best)])
    assert json.loads(again[2]) == config
    shipped, _ = with_checkpoint(["test", str(best), "--config=overlays/refsegrs"])
    assert json.loads(shipped[2]) == config
    same, _ = with_checkpoint(["test", str(best), "--data.dataset=rrsis-d"])
    assert json.loads(same[2])["data"]["text"] == "sent"


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["test"], ["rrsis test needs a model", "rrsis test CHECKPOINT"]),
        (["test", "nowhere.ckpt"], ["there is no file", "nowhere.ckpt", "the folder of a run"]),
        (["test", "BEST", "BEST"], ["takes one checkpoint", "--options"]),
        (["test", "BEST", "--ckpt_path", "BEST"], ["BEST and --ckpt_path: give one of them"]),
        (["test", "."], ["has no checkpoints/best.ckpt"]),
        (["test", "--ckpt_path"], ["path is empty"]),
        (["test", "RUNS"], ["give one of the runs in it", "fit/mine"]),
        (["test", "BEST", "--protocol", "canonicel"], ["unknown protocol 'canonicel'", "did you mean 'canonical'?"]),
        (["validate", "BEST", "--protocol", "all"], ["--protocol all is for rrsis test"]),
        (["test", "BEST", "--with-targets"], ["--with-targets is for rrsis predict"]),
        (["test", "BEST", "--data.txt", "raw"], ["data.txt"]),
    ],
)
def test_refusals(rrsis, best, words, texts):
    places = {"BEST": str(best), "RUNS": str(best.parents[4])}
    one_line(rrsis(*(places.get(w, w) for w in words)), *(t.replace("BEST", str(best)) for t in texts))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"step": 1}, "precision"),
        ({"precision": "32-true", "step": 1, "settings": {"rot": "x"}}, "rot"),
        ({"precision": "32-true", "step": 1, "validation": {"split": "val"}}, "validation.protocol"),
        ([1], "valid"),
    ],
)
def test_a_damaged_record(rrsis, best, tmp_path, content, text):
    one_line(rrsis("test", edited(best, tmp_path, **{TRAINING: content})), "other.ckpt", text)


def test_a_record_imports_nothing(rrsis, best, tmp_path):
    """A class that a stranger's checkpoint names where a setting of the data belongs is a wrong value."""
    evil = {"class_path": "os.system", "init_args": {"command": "touch owned"}}
    settings = {"root": str(tmp_path), "augment": evil, "name": evil}
    content = {"precision": "32-true", "step": 1, "settings": settings}
    status, _, err = rrsis("test", edited(best, tmp_path, **{TRAINING: content}))
    assert status == 2, err
    assert not os.path.exists("owned")


def test_any_preset_and_settings_are_found_again(best, tmp_path):
    content = torch.load(best, weights_only=True)
    words, _ = with_checkpoint(["test", str(best)])
    model = json.loads(words[2])["model"]["init_args"]
    assert {"preset": "tiny", "settings": {"image_size": 96}, "protocol": "canonical"}.items() <= model.items()
    assert model["learning_rates"] == content["hyper_parameters"]["learning_rates"]  # for the record of the test
    assert "weights" not in model
    odd = {"protocol": "no such", "betas": {1: 2}, "floor": float("nan"), "later": 1, "decay": torch.zeros(1)}
    content["hyper_parameters"] = {**content["hyper_parameters"], **odd}
    torch.save(content, tmp_path / "odd.ckpt")
    words, _ = with_checkpoint(["test", str(tmp_path / "odd.ckpt")])
    again = json.loads(words[2])["model"]["init_args"]
    assert again == {name: value for name, value in model.items() if name not in odd}
    content["hyper_parameters"] = {}  # a checkpoint of a module that was built by hand
    torch.save(content, tmp_path / "hand.ckpt")
    words, _ = with_checkpoint(["test", str(tmp_path / "hand.ckpt")])
    assert json.loads(words[2])["model"]["init_args"] == {"preset": "tiny", "settings": {"image_size": 96}}
    content[META]["config"]["image_sizes"] = 1
    torch.save(content, tmp_path / "hand.ckpt")
    with pytest.raises(WeightsMismatchError, match="image_sizes"):
        with_checkpoint(["test", str(tmp_path / "hand.ckpt")])


def test_other_commands_are_left_alone():
    for words in (["fit", "x"], ["test", "--help"], ["test", "--config", "c", "--ckpt_path", "p"], ["predict", "-h"]):
        assert with_checkpoint(words) == (words, None)
    with pytest.raises(MissingDataError, match="there is no file"):
        with_checkpoint(["test", "--trainer.devices", "1", "--safe", "nowhere"])
    with pytest.raises(ConfigError, match="takes one checkpoint, got a, b"):
        with_checkpoint(["test", "--untrained", "a", "--x=y", "b"])


# -- protocols ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words_matter(tree, tmp_path_factory):
    """A method whose result for a sentence depends on its batch in text mode ``published``."""
    folder = tmp_path_factory.mktemp("words")
    few = ["--data.batch_size", "4", "--data.num_workers", "0", "--trainer.max_steps", "1"]
    words = ["fit", *configs("rsrefseg"), "--data.root", str(tree), *few, "--trainer.check_val_every_n_epoch", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["rrsis"])
        assert cli.run([*words, "--trainer.limit_val_batches", "1", *QUIET]) == 0
    return next(folder.rglob("last.ckpt"))


def test_all_protocols_from_one_pass(rrsis, words_matter, monkeypatch):
    """Each number is that of a test under that protocol alone; every image is encoded once."""
    encoded = []
    encode = ReferringSegmenter.encode_image
    monkeypatch.setattr(
        ReferringSegmenter, "encode_image", lambda self, images: (encoded.append(len(images)), encode(self, images))[1]
    )
    status, out, err = rrsis("test", words_matter, "--protocol", "all", "--name", "all", *QUIET)
    assert status == 0, err
    images, together = sum(encoded), json.loads(Path("runs/rsrefseg/test/all/test.json").read_text())
    assert list(together["protocols"]) == list(PROTOCOLS)
    assert "Test metric" not in out  # one table
    lines = [line.split() for line in out.splitlines() if line.split() and line.split()[0] in PROTOCOLS]
    assert [line[0] for line in lines] == list(PROTOCOLS)
    encoded.clear()
    for name in PROTOCOLS:
        assert rrsis("test", words_matter, "--protocol", name, "--name", name, *QUIET)[0] == 0
        alone = read_record(Path("runs/rsrefseg/test", name, "test.json"), Result, "")
        assert (alone["protocol"], "protocols" in alone) == (name, False)
        said = together["protocols"][name]
        assert {k: said[k] for k in ("eval_size", "text_mode")} == {k: alone[k] for k in ("eval_size", "text_mode")}
        assert {k: said[k] for k in alone["metrics"]} == alone["metrics"]
        line = next(line for line in lines if line[0] == name)
        assert line[2:5] == [f"{alone['n']}", *(f"{alone['metrics'][k]:.2f}" for k in ("oiou", "miou"))]
        if name == "canonical":
            read_record(Path("runs/rsrefseg/test/all/test.json"), Result, "")
            assert {k: v for k, v in together.items() if k != "protocols"} == alone
    assert sum(encoded) == images * len(PROTOCOLS)
    canonical, published = (together["protocols"][name] for name in ("canonical", "rsrefseg"))
    assert canonical["oiou"] != published["oiou"]  # the text mode matters to this model


def test_the_saved_configuration_can_be_used_again(rrsis, trained, best):
    assert rrsis("test", trained, "--name", "a", "--protocol", "lavt480", *QUIET)[0] == 0
    saved = Path("runs/control/test/a/config.yaml")
    content = yaml.safe_load(saved.read_text())
    assert content["model"]["init_args"]["protocol"] == "lavt480"
    assert (content["name"], content["protocol"], content["with_targets"]) == (None, None, False)
    status, _, err = rrsis("test", "--config", saved, "--ckpt_path", best)
    assert status == 0, err
    assert record("version_0") == record("a")
