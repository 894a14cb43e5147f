"""Offline runs of the real command with the shipped overlay, read back from W&B's own file."""

import json
import os
import struct
import subprocess
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from wandb.proto import wandb_internal_pb2

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.figures import Shown
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.training import wandb_gradients
from rrsis_zoo.training.callbacks import spread
from rrsis_zoo.training.loggers import QuietWandbLogger, wandb_logger
from rrsis_zoo.training.wandb_gradients import GradientNorms, group_norms
from rrsis_zoo.training.wandb_panels import PredictionPanels, caption, panel
from rrsis_zoo.training.wandb_record import RunRecord, class_rows

BLOCK, HEADER = 32768, 7


class Written:
    """An offline run: history by key, configuration, artefacts, folder of its files."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "files"
        self.history: dict[str, list] = {}
        self.config: dict = {}
        self.artifacts: dict = {}
        self.group = None
        (path,) = folder.glob("*.wandb")
        for record in read(path):
            kind = record.WhichOneof("record_type")
            if kind == "history":
                for key, value in nested(record.history.item, {}).items():
                    self.history.setdefault(key, []).append(value)
            elif kind == "run":
                nested(record.run.config.update, self.config)
                self.group = record.run.run_group
            elif kind == "config":
                nested(record.config.update, self.config)
            elif kind == "artifact":
                self._keep(record.artifact)

    def _keep(self, artifact) -> None:
        files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
        said = json.loads(artifact.metadata or "{}")
        self.artifacts[artifact.name] = SimpleNamespace(
            type=artifact.type, files=files, metadata=said, aliases=list(artifact.aliases)
        )

    def table(self, key: str) -> dict:
        """A table as its artefact has it; beside the history only its text is kept."""
        (said,) = self.history[key]
        (path,) = [a.files[f"{key}.table.json"] for a in self.artifacts.values() if f"{key}.table.json" in a.files]
        assert (self.files / said["path"]).is_file()
        return json.loads(path.read_text())


def nested(items, into: dict) -> dict:
    """Put items with their paths of keys into a dictionary."""
    for item in items:
        inner = into
        *path, last = list(item.nested_key) or [item.key]
        for name in path:
            inner = inner.setdefault(name, {})
        inner[last] = json.loads(item.value_json)
    return into


def read(path: Path):
    """Give the records of a .wandb file: LevelDB's log format after a header of its own."""
    data, place, whole = path.read_bytes(), HEADER, b""
    assert data[:4] == b":W&B"
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:  # too little is left of the block for a chunk
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        whole += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # a whole record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


