"""Every command of the README is run; its Python is run; its table is the one that the benchmark wrote."""

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd
from rrsis_zoo.methods.registry import card, list_models
from rrsis_zoo.pretrained.foundations import find_foundations
from test_cli import CPU, run, tiny

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands_of(block):
    return [line for line in block.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


COMMANDS = [line for block in blocks("sh") for line in commands_of(block)]
(AFTERWARDS,) = [commands_of(block) for block in blocks("sh") if "rrsis runs" in block]
"""What is done with a trained model, one after the other."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a tree of data and a run of the tiny preset, as somebody who follows the README has it."""
    folder = tmp_path_factory.mktemp("reader")
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[20:40, 20:50] = True
    write_rrsisd(
        folder / "data",
        [
            ReferredScene(
                rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), [Referent(mask, ["the ship"], "ship")], split
            )
            for split in ("train", "train", "val", "test")
        ],
    )
    own = folder / "mydata"
    own.mkdir()
    rows = ["image,mask,expression,split"]
    for number, split in enumerate(("train", "train", "val", "test")):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(own / f"{number}.png")
        rows.append(f'{number}.png,"[20, 20, 50, 20, 50, 40, 20, 40]",the ship,{split}')
    (own / "samples.csv").write_text("\n".join(rows))
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "tests").symlink_to(ROOT / "tests")
    (folder / "examples").symlink_to(ROOT / "examples")
    few = ["--data.root", folder / "data", "--data.batch_size", 2, *CPU, "--trainer.max_epochs", 1]
    often = ["--trainer.check_val_every_n_epoch", 1]
    done = run("fit", *tiny("rsrefseg"), *few, *often, "--name", "first", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, few


def test_all_commands_are_known():
    kinds = {shlex.split(line)[0] for line in COMMANDS}
    assert kinds == {"make", "hf", "rrsis"}


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("make")])
def test_make_targets_exist(line):
    words = shlex.split(line, comments=True)
    done = subprocess.run([words[0], "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_parity_commands(warm_parity):
    lines = [c for c in COMMANDS if c.startswith("make parity")]
    assert len(lines) == 2
    for line in lines:
        (case,) = re.findall(r"CASE=(\S+)", line)
        done = subprocess.run([*warm_parity, case], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_fetching_commands_are_those_of_the_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    weights = {"sam": "hub:facebook/sam-vit-large", "siglip": "hub:google/siglip-so400m-patch14-384"}
    with pytest.raises(Exception, match="hf download") as caught:
        find_foundations(card("rsrefseg"), weights)
    lines = [c for c in COMMANDS if c.startswith("hf")]
    assert lines
    assert all(line in str(caught.value) for line in lines)


def test_what_is_done_with_a_trained_model(trained):
    """To the letter: the checkpoint knows the tiny preset and its data, and one command reads what another wrote."""
    folder, _ = trained
    said = {}
    for line in AFTERWARDS:
        done = run(*shlex.split(line)[1:], cwd=folder)
        assert done.returncode == 0, (line, done.stdout + done.stderr)
        said[line.split()[1]] = done.stdout
    assert all(name in said["test"] for name in ("canonical", "evisam3"))
    assert "canonical" in said["score"]
    places = ["fit/first", "predict/first", "test/every_protocol"]
    listed = [row.split()[0] for row in said["runs"].splitlines()]
    assert {f"runs/rsrefseg/{place}" for place in places} <= set(listed)
    assert "every_protocol (rsrefseg tiny)" in said["table"]
    assert (folder / "my-rsrefseg" / "README.md").is_file()


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("rrsis") and c not in AFTERWARDS])
def test_rrsis_commands(trained, line):
    """With the paper's model replaced by its tiny preset, which needs no weights."""
    folder, few = trained
    words = shlex.split(line)[1:]
    if words[0] in ("models", "convert"):
        weights_command(words, folder)
        return
    if words[0] not in ("score", "segment"):  # that needs neither model nor data
        words = [str(folder / "data") if word == "/path/to/rrsis-d" else word for word in words]
        words = ["second" if word == "first" else word for word in words]
        if words[0] == "fit":
            if not any("tiny" in word for word in words):
                words += ["--config", "configs/overlays/rsrefseg_tiny.yaml"]
            words += map(str, few[2:] if "mydata" in words else ["--data.dataset", "rrsis-d", *few])
    done = run(*words, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def weights_command(words, folder):
    """Without a network: a listing, or what is missing and how it is fetched."""
    done = run(*words, cwd=folder, HF_HUB_CACHE=folder / "hub", HF_HUB_OFFLINE=1)
    if words == ["models"]:
        assert done.returncode == 0
        assert all(name in done.stdout for name in list_models())
        return
    assert done.returncode == 2, done.stderr
    if "--to-official" in words:
        assert "rsrefseg2-rrsisd" in done.stderr
    else:
        assert re.search(
            "hf download (KyanChen/RSRefSeg2 rrsisd.pth|facebook/sam-vit-large model.safetensors)", done.stderr
        )


def test_python():
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    space: dict = {}
    exec(compile(code, "README.md", "exec"), space)
    assert space["result"].masks.shape == (3, 128, 128)


def test_models_and_links():
    for name in list_models():
        assert f"`{name}`" in README
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_tables_are_the_benchmarks():
    results = ROOT / "benchmarks" / "results" / "embedded"
    written = [(results / f"{name}.md").read_text(encoding="utf-8") for name in ("main", "kinds")]
    shown = README.split("<!-- embedded tables -->")[1].split("<!-- end of tables -->")[0]
    lines = [line for line in shown.splitlines() if line.startswith("|")]
    assert lines
    assert lines == [line for text in written for line in text.splitlines() if line.startswith("|")]
