import gzip
import math

import numpy as np
import pytest
import torch

from golden_cases.case import Case
from rrsis_zoo.data.synthetic import make_sample
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.metrics.breakdown import breakdown, evaluate, size_classes, without_nan
from rrsis_zoo.metrics.expressions import length_class, word_kinds
from rrsis_zoo.metrics.measure import measure
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.metrics.samples import Counts, Samples, Subject, read_samples, write_samples
from rrsis_zoo.metrics.scores import score

CANONICAL = get_protocol("canonical")
TEXTS = ("the large ship", "a car", "the red car left of the pier", "the dam in the upper left corner of the image")


def random_samples(n=40, seed=0, details=True, categories=("ship", "dam", None)):
    rng = np.random.default_rng(seed)
    subjects, rows = [], []
    for i in range(n):
        shape = tuple(int(v) for v in rng.integers(20, 60, 2))
        masks = []
        for _ in range(2):
            mask = torch.zeros(shape, dtype=torch.bool)
            y, x = rng.integers(0, 20, 2)
            if rng.random() > 0.15:
                mask[y : y + rng.integers(1, 30), x : x + rng.integers(1, 30)] = True
            masks.append(mask)
        i_, u, p, _, *more = measure(*masks, details=details).tolist()
        rows.append([i_, u, p, *shape, *more])
        category = categories[i % len(categories)]
        source = "label" if category else None
        subjects.append(
            Subject(f"d/test/{i // 2}/{i % 2}", f"s{i // 4}", TEXTS[i % 4], category, source, "k" + str(i % 2))
        )
    return Samples(subjects, Counts.from_rows(np.array(rows, dtype=np.int64)))


@pytest.mark.parametrize("details", [True, False])
@pytest.mark.parametrize("protocol", ["canonical", "evisam3", "generalized", "rsrefseg"])
def test_everything_is_computed_again_from_the_file(tmp_path, details, protocol):
    samples, rules = random_samples(details=details), get_protocol(protocol)
    write_samples(tmp_path / "a.jsonl.gz", samples)
    again = read_samples(tmp_path / "a.jsonl.gz")
    assert list(again.subjects) == list(samples.subjects)
    for numbers in (evaluate, breakdown):
        assert repr(numbers(again, rules)) == repr(numbers(samples, rules))
    write_samples(tmp_path / "b.jsonl.gz", again)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert ("boundary_miou" in breakdown(again, rules)) == details


def test_groups_are_the_scores_of_their_samples():
    samples = random_samples()
    result = breakdown(samples, CANONICAL)
    c, names = samples.counts, np.array([s.category or "none" for s in samples.subjects])
    for name in ("ship", "dam", "none"):
        rows = names == name
        expected = score(c.intersection[rows], c.union[rows], CANONICAL)
        assert {m: result[f"per_category_{m}"][name] for m in expected} == expected
    ship, dam = (result["per_category_miou"][name] for name in ("ship", "dam"))
    assert result["macro_miou"] == pytest.approx((ship + dam) / 2)  # what has no category is no class
    assert result["category_source"] == "label"
    assert result["per_kind_n"] == {"k0": 20, "k1": 20}
    for group in ("category", "size", "length", "kind"):
        assert sum(result[f"per_{group}_n"].values()) == 40
    assert result["per_words_n"] == {"position": 10, "relation": 10, "colour": 10, "size": 10, "no such word": 10}
    assert result["per_length_n"] == {"1-4 words": 20, "5-8 words": 10, "9-12 words": 10}


def test_without_any_category_macro_is_the_mean():
    samples = random_samples(categories=(None,))
    result = breakdown(samples, CANONICAL)
    assert result["macro_miou"] == pytest.approx(evaluate(samples, CANONICAL)["miou"])
    assert result["category_source"] is None


def test_per_category_of_the_published_program(golden):
    """RSRefSeg 2's own numbers: class means without NaN, and the mean over the classes; also for an empty sample."""
    case = Case(golden / "rsrefseg2" / "metrics")
    pred, label = case.input("in.pred").numpy() > 0, case.input("in.label").numpy()
    for key in ("expected", "expected_with_empty_sample0"):
        if key != "expected":
            pred[0] = label[0] = 0
        rows = []
        for p, g in zip(pred, label, strict=True):
            counted = torch.from_numpy(g != 255)
            i, u, area, _ = measure(torch.from_numpy(p), torch.from_numpy(g == 1), counted=counted).tolist()
            rows.append([i, u, area, *g.shape])
        subjects = [Subject(str(i), str(i), "", c, "label") for i, c in enumerate(case.configuration["categories"])]
        samples = Samples(subjects, Counts.from_rows(np.array(rows)))
        protocol, expected = get_protocol("rsrefseg"), case.meta[key]
        result, total = breakdown(samples, protocol), evaluate(samples, protocol)
        for name in ("vehicle", "dam", "ship"):
            assert result["per_category_miou"][name] == pytest.approx(expected[name], abs=1e-3)
        assert result["macro_miou"] == pytest.approx(expected["mean_iou"], abs=1e-3)
        assert total["oiou"] == pytest.approx(expected["cIoU_1"], abs=1e-3)
        wanted = math.nan if expected["gIoU_1"] is None else expected["gIoU_1"]
        assert total["miou"] == pytest.approx(wanted, abs=1e-3, nan_ok=True)


