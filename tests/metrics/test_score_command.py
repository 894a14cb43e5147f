"""`rrsis score`, on files as other programs leave them."""

import gzip
import json
import math
import subprocess

import numpy as np
import pytest
from PIL import Image
from slow_reference import slow_metrics

from rrsis_zoo.commands.score import run_score
from rrsis_zoo.data.masks import encode_mask, run_lengths
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.metrics.protocols import PROTOCOLS
from rrsis_zoo.metrics.saved import open_saved
from rrsis_zoo.metrics.values import as_prediction, as_target

PR = ("0.5", "0.6", "0.7", "0.8", "0.9")


def masks(n=4, seed=0, size=(30, 47)):
    rng = np.random.default_rng(seed)
    targets = [rng.random(size) < 0.3 for _ in range(n)]
    return [t ^ (rng.random(size) < 0.15) for t in targets], targets


def save_npz(path, preds, targets):
    arrays = {f"pred_{i}": p for i, p in enumerate(preds)} | {f"target_{i}": t for i, t in enumerate(targets)}
    np.savez(path, **arrays)
    return path


def save_folder(folder, arrays, value=255):
    folder.mkdir()
    for i, array in enumerate(arrays):
        Image.fromarray(array.astype(np.uint8) * value).save(folder / f"{i:03d}.png")
    return folder


def save_runs(path, arrays):
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
        for i, array in enumerate(arrays):
            code = {"size": array.shape, "counts": encode_mask(array).decode()}
            line = {"sample_id": f"d/test/{i // 2}/{i % 2}", **code}
            if i == 1:
                line = {"sample_id": line["sample_id"], "segmentation": code}
            if i == 2:
                line["counts"] = run_lengths(encode_mask(array)).tolist()
            file.write(json.dumps(line) + "\n")
    return path


