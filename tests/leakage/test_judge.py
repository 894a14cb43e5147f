"""The answer for every weights, training and test, found again by slow code of its own from the file itself."""

import itertools
import random
import tomllib

import pytest

from rrsis_zoo.leakage.judge import judge
from rrsis_zoo.leakage.ledger import PATH, Part, shipped
from rrsis_zoo.leakage.levels import CERTAINTIES

FILE = tomllib.loads(PATH.read_text(encoding="utf-8"))
SPLITS = ("train", "val", "test")
WIDE = {"all": SPLITS, "trainval": SPLITS[:2]}


def files():
    """Every released file, as a plain dictionary with the data set written out."""
    for entry in FILE["weights"]:
        for each in entry.get("each", [None]):
            name = entry["id"] if each is None else f"{entry['id']}/{each}"
            yield (
                name,
                [[each if cell == "each" else cell for cell in line] for line in entry["trained_on"]],
                [[each if cell == "each" else cell for cell in line] for line in entry.get("marks", [])],
            )


RELEASED = {name: (trained, marks) for name, trained, marks in files()}
BASES = {entry["id"]: entry for entry in FILE["bases"]}
DRAWN = [entry["dataset"] for entry in FILE["generated"]]
DATASETS = sorted(
    {*FILE["sources"], "a harbour of my own"}
    | {d for line in FILE["overlaps"]["lines"] for d in (line["on"][0], line["touches"][0])}
    | {line[0] for trained, marks in RELEASED.values() for line in (*trained, *marks)}
)
TESTS = [(dataset, split) for dataset in DATASETS for split in SPLITS]


def same(line, dataset, split):
    """Whether a part of the file, which may be of several splits, has this split."""
    return line[0] == dataset and split in WIDE.get(line[1], (line[1],))


def touched(dataset, split, test):
    for line in FILE["overlaps"]["lines"]:
        if any(same(line["on"], dataset, s) for s in WIDE.get(split, (split,))) and same(line["touches"], *test):
            yield line["level"], line["certainty"]


def of_weights(name, test):
    answers = []
    if name in RELEASED:
        trained, marks = RELEASED[name]
        answers += [(line[2], line[3]) for line in marks if same(line, *test)]
        answers += [("targets", line[2]) for line in trained if same(line, *test)]
        for line in trained:
            answers += touched(line[0], line[1], test)
    if not answers and name in BASES:
        kind = BASES[name]["aerial"]
        if kind != "unknown":
            answers.append(("clean", BASES[name]["certainty"]))
        elif test[0] not in DRAWN:
            answers.append(("unknown", BASES[name]["certainty"]))
    if not answers:
        answers.append(("clean", "stated") if test[0] in DRAWN else ("unknown", None))
    return answers


def of_training(dataset, split, test):
    if same((dataset, split), *test):
        return [("targets", "stated")]
    answers = list(touched(dataset, split, test))
    if answers:
        return answers
    if dataset == test[0]:
        for entry in FILE["within"]:
            if entry["dataset"] == dataset:
                apart = [split, test[1]] in entry["disjoint"] or [test[1], split] in entry["disjoint"]
                return [("clean" if apart else "unknown", entry["certainty"])]
        return [("unknown", None)]
    return [("clean", "stated")] if dataset in DRAWN or test[0] in DRAWN else [("unknown", None)]


def slow(weights, trained, test, selected=()):
    answers = [answer for name in weights for answer in of_weights(name, test)]
    answers += [answer for part in trained for answer in of_training(*part, test)]
    answers += [("selection", "stated") for part in selected if part == test]
    if not answers:
        answers = [("clean", "stated")] if test[0] in DRAWN else [("unknown", None)]
    for level in ("targets", "selection", "boxes", "images", "pool", "unknown", "clean"):
        found = [certainty for name, certainty in answers if name == level and certainty]
        if level in [name for name, _ in answers]:
            found.sort(key=["stated", "derived", "third_party", "memory", "suspected"].index)
            return level, (found[-1] if level == "clean" else found[0]) if found else None
    raise AssertionError