def test_where_and_how_exactly_are_told_apart():
    """A prediction in the right place with a rough border, one beside it, one that says nothing, an empty target."""
    truth = torch.zeros(100, 100, dtype=torch.bool)
    truth[20:60, 20:60] = True
    rough, beside, nothing = truth.clone(), torch.zeros_like(truth), torch.zeros_like(truth)
    rough[20:60, 20:30] = False
    beside[20:60, 61:99] = True
    pairs = [(rough, truth), (beside, truth), (nothing, truth), (nothing, nothing), (beside, nothing)]
    rows = []
    for p, t in pairs:
        i, u, area, _, *more = measure(p, t, details=True).tolist()
        rows.append([i, u, area, 100, 100, *more])
    samples = Samples([Subject(str(i), str(i)) for i in range(5)], Counts.from_rows(np.array(rows)))
    result = breakdown(samples, CANONICAL)
    assert result["n_target"] == 3
    assert result["centre_hit"] == pytest.approx(100 / 3)
    assert result["hit_miou"] == pytest.approx(75.0)
    assert result["box_miou"] == pytest.approx(25.0)
    assert result["box_pr@0.5"] == pytest.approx(100 / 3)
    assert 0 < result["hit_boundary_miou"] < 75
    assert (result["n_empty"], result["no_target_acc"]) == (2, 50.0)
    assert result["target_acc"] == pytest.approx(200 / 3)
    assert evaluate(samples, get_protocol("generalized"))["miou"] == pytest.approx((75 + 100) / 5)
    assert evaluate(samples, CANONICAL)["miou"] == pytest.approx(15.0)


def test_classes_of_target_size():
    targets = np.array([0, 1, 10, 11, 100, 101, 500, 501, 2000, 2001, 10_000])
    rows = [[0, t, 0, 100, 100] for t in targets]
    samples = Samples([Subject(str(t), "s") for t in targets], Counts.from_rows(np.array(rows)))
    small, little, middle, large, huge = "0.1 % or less", "0.1-1 %", "1-5 %", "5-20 %", "more than 20 %"
    assert size_classes(samples) == [
        "empty", small, small, little, little, middle, middle, large, large, huge, huge,
    ]  # fmt: skip
    assert list(breakdown(samples, CANONICAL)["per_size_n"]) == ["empty", small, little, middle, large, huge]


def test_nan_becomes_null():
    assert without_nan({"a": math.nan, "b": {"c": math.nan, "d": 1.0}, "e": "x"}) == {
        "a": None, "b": {"c": None, "d": 1.0}, "e": "x",
    }  # fmt: skip


def test_files_that_are_no_results(tmp_path):
    with pytest.raises(MissingDataError, match="rrsis test"):
        read_samples(tmp_path / "gone.jsonl.gz")
    (tmp_path / "plain.gz").write_text("{}")
    with gzip.open(tmp_path / "other.gz", "wt") as file:
        file.write('{"sample_id": "a"}\n')
    for name in ("plain.gz", "other.gz"):
        with pytest.raises(DataFormatError, match="this file has no valid per-sample results"):
            read_samples(tmp_path / name)
    with pytest.raises(ConfigError, match="no samples"):
        breakdown(Samples([], Counts.from_rows(np.empty((0, 5), np.int64))), CANONICAL)
    with pytest.raises(ValueError, match="1 subjects"):
        Samples([Subject("a", "a")], Counts.from_rows(np.empty((0, 5), np.int64)))


@pytest.mark.parametrize(
    ("expression", "kinds"),
    [
        ("road", ""),
        ("road marking", ""),
        ("light-duty vehicle", ""),
        ("The golf field", ""),
        ("car driving on the road", "relation"),
        ("vehicle in the parking area", "relation"),
        ("sidewalk along with tree", "relation"),
        ("The dam is on the left of the overpass", "relation"),
        ("the ship at the lower right of the large ship", "relation size"),
        ("a ship on the left of the image", "position"),
        ("the ship on the upper left", "position"),
        ("the vehicle on the upper right of the vehicle on the left", "relation position"),
        ("the leftmost small vehicle", "position size"),
        ("the windmill in the middle", "position"),
        ("The gray stadium next to the biggest parking lot", "colour relation size"),
        ("a building north of the river", "relation"),
        ("the white airplane in the bottom-right corner", "colour position"),
    ],
)
def test_kinds_of_words(expression, kinds):
    assert word_kinds(expression) == frozenset(kinds.split())


def test_words_agree_with_what_the_synthetic_scenes_mean():
    """Their sentences are made from a logical form, which says what they speak of."""
    seen = set()
    for index in range(60):
        for expression in make_sample("test", index=index).expressions:
            meaning, kinds = expression.meaning, word_kinds(expression.text)
            assert ("position" in kinds) == (meaning.position is not None), expression.text
            assert ("relation" in kinds) == bool(meaning.links), expression.text
            phrases = [meaning.phrase, *(anchor for link in meaning.links for anchor in link.anchors)]
            attributes = {phrase.attribute for phrase in phrases} - {None}
            assert ("size" in kinds) == bool(attributes & {"large", "small"}), expression.text
            assert ("colour" in kinds) == bool(attributes - {"large", "small"}), expression.text
            seen |= kinds
    assert seen == {"position", "relation", "colour", "size"}


def test_lengths():
    assert [length_class(" ".join(["x"] * n)) for n in (1, 4, 5, 8, 9, 12, 13, 40)] == [
        "1-4 words", "1-4 words", "5-8 words", "5-8 words", "9-12 words", "9-12 words", "13 or more words",
        "13 or more words",
    ]  # fmt: skip
