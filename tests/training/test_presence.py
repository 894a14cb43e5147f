"""`rrsis calibrate`, and what `rrsis test` says of sentences about nothing in the image."""

import gzip
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import rrsis_zoo
from kinds import TRAINED
from rrsis_zoo.cli import run
from rrsis_zoo.commands.fit import resolve
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import read_json, read_lines
from rrsis_zoo.methods.control.model import Control
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.metrics.presence import ANSWERS, SUMMARY, presence_metrics, read_answers
from rrsis_zoo.models.presence import EVIDENCE, OWN, read_calibration
from rrsis_zoo.terminal import guarded
from rrsis_zoo.training.presence import Answered, Asking


@pytest.fixture(scope="module")
def trained(root, mixed, tmp_path_factory):
    """Arguments of a tiny control that was trained, and its run."""
    folder = tmp_path_factory.mktemp("trained")
    configs = [root / "configs" / name for name in ("control.yaml", "overlays/control_tiny.yaml")]
    common = [word for path in configs for word in ("--config", str(path))]
    common += ["--data.root", str(mixed), "--data.batch_size", "4", "--data.num_workers", "0"]
    common += ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_progress_bar", "false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["rrsis"])
        fit = ["fit", *common, "--trainer.max_epochs", "1", "--trainer.check_val_every_n_epoch", "1"]
        assert run([*fit, "--data.foreign_share", "0.25"]) == 0
    return SimpleNamespace(common=common, run=folder / "runs/control/fit/version_0")


@pytest.fixture
def ckpt(trained, tmp_path):
    """A copy of the run; its best checkpoint."""
    shutil.copytree(trained.run, tmp_path / "run")
    return tmp_path / "run" / "checkpoints" / "best.ckpt"


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs a command in a folder of its own; returns status, output and what it says as an error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rrsis"])

    def ran(*arguments):
        capsys.readouterr()
        status = guarded(lambda: run([str(word) for word in arguments]))
        out, err = capsys.readouterr()
        return status, out, [line for line in err.splitlines() if line.startswith("rrsis: ")]

    return ran


def test_run(trained, command, ckpt, name, *more):
    folder = ckpt.parents[2] / "out" / name
    places = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", folder.parent]
    places += ["--trainer.logger.name", name, "--trainer.logger.version", "0"]
    status, out, said = command("test", *trained.common, "--ckpt_path", ckpt, *places, *more)
    assert status == 0, said
    return folder / "version_0", out


test_run.__test__ = False


def test_calibrate_and_test(trained, command, ckpt):
    """Beside the checkpoint, found by itself, the same each time; the usual numbers and files stay as they are."""
    plain, out = test_run(trained, command, ckpt, "plain")
    assert not (plain / SUMMARY).exists()
    assert "N-acc" not in out

    status, out, said = command("calibrate", "--ckpt", ckpt)
    assert (status, said) == (0, [])
    file = ckpt.with_name("best.presence.json")
    assert f"wrote {file}: AUC " in out
    known, text = read_calibration(file), file.read_text()
    assert (known.own, known.foreign, known.scenes, known.split, known.model) == (12, 12, 6, "val", "control")
    assert known.evidence == list(EVIDENCE)
    assert command("calibrate", "--ckpt", ckpt, *trained.common[:6])[0] == 0
    assert file.read_text() == text
    model = rrsis_zoo.load_model(ckpt)
    assert model.calibration == known

    folder, out = test_run(trained, command, ckpt, "asked")
    assert "N-acc" in out
    summary = read_json(folder / SUMMARY)
    answers = read_answers(folder / ANSWERS, known.threshold)
    assert summary["metrics"] == presence_metrics(answers)
    assert (summary["n_own"], summary["n_foreign"], summary["n_scenes"]) == (12, 12, 6)
    assert (summary["rule"], summary["threshold"], summary["partial"]) == ("calibration", known.threshold, None)
    for line in answers.lines:
        numbers = np.array([[line.evidence[name] for name in EVIDENCE]])
        assert line.presence == pytest.approx(float(known.presence(numbers)[0]))
        assert (line.predicted == 0) == (line.evidence["empty"] == 1)
    for name in ("test.json", "test_samples.jsonl.gz"):
        one, other = (read(place / name) for place in (plain, folder))
        assert one == other
    off, _ = test_run(trained, command, ckpt, "off", "--foreign", "false")
    assert not (off / SUMMARY).exists()

    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    presence = rrsis_zoo.segment(model, image, ["the dam", "the ship"]).presence
    assert presence.shape == (2,)
    assert ((presence >= 0) & (presence <= 1)).all()


