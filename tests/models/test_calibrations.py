"""The evidence of an answer, presence from it, and the file that says how."""

import json
import math

import numpy as np
import pytest
import torch

import rrsis_zoo
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.methods.registry import list_models, method_named
from rrsis_zoo.models.presence import (
    EVIDENCE,
    OWN,
    Calibration,
    calibration_at,
    calibration_file,
    evidence,
    evidence_of,
    read_calibration,
)
from rrsis_zoo.models.types import ImageState, Prediction, Prompts
from rrsis_zoo.weights.checkpoints import weights_hash

TEXTS = ["the ship", "the dam left of the pier"]


def calibration(**more):
    content = {
        "schema": 1, "model": "control", "weights_sha256": "a" * 64, "evidence": list(EVIDENCE),
        "coefficients": [2.0, 1.0, 0.5, -0.25, -3.0], "intercept": -1.0, "threshold": 0.4, "false_alarms": 0.05,
        "auc": {"value": 90.0, "low": 85.0, "high": 94.0, "level": 0.95}, "folds": 5, "own": 30, "foreign": 30,
        "scenes": 10, "dataset": "synthetic", "split": "val", "text_mode": "independent", "seed": 0,
        "annotations_sha256": "b" * 64, "foreign_sha256": "c" * 64, "versions": {"torch": "2"},
    }  # fmt: skip
    return {**content, **more}


def test_evidence_of_a_mask():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, -3.0, -0.1]])
    heat = torch.tensor([[[0.1, 0.7], [0.2, 0.3]]])
    inside = [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-0.5))]
    expected = [0.7, sum(inside) / 2, inside[0], math.log(2 / 6), 0.0]
    assert evidence(logits, heat).dtype == torch.float64
    assert evidence(logits, heat).tolist() == pytest.approx(expected, rel=1e-6)
    assert evidence(logits, heat, torch.tensor(0.25)).tolist()[5:] == [0.25]
    half = evidence(logits.bfloat16(), heat.bfloat16()).tolist()
    assert half == pytest.approx(expected, rel=1e-2)


def test_evidence_of_an_empty_mask():
    """It has an indicator of its own, and neither a logarithm of 0 nor a mean of nothing."""
    numbers = evidence(torch.tensor([[-2.0, -1.0], [0.0, -3.0]]), torch.full((1, 3, 3), 0.2)).tolist()
    assert numbers == pytest.approx([0.2, 0.0, 0.5, 0.0, 1.0])


def test_a_presence_of_the_methods_own_is_one_more_number():
    state = ImageState({}, torch.tensor([[2, 2]]), torch.tensor([[2, 2]]))
    logits, heat = torch.tensor([[[[1.0]]], [[[-1.0]]]]), torch.full((2, 1, 1, 1), 0.5)
    prompts = Prompts(torch.zeros(2, 1, 4), None, heat, presence=torch.tensor([0.9, 0.2]))
    prediction = Prediction(logits, prompts, state, torch.tensor([0, 0]))
    found = evidence_of(prediction, list(logits[:, 0]))
    assert [round(float(row[-1]), 6) for row in found] == [0.9, 0.2]
    assert [float(prediction[n : n + 1].prompts.presence) for n in (0, 1)] == pytest.approx([0.9, 0.2])
    joined = Prompts.joined([prompts[0:1], prompts[1:2]])
    assert torch.equal(joined.presence, prompts.presence)


def test_presence_is_the_logistic_function():
    known = Calibration(**calibration())
    numbers = np.array([[0.5, 0.8, 0.9, -2.0, 0.0], [0.0, 0.0, 0.5, 0.0, 1.0], [1e6, 0, 0, 0, 0], [-1e6, 0, 0, 0, 0]])
    slow = [1 / (1 + math.exp(-(sum(c * x for c, x in zip(known.coefficients, row, strict=True)) - 1.0)))
            for row in numbers[:2].tolist()]  # fmt: skip
    assert known.presence(numbers).tolist() == pytest.approx([*slow, 1.0, 0.0])


def test_where_it_is(tmp_path):
    (tmp_path / "model").mkdir()
    assert calibration_file(tmp_path / "model") == tmp_path / "model" / "presence.json"
    assert calibration_file(tmp_path / "model" / "model.safetensors") == tmp_path / "model" / "presence.json"
    assert calibration_file(tmp_path / "best.ckpt") == tmp_path / "best.presence.json"


