import math

import pytest
import yaml

from rrsis_zoo.training.schedules import WarmupCosine


def test_rsrefseg_recipe():
    """Warm-up over 5 epochs from 0.01, then by epoch f + (1 - f)(1 + cos(pi (e - 5) / 200)) / 2."""
    factor = WarmupCosine(10, warmup_epochs=5, warmup_start=0.01, cosine_start=5, cosine_epochs=200, floor=1e-3)
    assert factor(0) == 0.01
    assert factor(25) == pytest.approx(0.01 + 0.99 / 2)
    assert factor(50) == 1.0
    for epoch in (6, 50, 105, 199):
        expected = 1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * (epoch - 5) / 200)) / 2
        for step in (epoch * 10, epoch * 10 + 9):
            assert factor(step) == pytest.approx(expected)
    assert factor(105 * 10) == pytest.approx(0.5005)


def test_rsrefseg2_recipe():
    """Constant until epoch 30, a period longer than the training; 5.8e-5 of 1e-4 at the end (A)."""
    factor = WarmupCosine(7, warmup_epochs=5, warmup_start=0.01, cosine_start=30, cosine_epochs=600, floor=0.01)
    assert factor(7 * 29) == 1.0
    assert factor(7 * 299) == pytest.approx(0.58, abs=0.005)


def test_rs2sam2_recipe():
    """Constant, a tenth in the last 10 of 40 epochs; the script's drop after epoch 49 never comes in 40."""
    factor = WarmupCosine(5, drop_epoch=30, drop_factor=0.1)
    assert {factor(step) for step in range(5 * 30)} == {1.0}
    assert {factor(step) for step in range(5 * 30, 5 * 40)} == {0.1}
    assert {WarmupCosine(5, drop_epoch=50)(step) for step in range(5 * 40)} == {1.0}


def test_floor_and_no_schedule():
    factor = WarmupCosine(3, cosine_epochs=4, floor=0.1)
    assert factor(3 * 4) == pytest.approx(0.1)
    assert factor(3 * 40) == pytest.approx(0.1)
    assert {WarmupCosine(3)(step) for step in range(20)} == {1.0}


@pytest.mark.parametrize(
    ("overlays", "epochs", "end"),
    [
        ([], 300, 5.8e-5),
        (["revision_b"], 300, 2.2e-5),
        (["refsegrs"], 600, 1.16e-4),
        (["refsegrs", "refsegrs_revision_b"], 600, 1.01e-4),
    ],
)
def test_rsrefseg2_configs_end_at_the_published_rates(root, overlays, epochs, end):
    """The rate at the end of the training, of both revisions of the authors' files."""

    def read(path):
        return yaml.safe_load((root / "configs" / path).read_text(encoding="utf-8"))

    settings, trainer = read("model/rsrefseg2_l.yaml")["init_args"], read("trainer/rsrefseg2.yaml")
    for name in overlays:
        overlay = read(f"overlays/rsrefseg2_{name}.yaml")
        settings |= overlay["model"]["init_args"]
        trainer |= overlay.get("trainer", {})
    assert trainer["max_epochs"] == epochs
    (rate,) = set(settings["learning_rates"].values())
    names = ("warmup_epochs", "warmup_start", "cosine_start", "cosine_epochs", "floor")
    factor = WarmupCosine(10, **{name: settings[name] for name in names})
    assert rate * factor(epochs * 10) == pytest.approx(end, rel=0.02)  # given with two digits, after the last epoch
    constant = settings["cosine_start"]
    assert {factor(step) for step in range(50, constant * 10)} == {1.0}
    assert factor(0) == 0.01
