"""T-acc, N-acc and AUC from the answers alone; the regression behind presence, cross-validated by scene."""

import json
import math

import numpy as np
import pytest

from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.metrics import calibration
from rrsis_zoo.metrics.calibration import fit_presence, threshold_for
from rrsis_zoo.metrics.presence import (
    Answer,
    Answers,
    no_target_accuracy,
    presence_auc,
    presence_metrics,
    read_answers,
    target_accuracy,
    write_answers,
)


def answer(n, foreign, presence=None, predicted=10, referent=None):
    return Answer(
        sample_id=f"d/test/{n}/0{'/foreign0' if foreign else ''}", scene_id=f"s{n // 2}", expression="the ship",
        category="ship", foreign=foreign, referent=not foreign if referent is None else referent, predicted=predicted,
        evidence={"heat": 0.5}, presence=presence,
    )  # fmt: skip


def answers(threshold=0.5, seed=0, n=24):
    rng = np.random.default_rng(seed)
    own, foreign = np.clip(rng.normal(0.7, 0.25, n), 0, 1), np.clip(rng.normal(0.35, 0.25, n), 0, 1)
    pixels = rng.integers(0, 3, (2, n)) * 7
    known = threshold is not None
    lines = [answer(i, False, float(own[i]) if known else None, int(pixels[0, i]), i != 5) for i in range(n)]
    lines += [answer(i, True, float(foreign[i]) if known else None, int(pixels[1, i])) for i in range(n)]
    return Answers(lines, threshold)


@pytest.mark.parametrize("threshold", [0.5, 0.0, None])
def test_numbers_are_recomputed_from_the_answers(threshold):
    """An own sentence with an empty mask is not asked for in T-acc; an empty answer never says that it is there."""
    given = answers(threshold)
    there = [a.predicted > 0 and (threshold is None or a.presence >= threshold) for a in given.lines]
    own = [said for a, said in zip(given.lines, there, strict=True) if not a.foreign and a.referent]
    foreign = [said for a, said in zip(given.lines, there, strict=True) if a.foreign]
    assert (len(own), len(foreign)) == (23, 24)
    found = presence_metrics(given)
    assert found["t_acc"]["value"] == pytest.approx(100 * sum(own) / 23)
    assert found["n_acc"]["value"] == pytest.approx(100 * (24 - sum(foreign)) / 24)
    for name in ("t_acc", "n_acc"):
        assert 0 <= found[name]["low"] < found[name]["value"] < found[name]["high"] <= 100
    masks = [a.predicted > 0 for a in given.lines]
    asked = {kind: [m for a, m in zip(given.lines, masks, strict=True) if a.foreign == kind and a.referent != kind]
             for kind in (False, True)}  # fmt: skip
    assert found["t_acc_masks"]["value"] == pytest.approx(100 * np.mean(asked[False]))
    assert found["n_acc_masks"]["value"] == pytest.approx(100 - 100 * np.mean(asked[True]))
    if threshold is None:
        assert found["auc"] is None
    else:
        pairs = [
            (p.presence > n.presence) + (p.presence == n.presence) / 2
            for p in given.lines if not p.foreign and p.referent
            for n in given.lines if n.foreign
        ]  # fmt: skip
        assert found["auc"]["value"] == pytest.approx(100 * sum(pairs) / len(pairs))


def test_several_trainings():
    runs = [answers(0.5, seed) for seed in (0, 1, 2)]
    for score in (target_accuracy, no_target_accuracy, presence_auc):
        together, each = score(runs), [score([run]).mean for run in runs]
        assert together.mean == pytest.approx(np.mean(each))
        assert together.low < together.mean < together.high
    assert presence_auc([runs[0], answers(None)]) is None


def test_a_file_of_answers(tmp_path):
    given = answers()
    for name in ("a.gz", "b.gz"):
        write_answers(tmp_path / name, given)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    read = read_answers(tmp_path / "a.gz", 0.5)
    assert read.lines == given.lines
    assert presence_metrics(read) == presence_metrics(given)