@pytest.fixture(scope="module")
def runs(warm_rrsis, root, tree, tmp_path_factory):
    """Training and test of a tiny preset, one epoch, with the shipped overlay; and the folder that they ran in."""
    folder = tmp_path_factory.mktemp("wandb")
    (folder / "home").mkdir()
    names = ["rsrefseg.yaml", "overlays/rsrefseg_tiny.yaml", "overlays/wandb.yaml"]
    common = [part for name in names for part in ("--config", str(root / "configs" / name))]
    common += ["--data.root", str(tree), "--data.batch_size", "2", "--trainer.log_every_n_steps", "1"]
    fit = ["--trainer.max_epochs", "2", "--trainer.check_val_every_n_epoch", "1"]
    test = ["runs/rsrefseg/fit/version_0"]
    nothing = {"WANDB_API_KEY": "", "WANDB_MODE": "", "NETRC": str(folder / "none"), "WANDB_SILENT": "true"}
    gone = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "XDG_"))}
    environment = {**gone, **nothing, "HOME": str(folder / "home"), "WANDB_RUN_GROUP": "together"}
    common_of_test = ["--config", str(root / "configs" / "overlays" / "wandb.yaml")]  # as docs/wandb.md says
    for command in (["fit", *common, *fit], ["test", *test, *common_of_test]):
        done = subprocess.run([*warm_rrsis, *command], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    written = [Written(path) for path in (folder / "runs" / "wandb").glob("offline-run-*")]
    by_stage = {run.config["stage"]: run for run in written}
    assert len(written) == len(by_stage) == 2
    return SimpleNamespace(folder=folder, fit=by_stage["fit"], test=by_stage["test"])


def groups():
    return list(method_named("rsrefseg").model().from_preset("tiny").parameter_groups())


def test_metrics_rates_and_gradients(runs):
    history = runs.fit.history
    assert len(history["val/miou"]) == 2
    steps = len(history["train/loss"])
    assert steps >= 6
    for name in groups():
        assert len(history[f"lr-AdamW/{name}"]) == len(history[f"gradients/{name}"]) == steps
        assert min(history[f"gradients/{name}"]) > 0
    squares = sum(np.square(history[f"gradients/{name}"]) for name in groups())
    assert np.sqrt(squares) == pytest.approx(history["gradients/total"], rel=1e-5)


def test_panels_of_every_validation(runs, tree):
    data = RRSISDataModule("rrsis-d", root=str(tree), num_workers=0)
    expressions = {record.expression for record in data.records("val")}
    for said in runs.fit.history["val/predictions"]:
        assert said["count"] == len(said["filenames"]) == len(said["captions"]) == 6
        assert all(any(text in said for text in expressions) and "IoU" in said for said in said["captions"])
        assert all({"prediction", "truth"} <= set(masks) for masks in said["all_masks"])
        image = np.array(Image.open(runs.fit.files / said["filenames"][0]))
        truth = np.array(Image.open(runs.fit.files / said["all_masks"][0]["truth"]["path"]))
        height, width = image.shape[:2]
        assert (height, width) in [(96, 192), (90, 240)]
        assert truth.shape == (height, width)
        assert not truth[:, width // 2 :].any()
        reddish, bluish = image[truth == 2].mean(0)[0], image[truth == 2].mean(0)[2]
        assert max(reddish, bluish) > 180  # the squares of the scenes lie under the true mask
        assert image[:, width // 2 :].std() > 1


def test_configuration_and_code(runs, root, tree):
    for run, stage in ((runs.fit, "fit"), (runs.test, "test")):
        assert run.group == "together"
        config = run.config
        assert (config["method"], config["stage"]) == ("rsrefseg", stage)
        assert config["model"]["class_path"] == "rrsis_zoo.methods.rsrefseg.module.RSRefSegModule"
        assert config["model"]["init_args"]["learning_rates"]["prompter"] == 4.0e-3
        assert config["data"]["root"] == str(tree)
        assert config["dataset"] == "tree"
        assert config["trainer"]["precision"] == "32-true"
        assert config["seed_everything"] == 0
        commit = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
        assert config["code"]["commit"] == (commit.stdout.strip() or None)
    assert runs.test.config["ckpt_path"].endswith("best.ckpt")
    evaluation = runs.test.config["evaluation"]
    # data of one's own in RRSIS-D's layout are not RRSIS-D
    assert (evaluation["protocol"], evaluation["dataset"], evaluation["n"]) == ("canonical", "tree", 10)
    assert (evaluation["layout"], evaluation["published_split"]) == ("rrsis-d", False)
    assert (evaluation["untrained"], evaluation["partial"]) == (False, None)
    assert len(evaluation["weights_sha256"]) == 64


def test_tables_and_results(runs):
    folder = runs.folder / "runs" / "rsrefseg" / "test" / "version_0"
    record = json.loads((folder / "test.json").read_text())
    assert runs.test.history["test/miou"] == [pytest.approx(record["metrics"]["miou"], rel=1e-6)]
    table = runs.test.table("test/per_category")
    assert table["columns"][:4] == ["category", "n", "oiou", "miou"]
    (row,) = table["data"]
    assert row[:4] == ["ship", 10, *(pytest.approx(record["metrics"][name]) for name in ("oiou", "miou"))]
    assert {row[0] for row in runs.test.table("test/per_words")["data"]} == set(record["breakdown"]["per_words_n"])
    shown = runs.test.table("test/predictions")
    assert len(shown["data"]) == 8
    assert all(0 <= row[2] <= 1 and "square" in row[1] for row in shown["data"])
    assert all({"prediction", "truth"} <= set(row[3]["masks"]) for row in shown["data"])


def test_artefacts(runs):
    (checkpoint,) = [a for a in runs.fit.artifacts.values() if a.type == "model"]
    assert checkpoint.files["best.ckpt"].is_file()
    assert checkpoint.files["best.ckpt"].is_absolute()
    assert set(checkpoint.aliases) == {"best", "latest"}
    assert checkpoint.metadata["score"] == pytest.approx(max(runs.fit.history["val/miou"]), rel=1e-5)
    (results,) = [a for a in runs.test.artifacts.values() if a.type == "results"]
    assert set(results.files) == {"test.json", "test_samples.jsonl.gz", "predictions.png"}
    assert all(path.is_absolute() and path.is_file() for path in results.files.values())
    assert results.metadata["protocol"] == "canonical"


def test_nothing_is_written_elsewhere(runs):
    assert {path.name for path in runs.folder.iterdir()} == {"home", "runs"}
    home = runs.folder / "home"
    assert not [path for path in home.rglob("*") if "wandb" in path.relative_to(home).as_posix()]


def test_dashboards_show_what_is_logged(runs, dashboards):
    """No panel without data, and no learning rate, gradient, table or panel without a place."""
    logged = set(runs.fit.history) | set(runs.test.history)
    named, patterns = dashboards.keys(dashboards.workspace("somebody", "rrsis-zoo"))
    # the scenes of this test have no kinds of expression; test_class_rows has
    assert named - logged == {"test/per_kind"}
    for key in logged:
        if key.startswith(("train/", "gradients/", "lr-", "test/per_")) or key.endswith("/predictions"):
            assert key in named or any(pattern.fullmatch(key) for pattern in patterns), key


# -- parts -------------------------------------------------------------------------------------------------------------


def test_group_norms():
    a, b, c = (torch.nn.Parameter(torch.zeros(n)) for n in (2, 1, 3))
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    norms = group_norms([{"params": [a], "name": "x"}, {"params": [b, c], "name": "y"}, {"params": [c], "name": "z"}])
    assert {name: float(norm) for name, norm in norms.items()} == {"x": 3.0, "y": 4.0, "total": 5.0}
    assert group_norms([{"params": [c], "name": "z"}]) == {}


def test_without_wandb_nothing_is_done(tree, tmp_path, monkeypatch):
    """The callbacks of the overlay stay where another logger is chosen, as a local sweep does."""

    def called(*arguments):
        raise AssertionError("done without W&B")

    monkeypatch.setattr(wandb_gradients, "group_norms", called)
    monkeypatch.setattr("rrsis_zoo.training.wandb_panels.shown", called)
    monkeypatch.setattr("rrsis_zoo.training.wandb_record.resolved", called)
    rates = dict.fromkeys(method_named("control").model().from_preset("tiny").parameter_groups(), 1e-3)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=CSVLogger(tmp_path), max_epochs=1, limit_train_batches=1, log_every_n_steps=1,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        use_distributed_sampler=False, callbacks=[GradientNorms(), PredictionPanels(), RunRecord()],
    )  # fmt: skip
    data = RRSISDataModule(root=str(tree), batch_size=2, eval_batch_size=4, num_workers=0)
    trainer.fit(method_named("control").module()(preset="tiny", learning_rates=rates), datamodule=data)
    said = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()[0]
    assert "val/miou" in said
    assert "gradients" not in said


def test_only_the_first_process_has_a_logger(tmp_path, monkeypatch):
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))  # kept: somebody's own choice
    logger = QuietWandbLogger(save_dir=str(tmp_path), offline=True)
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "WANDB_DATA_DIR")
    loggers = [CSVLogger(tmp_path), logger]
    assert wandb_logger(SimpleNamespace(is_global_zero=True, loggers=loggers)) is logger
    assert wandb_logger(SimpleNamespace(is_global_zero=False, loggers=loggers)) is None
    assert wandb_logger(SimpleNamespace(is_global_zero=True, loggers=loggers[:1])) is None