def read(path):
    if path.suffix == ".json":
        return {name: value for name, value in read_json(path).items() if name != "code"}
    return gzip.decompress(path.read_bytes())


def test_without_a_calibration_masks_speak(trained, command, ckpt):
    folder, out = test_run(trained, command, ckpt, "masks", "--foreign", "true")
    summary, answers = read_json(folder / SUMMARY), read_answers(folder / ANSWERS, None)
    assert (summary["rule"], summary["threshold"], summary["metrics"]["auc"]) == ("empty masks", None, None)
    foreign = [line.predicted == 0 for line in answers.lines if line.foreign]
    assert summary["metrics"]["n_acc"]["value"] == pytest.approx(100 * np.mean(foreign))
    assert summary["metrics"]["n_acc"] == summary["metrics"]["n_acc_masks"]
    assert "AUC" not in out
    own = {line.sample_id: line.predicted for line in answers.lines if not line.foreign}
    lines = [json.loads(line) for line in read_lines(folder / "test_samples.jsonl.gz")]
    assert own == {line["sample_id"]: line["predicted"] for line in lines}
    # it belongs to the command, not to the configuration of the next one
    assert "foreign: null" in (folder / "config.yaml").read_text()


def test_a_calibration_of_other_weights_is_ignored(trained, command, ckpt):
    assert command("calibrate", "--ckpt", ckpt)[0] == 0
    shutil.copy(ckpt.with_name("best.presence.json"), ckpt.with_name("other.presence.json"))
    content = torch.load(ckpt, weights_only=True)
    content["state_dict"]["model.mask.bias"] += 1
    torch.save(content, ckpt.with_name("other.ckpt"))
    with pytest.warns(UserWarning, match=r"other\.presence\.json was made for other weights"):
        folder, _ = test_run(trained, command, ckpt.with_name("other.ckpt"), "other")
    assert not (folder / SUMMARY).exists()


def test_part_of_a_split_says_so(trained, command, ckpt):
    more = ("--foreign", "true", "--trainer.limit_test_batches", "1", "--data.eval_batch_size", "4")
    folder, _ = test_run(trained, command, ckpt, "part", *more)
    summary = read_json(folder / SUMMARY)
    assert (summary["partial"], summary["n_own"], summary["n_foreign"]) == ({"n": 4, "of": 12}, 4, 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("calibrate", "--ckpt", "mini:control"), "is not a place to write to: give --out FILE"),
        (("calibrate", "--ckpt", "CKPT", "--device", "abacus"), "--device abacus"),
        (("calibrate", "--ckpt", "CKPT", "--data.fit_eval_split", "test"), "^rrsis: --data.fit_eval_split: Expected"),
        (("calibrate", "--ckpt", "COPY"), "which data\\? .* give --config"),
        (("calibrate", "--ckpt", "none.ckpt", "--config", "CONFIG"), "no checkpoint"),
        (("fit", "--config", "CONFIG", "--foreign", "true"), "--foreign is for rrsis test, not for rrsis fit"),
        (("validate", "--config", "CONFIG", "--ckpt_path", "CKPT", "--foreign", "false"), "not for rrsis validate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be(command, ckpt, tmp_path, words, message):
    shutil.copy(ckpt, tmp_path / "copy.ckpt")
    places = {"CKPT": ckpt, "COPY": tmp_path / "copy.ckpt", "CONFIG": tmp_path / "run" / "config.yaml"}
    status, _, said = command(*(places.get(word, word) for word in words))
    assert status == 2
    assert len(said) == 1
    assert re.search(message, said[0]), said


# -- asking ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(mixed):
    """A model, its data and a function that asks it with one or several processes."""
    torch.manual_seed(0)
    model = Control.from_preset("tiny").eval()

    def ask(model=model, world=1, size=4):
        rows = []
        for rank in range(world):
            data = RRSISDataModule("rrsis-d", str(mixed), eval_batch_size=size, num_workers=0)
            data.trainer = SimpleNamespace(global_rank=rank, world_size=world)
            if not model.tokenizer_ready:
                model.fit_tokenizer(data.train_expressions())
            asking = Asking(model, data.records("val"), data.foreign("val"))
            with torch.inference_mode():
                for batch in data.val_dataloader():
                    if len(batch):
                        prediction = model(batch, "independent")
                        asking.add(batch, prediction, model.restore_each(prediction), "independent")
            rows += asking.rows
        return Answered.of(rows)

    return model, ask


def test_the_number_of_processes_changes_nothing(asked):
    _, ask = asked
    one, three = ask(world=1), ask(world=3)
    assert (len(one.own), len(one.foreign)) == (12, 12)
    assert one == three


def test_images_are_encoded_once_for_both_kinds_of_sentences(asked, monkeypatch):
    model, ask = asked
    encoded = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda views, sizes: (encoded.append(len(sizes)), encode(views, sizes))[1])
    ask()
    assert sum(encoded) == 6