def check(weights, trained, test, selected=()):
    found = judge(shipped(), weights, [Part(*p) for p in trained], Part(*test), [Part(*part) for part in selected])
    assert (found.level, found.certainty) == slow(weights, trained, test, selected), (weights, trained, test)
    assert found.decisive or not found.steps
    assert all(step.evidence.endswith(".") for step in found.steps)
    return found.level


def test_every_weights_on_every_split():
    """And all levels occur."""
    names = [*RELEASED, *BASES, "something else"]
    levels = {check([name], [], test) for name in names for test in TESTS}
    assert levels == {"targets", "selection", "images", "pool", "unknown", "clean"}


def test_every_training_on_every_split():
    """Also of a data set that was chosen by its own validation split."""
    levels = {check([], [part], test, [(part[0], "val")]) for part in TESTS for test in TESTS}
    wide = [("dior", "trainval"), ("million-aid", "all"), ("samrs", "all")]
    levels |= {check([], [part], test) for part in wide for test in TESTS}
    assert levels == {"targets", "selection", "boxes", "images", "pool", "unknown", "clean"}


def test_several_together():
    """Random weights, trainings and choices."""
    draw = random.Random(0)
    names = [*RELEASED, *BASES, "something else"]
    for _ in range(3000):
        weights = draw.sample(names, draw.randint(0, 3))
        trained = draw.sample(TESTS, draw.randint(0, 2))
        check(weights, trained, draw.choice(TESTS), draw.sample(TESTS, draw.randint(0, 1)))


@pytest.mark.parametrize(
    ("weights", "trained", "test", "level", "certainty", "words"),
    [
        (["rsrefseg2/rrsisd"], [], ("rrsis-d", "test"), "selection", "derived", "best mIoU on it is kept"),
        (["rsrefseg2/rrsisd"], [], ("rrsis-d", "train"), "targets", "stated", "names of RSRefSeg 2's files"),
        (["rsrefseg2/rrsisd"], [], ("rrsis-d", "val"), "unknown", None, "has no line about RSRefSeg 2"),
        (["rs2sam2/rrsisd"], [], ("risbench", "test"), "pool", "derived", "images of DIOR"),
        (["rmsin/remotesam"], [], ("rrsis-d", "test"), "images", "derived", "never zero-shot"),
        (["rmsin/remotesam"], [], ("refsegrs", "test"), "clean", "third_party", "SkyScapes"),
        (["sam3"], [], ("rrsis-d", "test"), "unknown", "stated", "not known to be zero-shot"),
        (["resnet34"], [("rrsis-d", "train")], ("rrsis-d", "test"), "clean", "derived", "share no image"),
        (["sam2"], [("rrsis-d", "train")], ("rrsis-d", "test"), "unknown", "memory", "SA-V"),
        ([], [("refsegrs", "train")], ("refsegrs", "test"), "unknown", "memory", "share scenes is not known"),
        ([], [("vrsbench", "val")], ("risbench", "test"), "boxes", "derived", "16,159"),
        (["miniature"], [("synthetic", "train")], ("synthetic", "test"), "clean", "stated", "drawn by this package"),
        (["sam3", "siglip2"], [], ("synthetic", "test"), "clean", "stated", "drawn by this package"),
    ],
)
def test_examples(weights, trained, test, level, certainty, words):
    found = judge(shipped(), weights, [Part(*p) for p in trained], Part(*test))
    assert (found.level, found.certainty) == (level, certainty)
    assert any(words in step.evidence for step in found.steps)
    assert found.contaminated == (level in ("targets", "selection", "boxes"))


def test_nothing_unlisted_is_clean():
    """Without weights and trainings, or with unknown ones beside clean ones, nothing is claimed."""
    for weights, trained in itertools.product(([], ["resnet34", "x"]), ([], [("a", "train")])):
        if weights or trained:
            assert judge(shipped(), weights, [Part(*p) for p in trained], Part("rrsis-d", "test")).level == "unknown"
    assert judge(shipped(), [], [], Part("rrsis-d", "test")).level == "unknown"
    assert CERTAINTIES == ("stated", "derived", "third_party", "memory", "suspected")
