"""`rrsis diagnose` as a user calls it; every number of diagnosis.json recomputed from the per-sample file."""

import gzip
import json
import math
import re
from collections import defaultdict
from itertools import groupby

import numpy as np
import pytest

import warm
from rrsis_zoo.diagnosis.ladder_names import RUNGS
from rrsis_zoo.diagnosis.records import SAMPLES, read_lines, write_lines
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.metrics.statistics import scene_interval


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory, scenes):
    """After the commands of docs/diagnosis.md, in order, beside a small synthetic dataset: the second compares."""
    page = (root / "docs/diagnosis.md").read_text(encoding="utf-8")
    commands = re.findall(r"^rrsis (diagnose .*)$", page, re.MULTILINE)
    folder = tmp_path_factory.mktemp("diagnoses")
    (folder / "datasets").mkdir()
    (folder / "datasets/synthetic").symlink_to(scenes)
    for command, name in zip(commands, ("diagnosis", "other"), strict=True):
        ended = warm.run([*command.split(), "--data.num_workers", "0", "--device", "cpu", "--best", "2"], folder)
        assert ended.status == 0, ended.output
        assert re.search(rf"wrote {name}/diagnosis.html: mIoU \d+\.\d: ", ended.output)
    return folder


@pytest.fixture(scope="module")
def raw(folder):
    """Lines and report as plain JSON: nothing of the package reads them."""
    text = gzip.decompress((folder / "other" / SAMPLES).read_bytes()).decode()
    report = json.loads((folder / "other/diagnosis.json").read_text())
    return [json.loads(line) for line in text.splitlines()], report


def iou(one, truth):
    union = one["predicted"] + truth - one["intersection"]
    return one["intersection"] / union if union else 0.0


def test_rungs_hits_and_decomposition(raw):
    lines, report = raw
    numbers = report["numbers"]
    assert numbers["samples"] == len(lines) == 24
    for name, found in numbers["rungs"].items():
        values = [iou(line["rungs"][name], line["truth"]) for line in lines if name in line["rungs"]]
        assert found["n"] == len(values)
        assert found["value"] == pytest.approx(100 * np.mean(values), abs=1e-9)
    assert {*numbers["rungs"]} == {*RUNGS}
    assert 0 < numbers["rungs"]["best_prompts"]["n"] < len(lines)
    own = [iou(line["rungs"]["own"], line["truth"]) for line in lines]
    for line, value in zip(lines, own, strict=True):
        if "best_prompts" in line["rungs"]:
            assert iou(line["rungs"]["best_prompts"], line["truth"]) >= value
    h = sum(line["hit"] for line in lines) / len(lines)
    a = sum(v * line["hit"] for v, line in zip(own, lines, strict=True)) / (h * len(lines))
    b = sum(v * (1 - line["hit"]) for v, line in zip(own, lines, strict=True)) / ((1 - h) * len(lines))
    parts = numbers["decomposition"]
    assert [parts[k] for k in ("hit", "miou_given_hit", "miou_given_miss")] == pytest.approx(
        [100 * h, 100 * a, 100 * b]
    )
    assert abs(parts["miou"] - 100 * sum(own) / len(own)) < 1e-9
    interval = scene_interval(own, [line["scene_id"] for line in lines])
    assert numbers["rungs"]["own"]["low"] == pytest.approx(100 * interval.low)


def test_the_difference_of_two_methods(folder, raw):
    _, report = raw
    found = report["against"]["mini:rsrefseg"]
    first, second = (read_lines(folder / name / SAMPLES) for name in ("other", "diagnosis"))
    means = [sum(iou(x.rungs["own"].model_dump(), x.truth) for x in lines) / len(lines) for lines in (first, second)]
    assert [found["first"], found["second"]] == pytest.approx([100 * m for m in means])
    assert abs(found["where"]["value"] + found["exactly"]["value"] - 100 * (means[0] - means[1])) < 1e-9
    assert found["total"]["low"] < found["total"]["value"] < found["total"]["high"]


def test_mistakes_add_up(raw):
    _, report = raw
    mistakes = report["numbers"]["mistakes"]
    for shares in (mistakes["all"], *mistakes["kind"].values(), *mistakes["size"].values()):
        assert sum(one["value"] for one in shares.values()) == pytest.approx(100)
    assert sum(next(iter(shares.values()))["n"] for shares in mistakes["kind"].values()) == 24


def test_masks_and_thresholds(raw):
    lines, report = raw
    masks = report["numbers"]["masks"]
    curve = []
    for k in range(19):
        found = [(t[k][0], t[k][1], line["truth"]) for line in lines for t in [line["thresholds"]]]
        curve.append(100 * np.mean([i / (n + g - i) for i, n, g in found]))
    assert masks["curve"] == pytest.approx(curve)
    own = [iou(line["rungs"]["own"], line["truth"]) for line in lines]
    assert masks["curve"][9] == pytest.approx(100 * np.mean(own))  # the threshold 0.5
    expected = [iou(line["expected"], line["truth"]) for line in lines]
    assert masks["expected_iou"]["value"] == pytest.approx(100 * np.mean(expected))
    assert masks["expected_iou"]["gain"]["value"] == pytest.approx(100 * (np.mean(expected) - np.mean(own)))
    assert masks["best_threshold"]["threshold"] in masks["thresholds"]
    assert masks["best_threshold"]["validation"] == 9