def test_bad_files_of_answers(tmp_path):
    with pytest.raises(MissingDataError, match="`rrsis test` writes it"):
        read_answers(tmp_path / "none", 0.5)
    write_answers(tmp_path / "a.gz", answers())
    with pytest.raises(DataFormatError, match=r"line 1: presence and a threshold belong together.*run `rrsis test`"):
        read_answers(tmp_path / "a.gz", None)
    twice = answers().lines[:1] * 2
    write_answers(tmp_path / "b.gz", Answers(twice, 0.5))
    with pytest.raises(DataFormatError, match=r"line 2: .* is there twice"):
        read_answers(tmp_path / "b.gz", 0.5)
    line = json.loads(twice[0].model_dump_json()) | {"presence": 1.5}
    (tmp_path / "c.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(DataFormatError, match=r"line 1"):
        read_answers(tmp_path / "c.jsonl", 0.5)


# -- the regression ----------------------------------------------------------------------------------------------------


def made(rng, scenes=30, each=2, gap=1.5):
    """Evidence of own and foreign answers, the scenes' own offset in both; and their scenes."""
    offset = np.repeat(rng.normal(0, 1, scenes), each)[:, None]
    own, foreign = (rng.normal(shift, 1, (scenes * each, 5)) + 0.3 * offset for shift in (gap, 0))
    names = [f"s{i}" for i in range(scenes) for _ in range(each)]
    return own, foreign, names, names


def test_presence_tells_them_apart():
    own, foreign, *scenes = made(np.random.default_rng(0))
    fit = fit_presence(own, foreign, *scenes)
    assert 0.9 < fit.auc.mean <= 1
    assert fit.auc.low < fit.auc.mean < fit.auc.high
    # the stored coefficients are for the evidence as it is
    values = np.concatenate([own, foreign]) @ fit.coefficients + fit.intercept
    presence = 1 / (1 + np.exp(-values))
    crossed = np.concatenate([fit.own, fit.foreign])
    assert np.corrcoef(presence, crossed)[0, 1] > 0.98
    assert presence[:60].mean() > 0.8
    assert presence[60:].mean() < 0.2


def test_the_stored_numbers_are_those_of_the_regression():
    """Standardised and penalised, by slow descent."""
    own, foreign, *scenes = made(np.random.default_rng(3), scenes=12)
    values, wanted = np.concatenate([own, foreign]), np.repeat([1.0, 0.0], 24)
    mean, std = values.mean(0), values.std(0)
    z, w, b = (values - mean) / std, np.zeros(5), 0.0
    for _ in range(20000):
        off = 1 / (1 + np.exp(-(z @ w + b))) - wanted
        w, b = w - 0.02 * (z.T @ off + w), b - 0.02 * off.sum()
    fit = fit_presence(own, foreign, *scenes)
    assert fit.coefficients == pytest.approx(w / std, abs=1e-3)
    assert fit.intercept == pytest.approx(b - (w / std) @ mean, abs=1e-3)


def test_no_scene_is_judged_by_itself(monkeypatch):
    """Evidence that only names the scene is worth nothing where the folds are by scene."""
    from sklearn import model_selection

    seen = []
    split = model_selection.GroupKFold.split

    def watched(self, values, wanted, groups):
        for fitted, held_out in split(self, values, wanted, groups):
            seen.append((set(groups[fitted]), set(groups[held_out])))
            yield fitted, held_out

    monkeypatch.setattr(model_selection.GroupKFold, "split", watched)
    own, foreign, *scenes = made(np.random.default_rng(0), scenes=11, each=3)
    fit_presence(own, foreign, *scenes)
    assert len(seen) == calibration.FOLDS == 5
    assert all(not fitted & held_out for fitted, held_out in seen)
    assert set().union(*(held_out for _, held_out in seen)) == set(range(11))


def test_constant_answers_are_worth_nothing():
    """A method whose heat, or whose everything, is constant: no division by 0, an AUC of a half."""
    own, foreign, *scenes = made(np.random.default_rng(0))
    own[:, 0] = foreign[:, 0] = 0.5
    fit = fit_presence(own, foreign, *scenes)
    assert fit.coefficients[0] == 0
    assert fit.auc.mean > 0.9
    blank = fit_presence(np.ones_like(own), np.ones_like(foreign), *scenes)
    assert blank.auc.mean == 0.5
    assert np.isfinite([*blank.coefficients, blank.intercept, blank.threshold]).all()
    assert (blank.foreign < blank.threshold).all()  # nobody is let through who cannot be told apart


def test_too_few_scenes_and_answers_that_are_no_numbers():
    own, foreign, *scenes = made(np.random.default_rng(0), scenes=4)
    with pytest.raises(ConfigError, match="4 scenes have own and foreign sentences, and cross-validation needs 5"):
        fit_presence(own, foreign, *scenes)
    own, foreign, *scenes = made(np.random.default_rng(0))
    own[3, 2] = math.nan
    with pytest.raises(ConfigError, match="infinities or NaN"):
        fit_presence(own, foreign, *scenes)


@pytest.mark.parametrize("n", [10, 19, 20, 21, 100, 457])
@pytest.mark.parametrize("digits", [1, 12])
def test_the_threshold_lets_so_many_through(n, digits):
    foreign = np.random.default_rng(n).random(n).round(digits)
    threshold = threshold_for(foreign, 0.05)
    through = (foreign >= threshold).sum()
    assert through <= 0.05 * n
    lower = np.nextafter(threshold, 0)  # and not one more
    assert (foreign >= lower).sum() > 0.05 * n
    assert threshold_for(np.ones(30), 0.05) == pytest.approx(1, abs=1e-9)
    assert (np.ones(30) < threshold_for(np.ones(30), 0.05)).all()