def test_a_large_image_is_made_smaller():
    image = np.full((400, 800, 3), 90, np.uint8)
    mask = np.zeros((400, 800), bool)
    mask[100:200, 400:600] = True
    row = Shown(image, "the ship", np.zeros((4, 4), np.float32), mask, None)
    pixels, masks = panel(row, 200)
    assert pixels.shape == (100, 400, 3)
    assert (pixels[:, :200] == 90).all()
    assert list(masks) == ["prediction"]
    assert np.argwhere(masks["prediction"]["mask_data"]).min(0).tolist() == [25, 100]
    assert np.argwhere(masks["prediction"]["mask_data"]).max(0).tolist() == [49, 149]
    assert caption(row) == "“the ship”"
    assert caption(Shown(image, "the ship", row.heatmap, mask, mask)) == "“the ship”  IoU 1.00"


def test_samples_are_spread():
    assert spread(list("abcdefghi"), 3) == ["a", "e", "i"]
    assert spread(list("ab"), 5) == ["a", "b"]
    assert spread(list("abc"), 1) == ["a"]
    assert spread([], 4) == []


def test_class_rows():
    metrics = {name: {"a": 1.0, "b": None} for name in ("oiou", "miou", *(f"pr@0.{t}" for t in range(5, 10)))}
    breakdown = {"per_kind_n": {"a": 3, "b": 1}, **{f"per_kind_{name}": value for name, value in metrics.items()}}
    assert class_rows(breakdown, "kind") == [["a", 3, *[1.0] * 7], ["b", 1, *[None] * 7]]
    assert class_rows(breakdown, "category") == []