def score(capsys, predictions, targets, *options):
    assert run_score(["--predictions", str(predictions), "--targets", str(targets), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("protocol", ["canonical", "rsrefseg"])
@pytest.mark.parametrize("case", ["plain", "thresholds", "empties", "both_empty"])
def test_golden_cases(golden, tmp_path, capsys, case, protocol):
    """The published programs' numbers from the published programs' masks, nan as null."""
    expected = json.loads((golden / "metrics" / "cases.json").read_text())["cases"][case]
    with np.load(golden / "metrics" / "cases.npz") as file:
        path = tmp_path / "case.npz"
        np.savez(path, **{name.split("/")[1]: file[name] for name in file.files if name.startswith(f"{case}/")})
    result = score(capsys, path, path, "--protocol", protocol)
    assert list(result)[:9] == ["protocol", "n", "oiou", "miou", *(f"pr@{t}" for t in PR)]
    assert (result["protocol"], result["n"]) == (protocol, expected["n"])
    if protocol == "canonical":
        theirs = expected["lavt_test"]
        wanted = [theirs["oIoU"], theirs["mIoU"], *(theirs[f"Pr@{t}"] for t in PR)]
    else:
        theirs = expected["rsrefseg"]
        wanted = [theirs["cIoU_1"], theirs["gIoU_1"], *(theirs[f"seg_acc_{t}_1"] for t in PR)]
    wanted = [None if v == "nan" else pytest.approx(v, abs=1e-9 if protocol == "canonical" else 1e-4) for v in wanted]
    assert [result[k] for k in ("oiou", "miou", *(f"pr@{t}" for t in PR))] == wanted
    if case == "both_empty" and protocol == "rsrefseg":
        assert result["miou"] is None
        omitted = score(capsys, path, path, "--protocol", protocol, "--nan-policy", "omit")
        scored = expected["lavt_test"]["per_sample_iou"]
        assert omitted["miou"] == pytest.approx(100 * sum(scored) / (len(scored) - 1))


def test_a_label_to_ignore(golden, tmp_path, capsys):
    """255 beside 1 is left out, as in RSRefSeg 2's own metric."""
    from golden_cases.case import Case

    case = Case(golden / "rsrefseg2" / "metrics")
    pred, label = case.input("in.pred").numpy(), case.input("in.label").numpy()
    path, expected = save_npz(tmp_path / "a.npz", pred, label), case.meta["expected"]
    result = score(capsys, path, path, "--protocol", "rsrefseg")
    assert result["oiou"] == pytest.approx(expected["cIoU_1"], abs=1e-3)
    assert result["miou"] == pytest.approx(expected["gIoU_1"], abs=1e-3)
    assert result["pr@0.7"] == pytest.approx(expected["seg_acc_0.7_1"], abs=1e-3)
    assert result["ignored_pixels"] == int((label == 255).sum())
    ids = score(capsys, path, path, "--protocol", "rsrefseg", "--ignore-index", "255")
    assert ids == result


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_form_gives_the_same_numbers(tmp_path, capsys, protocol):
    preds, targets = masks()
    files = {
        "npz": (save_npz(tmp_path / "both.npz", preds, targets),) * 2,
        "bytes": (save_npz(tmp_path / "bytes.npz", *([np.uint8(255) * a for a in b] for b in (preds, targets))),) * 2,
        "png": (save_folder(tmp_path / "p", preds), save_folder(tmp_path / "t", targets, value=1)),
        "runs": (save_runs(tmp_path / "p.jsonl", preds), save_runs(tmp_path / "t.jsonl.gz", targets)),
    }
    for form, (p, t) in files.items():
        # only run lengths say which samples share a reference
        ids = [f"d/test/{i // 2}/{i % 2}" for i in range(4)] if form == "runs" else [str(i) for i in range(4)]
        expected = slow_metrics(protocol, preds, targets, ids)
        result = score(capsys, p, t, "--protocol", protocol)
        assert {k: result[k] for k in expected} == pytest.approx(expected, rel=1e-12), form


def test_all_protocols_side_by_side(tmp_path, capsys):
    preds, targets = masks()
    path = save_npz(tmp_path / "a.npz", preds, targets)
    together = score(capsys, path, path, "--protocol", "all")
    assert [r["protocol"] for r in together] == list(PROTOCOLS)
    assert together == [score(capsys, path, path, "--protocol", name) for name in PROTOCOLS]
    assert run_score(["--predictions", str(path), "--targets", str(path), "--protocol", "all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["protocol", *PROTOCOLS, "largest"]
    spread = max(r["miou"] for r in together) - min(r["miou"] for r in together)
    assert lines[-1].split()[3] == f"{spread:.2f}"


def test_log_odds_are_resized_bilinearly(tmp_path, capsys):
    """They need not have the target's size; masks at native size must."""
    rng = np.random.default_rng(3)
    _, targets = masks(3)
    preds = [rng.normal(size=(12, 20)).astype(np.float32) for _ in targets]
    path = save_npz(tmp_path / "a.npz", preds, targets)
    for protocol in ("canonical", "lavt480"):
        expected = slow_metrics(protocol, preds, targets, ["0", "1", "2"])
        result = score(capsys, path, path, "--protocol", protocol)
        assert {k: result[k] for k in expected} == pytest.approx(expected, rel=1e-5), protocol
    path = save_npz(tmp_path / "b.npz", [p > 0 for p in preds], targets)
    assert score(capsys, path, path, "--protocol", "lavt480")["n"] == 3
    with pytest.raises(ConfigError, match=r"0: .*\(12, 20\).*\(30, 47\).*lavt480, evisam3, rs2sam2"):
        score(capsys, path, path)


def test_breakdown(tmp_path, capsys):
    preds, targets = masks()
    p, t = save_runs(tmp_path / "p.jsonl", preds), save_runs(tmp_path / "t.jsonl", targets)
    result = score(capsys, p, t, "--breakdown")["breakdown"]
    assert {"boundary_miou", "centre_hit", "box_miou", "no_target_acc", "per_size_n"} <= set(result)
    assert run_score(["--predictions", str(p), "--targets", str(t), "--breakdown"]) == 0
    assert "boundary_miou" in capsys.readouterr().out


def test_our_own_predictions_are_scored_with_their_sentences(tmp_path, capsys):
    preds, targets = masks(2)
    for name, arrays in (("p", preds), ("t", targets)):
        lines = [
            {"sample_id": f"d/test/{i}/0", "expression": ["the ship", "the red car"][i], "category": "ship",
             "size": a.shape, "counts": encode_mask(a).decode()}
            for i, a in enumerate(arrays)
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = score(capsys, tmp_path / "p.jsonl", tmp_path / "t.jsonl", "--breakdown")["breakdown"]
    assert result["per_words_n"] == {"colour": 1, "no such word": 1}
    assert result["per_category_n"] == {"ship": 2}


@pytest.mark.parametrize(
    ("values", "ignore", "foreground", "left_out"),
    [
        ([0, 255], None, [0, 1], None),
        ([255, 255], None, [1, 1], None),
        ([0, 1], None, [0, 1], None),
        ([0, 7], None, [0, 1], None),
        ([0, 1, 255], None, [0, 1, 0], [1, 1, 0]),
        ([1, 255], None, [1, 0], [1, 0]),
        ([0, 255], 255, [0, 0], [1, 0]),
        ([0, 7, 255], 7, [0, 0, 1], [1, 0, 1]),
        ([0, 1], 255, [0, 1], None),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_what_the_values_of_a_target_mean(values, ignore, foreground, left_out, dtype):
    mask, counted = as_target(np.array([values], dtype=dtype), "x", ignore)
    assert mask.tolist() == [[bool(v) for v in foreground]]
    assert (counted is None) == (left_out is None)
    if left_out is not None:
        assert counted.tolist() == [[bool(v) for v in left_out]]


def test_what_the_values_of_a_prediction_mean():
    assert as_prediction(np.array([[0, 255]], np.uint8), "x").tolist() == [[False, True]]
    assert as_prediction(np.array([[0.0, 1.0]]), "x").tolist() == [[False, True]]
    assert as_prediction(np.array([[-0.5, 1.0]], np.float16), "x").dtype == np.float16
    grey = np.repeat(np.array([[[0], [9]]], np.uint8), 3, axis=2)
    assert as_prediction(grey, "x").tolist() == [[False, True]]
    for wrong, words in (
        (np.array([[0, 1, 255]], np.uint8), "0 and one other value, got 0, 1, 255"),
        (np.zeros((2, 2, 2)), r"shape \(H, W\), got \(2, 2, 2\)"),
        (np.array([[1 + 1j]]), "bool or integers"),
    ):
        with pytest.raises(DataFormatError, match=words):
            as_prediction(wrong, "x")
    for wrong in (np.array([[0, 100, 200]], np.uint8), np.array([[0.2, 0.9]])):
        with pytest.raises(DataFormatError, match=r"one other value|bool or integers"):
            as_target(wrong, "x")


def test_an_ambiguous_255_is_said(tmp_path, capsys):
    label = np.array([[0, 1, 255, 255]], np.uint8)
    path = save_npz(tmp_path / "a.npz", [label == 1] * 2, [label, label * (label == 255)])
    run_score(["--predictions", str(path), "--targets", str(path)])
    noted = capsys.readouterr().err
    assert "255 was ignored in targets that also contain 1, and is foreground in 1 others (1 …)" in noted


def test_probabilities_are_refused(tmp_path, capsys):
    _, targets = masks(2)
    rng = np.random.default_rng(0)
    path = save_npz(tmp_path / "a.npz", [rng.random(t.shape) for t in targets], targets)
    with pytest.raises(DataFormatError, match=r"all lie in \[0, 1\].*log\(p / \(1 - p\)\)"):
        score(capsys, path, path)
    path = save_npz(tmp_path / "b.npz", [np.full(t.shape, math.nan) for t in targets], targets)
    with pytest.raises(DataFormatError, match="prediction 0 contains values that are not numbers"):
        score(capsys, path, path)


def test_names_must_agree(tmp_path, capsys):
    preds, targets = masks(9)
    p, t = save_folder(tmp_path / "p", preds[:2]), save_folder(tmp_path / "t", targets)
    with pytest.raises(DataFormatError, match=r"7 of the 9 masks in .*t are not in .*p: 002, 003, 004, 005, 006, …"):
        score(capsys, p, t)
    with pytest.raises(DataFormatError, match=r"7 of the 9 masks in .*t are not in .*p"):
        score(capsys, t, p)


def test_files_that_are_no_masks(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and then nothing")
    np.savez(tmp_path / "other.npz", masks=np.zeros(3))
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "a.jsonl").write_text('{"sample_id": "x", "size": [2, 2], "counts": "04"}\n{"sample_id": 3}\n')
    (tmp_path / "twice.jsonl").write_text('{"sample_id": "x", "size": [2, 2], "counts": "04"}\n' * 2)
    (tmp_path / "short.jsonl").write_text('{"size": [2, 2], "counts": [1]}\n')
    for name, error, words in (
        ("gone", MissingDataError, "there is no"),
        ("empty", DataFormatError, "holds no masks"),
        ("cut.npz", DataFormatError, "cannot be read as npz"),
        ("one.npz", DataFormatError, "a single unnamed array"),
        ("other.npz", DataFormatError, "no arrays pred_0, pred_1, …; it holds masks"),
        ("a.txt", DataFormatError, "not a supported form of saved masks"),
        ("a.jsonl", DataFormatError, "line 2: not a mask as run lengths"),
        ("twice.jsonl", DataFormatError, "line 2: x occurs twice"),
        ("short.jsonl", DataFormatError, "line 1: .*add up to 2 x 2"),
    ):
        with pytest.raises(error, match=words):
            open_saved(tmp_path / name, "pred")


def test_the_command(rrsis, golden, tmp_path):
    cases = str(golden / "metrics" / "cases.npz")
    done = subprocess.run(
        [*rrsis, "score", "--predictions", cases, "--targets", cases, "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 28
    wrong = subprocess.run(
        [*rrsis, "score", "--predictions", cases, "--targets", str(tmp_path / "t"), "--protocol", "lavt"],
        capture_output=True,
        text=True,
    )
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "unknown protocol 'lavt' (did you mean 'lavt480'?)" in wrong.stderr