def test_pixels_of_the_bins(raw):
    lines, report = raw
    assert all(sum(b[1] for b in line["bins"]) == line["height"] * line["width"] for line in lines)
    assert all(sum(b[2] for b in line["bins"]) == line["truth"] for line in lines)
    reliability = report["numbers"]["reliability"]
    assert sum(reliability["pixels"]) == sum(line["height"] * line["width"] for line in lines)
    error = np.average(np.abs(np.array(reliability["found"]) - reliability["predicted"]), weights=reliability["pixels"])
    assert reliability["ece"]["value"] == pytest.approx(error)


def test_probes(raw):
    lines, report = raw
    probes = report["numbers"]["probes"]
    asked = defaultdict(list)
    for line in lines:
        for probe in line["probes"]:
            asked[probe["probe"]].append((line, probe))
    assert {name: len(found) for name, found in asked.items()} == {name: one["n"] for name, one in probes.items()}

    def same(line, probe):
        own = line["rungs"]["own"]["predicted"]
        union = probe["predicted"] + own - probe["original"]
        return probe["original"] / union if union else 1.0

    def original(line, probe):
        return probe["referent"] / max(1, probe["predicted"] + line["truth"] - probe["referent"])

    moved = [pair for pair in asked["swap"] if pair[1]["meant"] in ("one", "none")]
    assert probes["swap"]["stuck"]["value"] == pytest.approx(100 * np.mean([same(*pair) >= 0.5 for pair in moved]))
    right = [
        p["intersection"] / (p["predicted"] + p["truth"] - p["intersection"])
        for _, p in asked["swap"]
        if p["meant"] == "one"
    ]
    assert probes["swap"]["right"]["value"] == pytest.approx(100 * np.mean(right))
    assert probes["paraphrase"]["consistency"]["value"] == pytest.approx(
        100 * np.mean([same(*pair) for pair in asked["paraphrase"]])
    )
    assert probes["shuffle"]["iou"]["value"] == pytest.approx(
        100 * np.mean([original(*pair) for pair in asked["shuffle"]])
    )
    assert probes["blind"]["iou empty"]["n"] == 8
    gone = [probe["presence"] for _, probe in asked["anchor gone"]]
    assert probes["anchor gone"]["presence"]["value"] == pytest.approx(100 * np.mean(gone))
    # one sentence of every scene
    for _, mine in groupby(lines, lambda line: line["scene_id"]):
        assert sum(bool(line["probes"]) for line in mine) == 1


def test_the_page_needs_no_other_file(folder):
    page = (folder / "other/diagnosis.html").read_text()
    assert page.count("data:image/png;base64,") == 6  # ladder, difference, mistakes, worst, probes, reliability
    assert "http" not in page
    assert "mini:rsrefseg" in page


def test_lines_are_read_as_written_and_damage_is_named(folder, tmp_path):
    lines = read_lines(folder / "other" / SAMPLES)
    write_lines(tmp_path / SAMPLES, lines)
    assert (tmp_path / SAMPLES).read_bytes() == (folder / "other" / SAMPLES).read_bytes()
    with pytest.raises(MissingDataError, match="`rrsis diagnose` writes it"):
        read_lines(tmp_path / "none.jsonl.gz")
    (tmp_path / "bad.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(DataFormatError, match="again"):
        read_lines(tmp_path / "bad.jsonl.gz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "rrsis diagnose needs a model"),
        (["mini:rsrefseg", "--rungs", "own,heart"], "unknown rung 'heart'"),
        (["mini:rsrefseg", "--probes", "swop"], "unknown probe 'swop' (did you mean 'swap'?)"),
        (["mini:rsrefseg", "--limit", "0"], "--limit must be at least 1, got 0"),
        (["mini:rsrefseg", "--against", "nowhere"], "`rrsis diagnose MODEL --out nowhere` writes it"),
        (["mini:rsrefseg", "--stock", "mini:siglip"], "which SAM is it?"),
    ],
)
def test_errors_say_what_mends_them(arguments, message, tmp_path, scenes):
    data = ["--data.root", str(scenes)] if arguments else []
    ended = warm.run(["diagnose", *arguments, *data], tmp_path)
    assert ended.status == 2
    assert len(ended.said) == 1
    assert message in ended.said[0]


@pytest.mark.real
def test_a_published_layout_leaves_out_what_it_cannot_know(tmp_path, real):
    data = ["--data.dataset", "rrsis-d", "--data.root", str(real), "--data.num_workers", "0", "--device", "cpu"]
    ended = warm.run(["diagnose", "mini:rsrefseg", *data, "--best", "1", "--limit", "4", "--out", "out"], tmp_path)
    assert ended.status == 0, ended.output
    report = json.loads((tmp_path / "out/diagnosis.json").read_text())
    assert {"anchor", "anchor gone"} <= {*report["left_out"]}
    assert all(len(why) > 20 for why in report["left_out"].values())
    lines = read_lines(tmp_path / "out" / SAMPLES)
    assert all(p.meant == "unknown" and p.truth is None for line in lines for p in line.probes)
    assert all(line.noun_is_unique is None for line in lines)
    assert "right" not in report["numbers"]["probes"].get("swap", {})
    assert not math.isnan(report["numbers"]["rungs"]["truth_box"]["value"])