def test_it_is_read_as_written(tmp_path):
    known = Calibration(**calibration())
    (tmp_path / "presence.json").write_text(known.text())
    assert read_calibration(tmp_path / "presence.json") == known
    with pytest.raises(MissingDataError):
        read_calibration(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"coefficients": [1.0, 2.0]}, "2 coefficients do not match 5 evidence"),
        ({"evidence": ["heat", "peak"]}, "evidence must be heat, inside, peak, log_area, empty, and maybe own"),
        ({"threshold": -0.1}, "threshold"),
        ({"threshold": "0.5"}, "threshold: Input should be a valid number"),
        ({"weights_sha256": "abc"}, "weights_sha256"),
        ({"schema": 2}, "schema"),
        ({"intercept": math.nan}, "intercept"),
        ({"auc": {"value": 101.0, "low": None, "high": None, "level": 0.95}}, r"auc\.value"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_damaged_file_is_named_and_ignored(tmp_path, change, said):
    file = tmp_path / "presence.json"
    file.write_text(json.dumps(calibration(**change)))
    with pytest.raises(DataFormatError, match=rf"presence\.json.*{said}.*rrsis calibrate"):
        read_calibration(file)
    with pytest.warns(UserWarning, match="it is ignored"):
        assert calibration_at(tmp_path, lambda: "a" * 64) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', "x" * 10])
def test_no_calibration_at_all(tmp_path, text):
    (tmp_path / "presence.json").write_text(text)
    with pytest.warns(UserWarning, match=r"presence\.json.*it is ignored"):
        assert calibration_at(tmp_path, lambda: "a" * 64) is None


def test_a_link_out_of_the_folder(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "secret.json").write_text(json.dumps(calibration()))
    (tmp_path / "model" / "presence.json").symlink_to(tmp_path / "secret.json")
    with pytest.warns(UserWarning, match="is a link to a place outside its folder"):
        assert calibration_at(tmp_path / "model", lambda: "a" * 64) is None


@pytest.fixture
def model():
    torch.manual_seed(0)
    built = rrsis_zoo.load_model("control", preset="tiny", weights="none")
    built.fit_tokenizer(TEXTS * 10)
    return built


def test_a_folder_has_it(model, tmp_path):
    """Saved with the model, read with it, gone with it; other weights have no use for it."""
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert rrsis_zoo.segment(model, image, TEXTS).presence is None
    model.save_pretrained(tmp_path / "plain")
    assert rrsis_zoo.load_model(tmp_path / "plain").calibration is None

    model.calibration = Calibration(**calibration(weights_sha256=weights_hash(model)))
    model.save_pretrained(tmp_path / "model")
    loaded = rrsis_zoo.load_model(tmp_path / "model")
    assert loaded.calibration == model.calibration
    result = rrsis_zoo.segment(loaded, image, TEXTS)
    assert (result.presence.shape, result.presence.dtype) == ((2,), np.float64)
    for n in (0, 1):
        p, mask = result.probabilities[n].astype(np.float64), result.masks[n]
        numbers = [result.heatmaps[n].max(), p[mask].mean() if mask.any() else 0, p.max(),
                   math.log(mask.mean()) if mask.any() else 0, not mask.any()]  # fmt: skip
        expected = float(model.calibration.presence(np.array([numbers], dtype=np.float64))[0])
        assert float(result.presence[n]) == pytest.approx(expected, rel=1e-5)

    with torch.no_grad():
        model.mask.bias += 1
    model.save_pretrained(tmp_path / "changed")
    with pytest.warns(UserWarning, match="was made for other weights .* is ignored; `rrsis calibrate`"):
        assert rrsis_zoo.load_model(tmp_path / "changed").calibration is None
    model.calibration = None
    model.save_pretrained(tmp_path / "changed")
    assert not (tmp_path / "changed" / "presence.json").exists()


@pytest.mark.parametrize("method", list_models())
def test_terms_that_need_a_referent_exist(method):
    """A name that no loss has would leave nothing out."""
    kind = method_named(method).model()
    model = kind.from_preset("tiny")
    code = set(kind.loss_terms.__code__.co_consts) | set(getattr(kind, "losses", kind.loss_terms).__code__.co_consts)
    assert model.needs_referent <= {name for name in code if isinstance(name, str)} | _keys(kind)


def _keys(kind):
    """Names in tuples of keys, as the compiler stores those of a dictionary."""
    constants = kind.loss_terms.__code__.co_consts
    return {name for entry in constants if isinstance(entry, tuple) for name in entry}


def test_own_presence_is_last():
    assert Calibration(**calibration(evidence=[*EVIDENCE, OWN], coefficients=[1.0] * 6)).evidence[-1] == OWN