def test_a_foreign_answer_is_that_to_its_sentence_alone(asked, mixed):
    model, ask = asked
    data = RRSISDataModule("rrsis-d", str(mixed), eval_batch_size=4, num_workers=0)
    foreign, found = data.foreign("val"), ask().foreign
    for place in (0, 5, 11):
        record = foreign[place]
        result = rrsis_zoo.segment(model, str(record.image_path), record.expression)
        assert found[place].predicted == pytest.approx(result.masks.sum(), abs=2)
        heat, peak = found[place].evidence[0], found[place].evidence[2]
        assert (heat, peak) == pytest.approx((result.heatmaps.max(), result.probabilities.max()), abs=1e-4)


class Certain(Control):
    """A method with a presence of its own."""

    def localise(self, state, tokens, image_index):
        prompts = super().localise(state, tokens, image_index)
        prompts.presence = prompts.heatmap.mean((1, 2, 3))
        return prompts


def test_a_presence_of_the_methods_own(asked, mixed):
    """It is one more number for the regression, without a word about the method."""
    _, ask = asked
    torch.manual_seed(0)
    answered = ask(Certain.from_preset("tiny").eval())
    assert answered.evidence(foreign=True).shape == (12, 6)
    assert OWN == "own"
    assert len(set(answered.evidence(foreign=False)[:, 5])) == 12


def test_answers_that_are_no_numbers(asked):
    model, ask = asked
    with torch.no_grad():
        kept = model.heat.bias.clone()
        model.heat.bias.fill_(torch.nan)
    try:
        with pytest.raises(ConfigError, match="is not finite; evaluate in full precision"):
            ask()
    finally:
        with torch.no_grad():
            model.heat.bias.copy_(kept)


def test_the_configuration_of_another_method(command, ckpt, root):
    config = root / "configs" / "rsrefseg.yaml"
    status, _, said = command("calibrate", "--ckpt", ckpt, "--config", config)
    assert status == 2
    assert "is a model of control, but the configuration is for rsrefseg" in said[0]


def test_the_page_can_be_followed(trained, root, mixed, command, tmp_path):
    """The commands of docs/presence.md run in order in a folder with a run; its Python too. The last one trains."""
    page = (root / "docs" / "presence.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    shutil.copytree(trained.run, tmp_path / "runs/rsrefseg/fit/first")
    for line in lines[:-1]:
        status, out, said = command(*line.split()[1:])
        assert status == 0, (line, said)
    assert "N-acc" in out
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    space = {}
    exec(compile(code, "docs/presence.md", "exec"), space)
    assert space["result"].presence.shape == (2,)
    words = lines[-1].split()[1:]
    configs = [str(root / word) if word.startswith("configs/") else word for word in words]
    settings = resolve(configs[1:])
    assert settings["data"]["foreign_share"] == 0.25
    assert settings["model"]["init_args"]["preset"] == "mini"


def test_the_page_names_what_methods_leave_out(root):
    page = (root / "docs" / "presence.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    titles = {
        "loss_dice": "Dice",
        "loss_dense_dice": "mask prompt",
        "loss_contrastive": "contrastive",
        "loss_mil": "multiple",
    }
    for name in TRAINED:
        names = method_named(name).model().needs_referent
        assert (said[name] == "–") == (not names)
        assert all(titles[term] in said[name] for term in names)
