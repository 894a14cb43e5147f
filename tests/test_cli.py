"""The real command, with every shipped config."""

import csv
import gzip
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco

import warm
from kinds import TRAINED, UNTRAINED
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd
from rrsis_zoo.methods.registry import method_at
from rrsis_zoo.metrics.breakdown import breakdown, evaluate, without_nan
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.metrics.samples import read_samples

CONFIGS = Path(__file__).parent.parent / "configs"
TOP = sorted(p.name for p in CONFIGS.glob("*.yaml"))
CPU = ["--trainer.accelerator", "cpu", "--trainer.devices", "1"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    rng = np.random.default_rng(0)
    scenes = []
    for split in ("train", "train", "val", "test", "test"):
        image = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
        mask = np.zeros((96, 96), dtype=np.bool_)
        mask[20:60, 30:70] = True
        scenes.append(
            ReferredScene(image, [Referent(mask, ["the ship left of the pier", "the large ship"], "ship")], split)
        )
    root = tmp_path_factory.mktemp("data") / "tree"
    write_rrsisd(root, scenes)
    return root


def start(rrsis, *arguments, cwd=None, **environment):
    """Start the command as a shell does, where imports or further processes matter."""
    return subprocess.run(
        [*rrsis, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        check=False,
    )


def run(*arguments, cwd=None, **environment):
    """Run the command in a process forked from a warm one: everything is imported already."""
    return warm.command(arguments, cwd, **environment)


def tiny(method):
    return ["--config", CONFIGS / f"{method}.yaml", "--config", CONFIGS / "overlays" / f"{method}_tiny.yaml"]


# -- light -------------------------------------------------------------------------------------------------------------


def test_help_is_quick():
    """Under 0.3 s of processor time; measured about 0.03."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "rrsis_zoo.cli", "--help"], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "fit" in done.stdout
    assert "convert" in done.stdout
    code = (
        "import sys; from rrsis_zoo import cli; cli.run(['--help']); "
        "print([m for m in ('torch', 'lightning', 'numpy') if m in sys.modules])"
    )
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert imported.stdout.strip().endswith("[]")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


def test_version_and_unknown_command(rrsis):
    assert start(rrsis, "--version").stdout.startswith("rrsis-zoo ")
    wrong = start(rrsis, "fti")
    assert wrong.returncode == 2
    known = (
        "calibrate, convert, data, demo, diagnose, fit, models, plot, predict, runs, score, segment, table, test, "
        "validate"
    )
    assert wrong.stderr == f"rrsis: unknown command 'fti' (did you mean 'fit'?); known: {known}\n"


@pytest.mark.parametrize("words", [["models"], ["--help"], ["data", "--help"], ["fit", "--help"]])
def test_output_that_nobody_reads_is_no_fault(rrsis, warm_rrsis, words):
    """As in ``rrsis models | head``. Parsers swallow the fault when they print their help."""
    rrsis = warm_rrsis if words[0] == "fit" else rrsis
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*rrsis, *words], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0 if words[1:] else 141, "")


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: p.relative_to(CONFIGS).as_posix())
def test_every_file_is_yaml_with_real_floats(path):
    """PyYAML reads 1e-4 as a string; every number must be written 1.0e-4."""

    def walk(value):
        if isinstance(value, dict):
            for v in value.values():
                walk(v)
        elif isinstance(value, list):
            for v in value:
                walk(v)
        elif isinstance(value, str):
            with pytest.raises(ValueError, match="could not convert"):
                float(value)

    walk(yaml.safe_load(path.read_text(encoding="utf-8")))


# -- errors ------------------------------------------------------------------------------------------------------------


def one_line(done):
    """The user's error: status 2, one line that starts with `rrsis:`, no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("rrsis: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def listed(done):
    """The user's error if several things are missing: what they are, and the lines below them."""
    lines = done.stderr.splitlines()
    start = lines.index(one_line(done))
    lacks, mends = [], []
    for line in lines[start + 1 :]:
        (mends if line.startswith("      ") else lacks).append(line.strip())
    assert lines[start] == f"rrsis: {len(lacks)} things are missing:"
    return lacks, mends


@pytest.mark.parametrize("config", TOP)
def test_offline_without_weights(config, tmp_path):
    """What is missing, where it is to be had, which command fetches it; weights and data together."""
    command = "test" if Path(config).stem in UNTRAINED else "fit"
    lacks, mends = listed(run(command, "--config", CONFIGS / config, HF_HUB_CACHE=tmp_path, cwd=tmp_path))
    said = "\n".join([*lacks, *mends])
    assert "https://huggingface.co/" in said
    assert re.match("RRSIS-D: no folder (was given and there is none at )?'datasets/rrsis-d'", lacks[-1])
    assert mends[-1] == "--data.root ROOT"
    repositories = {
        "control": ["timm/resnet34.a1_in1k"],
        "rsrefseg": ["facebook/sam-vit-", "google/siglip-so400m"],
        "rsrefseg2": ["facebook/sam2.1-hiera-large sam2.1_hiera_large.pt", "google/siglip2-so400m-patch16-512"],
        "rs2sam2": ["facebook/sam2-hiera-large"],
        "evisam3": ["facebook/sam3 model.safetensors"],
        "lavt": ["timm/swin_base_patch4_window12_384.ms_in22k", "google-bert/bert-base-uncased"],
        "rmsin": ["timm/swin_base_patch4_window12_384.ms_in22k", "google-bert/bert-base-uncased"],
        "sam3_zeroshot": ["facebook/sam3 model.safetensors", "openai/clip-vit-base-patch32 tokenizer.json"],
        "think2seg": ["facebook/sam2.1-hiera-small", "RicardoString/Think2Seg-RS-3B"],
    }
    assert "licence: " in said
    assert ("gated: ask for access" in said) == config.startswith(("evisam3", "sam3"))
    if config.startswith(("rs2sam2", "evisam3")):
        assert "github.com/microsoft/unilm" in said
    fetched = [line for line in mends if line.startswith("hf download ")]
    wanted = repositories[Path(config).stem.removesuffix("_b")]
    assert all(any(line.startswith(f"hf download {name}") for line in fetched) for name in wanted)


def test_without_data(tmp_path):
    said = one_line(run("fit", *tiny("rsrefseg"), "--data.root", tmp_path / "nowhere"))
    for part in ("nowhere", "refs(unc).p", "RMSIN", "licence"):
        assert part in said


def test_unknown_preset_and_group(tree, tmp_path):
    arguments = ["fit", *tiny("rsrefseg"), "--data.root", tree, *CPU]
    assert "known: b, l, mini, tiny" in one_line(run(*arguments, "--model.init_args.preset", "tyni", cwd=tmp_path))
    rates = json.dumps({"promter": 1.0})
    said = one_line(run(*arguments, "--model.init_args.learning_rates", rates, cwd=tmp_path))
    assert "unknown: promter" in said
    assert "missing: mask_decoder" in said


def test_an_option_that_would_be_lost_is_refused():
    """Of several parts of a nested setting jsonargparse keeps the last."""
    options = ["--model.init_args.settings.loss.dice=1.0", "--model.init_args.settings.loss.bce", "2.0"]
    said = one_line(run("fit", *tiny("rsrefseg2"), *options))
    assert said.endswith("--model.init_args.settings.loss '{dice: …, bce: …}'")


@pytest.mark.parametrize("option", ["--model.init_args.warmup_epoch", "--trainer.max_epoch"])
def test_unknown_option_is_named(tree, option):
    """Also the beginning of a known one's name."""
    done = run("fit", *tiny("rsrefseg"), "--data.root", tree, option, "3")
    assert done.returncode == 2
    assert option.rpartition(".")[2] in done.stderr
    assert "Traceback" not in done.stderr


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", TOP)
def test_every_config_is_accepted(config, tree):
    """Parsed and shown as it is, with all its parts."""
    done = run("fit", "--config", CONFIGS / config, "--data.root", tree, "--print_config")
    assert done.returncode == 0, done.stderr
    shown = yaml.safe_load(done.stdout)
    trained = not method_at(shown["model"]["class_path"]).card.training_free
    assert bool(shown["model"]["init_args"]["learning_rates"]) == trained
    assert shown["data"]["root"] == str(tree)


@pytest.mark.parametrize("method", TRAINED)
def test_fit_test_predict(rrsis, method, tree, tmp_path):
    common = [*tiny(method), "--data.root", tree, "--data.batch_size", 2, *CPU]
    fit = run("fit", *common, "--trainer.max_epochs", 2, "--trainer.check_val_every_n_epoch", 1, cwd=tmp_path)
    assert fit.returncode == 0, fit.stderr
    assert "Tip" not in fit.stdout + fit.stderr
    folder = tmp_path / "runs" / method / "fit" / "version_0"
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert any(row["val/miou"] for row in rows)
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert (folder / "config.yaml").is_file()

    best = folder / "checkpoints" / "best.ckpt"
    test = run("test", *common, "--ckpt_path", best, cwd=tmp_path)
    assert test.returncode == 0, test.stderr
    folder = tmp_path / "runs" / method / "test" / "version_0"
    record = json.loads((folder / "test.json").read_text())
    assert (record["protocol"], record["split"], record["n"]) == ("canonical", "test", 4)
    assert record["eval_size"] == "native"
    assert record["text_mode"] == "independent"
    assert len(record["weights_sha256"]) == len(record["annotations_sha256"]) == 64
    training = {"dataset": tree.name, "split": "train", "selected_on": "val"}
    assert record["lineage"] == {"starts": [], "releases": [], "trainings": [training], "unrecorded": []}
    with gzip.open(folder / "test_samples.jsonl.gz", "rt") as file:
        samples = [json.loads(line) for line in file]
    assert [s["sample_id"] for s in samples] == [f"rrsis-d/test/{r:05d}/{k}" for r in (4, 5) for k in (0, 1)]
    again, protocol = read_samples(folder / "test_samples.jsonl.gz"), get_protocol("canonical")
    assert without_nan(evaluate(again, protocol)) == record["metrics"]
    assert without_nan(breakdown(again, protocol)) == record["breakdown"]
    assert record["breakdown"]["per_category_n"] == {"ship": 4}
    assert record["breakdown"]["per_words_n"] == {"relation": 2, "size": 2}
    assert record["reading"] == {
        "layers": "sum_eq_1",
        "text": "raw",
        "threshold": None,
        "mask_cleanup": "none",
        "drop_empty": False,
        "drop_no_target": False,
        "expressions": "all",
        "language": "en",
        "merge": True,
        "questions": "first",
    }
    iou = [s["intersection"] / s["union"] if s["union"] else 0.0 for s in samples]
    assert record["metrics"]["miou"] == pytest.approx(100 * np.mean(iou))
    assert np.array(Image.open(folder / "predictions.png")).std() > 10

    predict = run("predict", *common, "--ckpt_path", best, cwd=tmp_path)
    assert predict.returncode == 0, predict.stderr
    lines = (tmp_path / "runs" / method / "predict" / "version_0" / "predictions.jsonl").read_text().splitlines()
    masks = [json.loads(line) for line in lines]
    assert [m["sample_id"] for m in masks] == [s["sample_id"] for s in samples]
    for mask, sample in zip(masks, samples, strict=True):
        decoded = coco.decode({"size": mask["size"], "counts": mask["counts"]}).astype(bool)
        truth = np.zeros((96, 96), dtype=bool)
        truth[20:60, 30:70] = True
        assert (decoded & truth).sum() == sample["intersection"]
        assert (decoded | truth).sum() == sample["union"]

    # a saved config is a config
    saved = run(
        "validate",
        "--config",
        tmp_path / "runs" / method / "fit" / "version_0" / "config.yaml",
        "--ckpt_path",
        best,
        cwd=tmp_path,
    )
    assert saved.returncode == 0, saved.stderr
    assert "val/miou" in saved.stdout


@pytest.mark.parametrize("method", UNTRAINED)
def test_without_a_training(method, tree, tmp_path):
    """`fit` refuses before it reads anything; test and prediction need no checkpoint."""
    common = [*tiny(method), "--data.root", tree, *CPU]
    fit = run("fit", *common, cwd=tmp_path)
    refusal = f"{method} is training-free: there is nothing to fit; evaluate it with `rrsis test` and the same options"
    assert one_line(fit) == f"rrsis: {refusal}"
    assert "--untrained" in one_line(run("test", *common, cwd=tmp_path))  # the tiny preset has no weights
    assert not (tmp_path / "runs").exists()
    test = run("test", *common, "--untrained", cwd=tmp_path)
    assert test.returncode == 0, test.stderr
    folder = tmp_path / "runs" / method / "test" / "version_0"
    record = json.loads((folder / "test.json").read_text())
    assert (record["n"], record["untrained"], record["parameters"]["trained"]) == (4, True, 0)
    samples = read_samples(folder / "test_samples.jsonl.gz")
    if method == "think2seg":
        assert record["replies"] == {"answered": 4, "no_target": 0, "unreadable": 0}
        assert all("bbox_2d" in subject.reply for subject in samples.subjects)
    else:
        assert "replies" not in record
    predict = run("predict", *common, "--untrained", cwd=tmp_path)
    assert predict.returncode == 0, predict.stderr
    lines = (tmp_path / "runs" / method / "predict" / "version_0" / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 4


def test_wandb_offline_and_early_stopping(tree, tmp_path):
    overlays = [a for name in ("wandb", "early_stopping") for a in ("--config", CONFIGS / "overlays" / f"{name}.yaml")]
    arguments = [
        *tiny("rsrefseg"),
        *overlays,
        "--data.root",
        tree,
        "--data.batch_size",
        2,
        *CPU,
        "--trainer.max_epochs",
        1,
    ]
    environment = {"WANDB_API_KEY": "", "WANDB_MODE": "", "NETRC": tmp_path / "none", "WANDB_SILENT": "true"}
    done = run("fit", *arguments, "--trainer.check_val_every_n_epoch", 1, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "runs" / "wandb").glob("offline-run-*"))
    assert (tmp_path / "runs" / "rsrefseg" / "fit" / "version_0" / "metrics.csv").is_file()


@pytest.mark.slow
def test_two_processes_score_as_one(warm_rrsis, tree, tmp_path):
    """Every sample once, and the same numbers to the last digit; one of the processes has no scene."""
    common = [*tiny("rsrefseg"), "--config", CONFIGS / "overlays" / "wandb.yaml", "--data.root", tree]
    common += ["--data.batch_size", 2, "--trainer.accelerator", "cpu"]
    short = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.check_val_every_n_epoch", 1]
    # one scene is validated: the other process has nothing to do
    fit = start(warm_rrsis, "fit", *common, *short, "--trainer.devices", 2, "--trainer.strategy", "ddp", cwd=tmp_path)
    assert fit.returncode == 0, fit.stderr
    last = tmp_path / "runs" / "rsrefseg" / "fit" / "version_0" / "checkpoints" / "last.ckpt"
    records = []
    for devices, strategy, version in ((1, "auto", 0), (2, "ddp", 1)):
        words = ["test", *common, "--trainer.devices", devices, "--trainer.strategy", strategy, "--ckpt_path", last]
        done = run(*words, cwd=tmp_path) if devices == 1 else start(warm_rrsis, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "runs" / "rsrefseg" / "test" / f"version_{version}"
        record = json.loads((folder / "test.json").read_text())
        gallery = json.loads((folder / "gallery" / "gallery.json").read_text())  # of what both processes saw
        records.append((record["metrics"], record["breakdown"], record["n"], record["weights_sha256"], gallery))
    assert records[0] == records[1]
    assert len(list((tmp_path / "runs" / "wandb").glob("offline-run-*"))) == 3  # one of each command


def test_a_loading_process_error_is_one_line(rrsis, tree, tmp_path):
    """A damaged image is found in a loading process; torch puts that process's traceback into the message."""
    broken = tmp_path / "data"
    shutil.copytree(tree, broken)
    image = sorted((broken / "images" / "rrsisd" / "JPEGImages").iterdir())[0]
    image.write_bytes(image.read_bytes()[:500])
    arguments = [*tiny("rsrefseg"), "--data.root", broken, "--data.batch_size", 2, "--data.num_workers", 1, *CPU]
    done = run("fit", *arguments, "--trainer.max_epochs", 1, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("rrsis: ")]
    assert len(said) == 1
    assert image.name in said[0]
    assert "cannot be read as an image" in said[0]
