"""Changed sentences, and what the generator's geometry says they mean."""

import numpy as np
import pytest

from rrsis_zoo.data.records import Record
from rrsis_zoo.data.synthetic.contents import read_contents, understand
from rrsis_zoo.data.synthetic.language import Link, Meaning, Phrase
from rrsis_zoo.diagnosis.known import contents_of
from rrsis_zoo.diagnosis.probes import PROBES, Scene, changes_of, paraphrases, swaps


@pytest.mark.parametrize(
    "text",
    ["", "ship", "the ship the harbor", "the ship between the harbor", "the purple ship", "the ship near the harbor",
     "the leftmost ship on the left", "harbor the of left ship"],
)  # fmt: skip
def test_other_sentences_are_not_understood(text):
    assert understand(text) is None


@pytest.mark.parametrize(
    ("sentence", "changed"),
    [
        ("the leftmost ship", ["the rightmost ship"]),
        ("the ship in the upper left", ["the ship in the lower left", "the ship in the upper right"]),
        ("the ship nearest to the harbor", ["the ship farthest from the harbor"]),
        (
            "the largest pool left of the pier",
            ["the smallest pool left of the pier", "the largest pool right of the pier"],
        ),
        ("the northern court", ["the southern court"]),
        ("the red ship", []),
    ],
)
def test_one_word_at_a_time_is_swapped(sentence, changed):
    assert [text for _, text in swaps(sentence)] == changed


def test_paraphrases_mean_the_same(scenes):
    contents = read_contents(scenes)
    checked = 0
    for scene in contents.values():
        for sentence, said in scene.sentences.items():
            for _, text in paraphrases(sentence):
                assert text != sentence
                if (reference := scene.refers(text)) is not None:
                    assert reference.object == said.referent, (sentence, text)
                    checked += 1
    assert checked > 15
    assert paraphrases("the leftmost ship") == [("by rule", "the ship on the far left")]
    assert paraphrases("the ship on the upper right of the pool")[0][1] == "the ship to the upper right of the pool"


def test_what_a_changed_sentence_means(data):
    contents = contents_of(data, "test")
    found = []
    for record in data.records("test"):
        scene = Scene([record.expression], [record.category], contents[record.image_file])
        for change in changes_of(record, scene, "the ship", tuple(PROBES), np.random.default_rng(0)):
            found.append(change)
            if change.probe in ("swap", "attribute", "anchor gone") and change.meant != "unknown":
                fitting = brute_force(scene.contents.objects, change.sentence)
                expected = {"one": [change.object], "same": [change.object], "none": []}[change.meant]
                assert fitting == expected, change
            if change.probe == "anchor gone":
                assert change.meant == "none"
    assert {change.probe for change in found} == {*PROBES}
    assert [change.sentence for change in found if change.what == "empty"] == [""] * len(data.records("test"))


def brute_force(objects, sentence):
    """Return the objects that a meaning fits, read plainly: no thresholds, only what is nearer or further."""
    meaning = understand(sentence)
    centre = [tuple(float(np.mean(axis)) for axis in np.nonzero(thing.mask)[::-1]) for thing in objects]
    area = [int(thing.mask.sum()) for thing in objects]

    def phrase(p):
        mine = [i for i, thing in enumerate(objects) if thing.category == p.category]
        if p.attribute == "large":
            return [max(mine, key=area.__getitem__)] if len(mine) > 1 else []
        if p.attribute == "small":
            return [min(mine, key=area.__getitem__)] if len(mine) > 1 else []
        return [i for i in mine if p.attribute in (None, objects[i].colour)]

    def placed(i, position, peers):
        x, y = centre[i]
        if position.endswith("most"):
            key = {"leftmost": x, "rightmost": -x, "topmost": y, "bottommost": -y}[position]
            others = [{"leftmost": centre[j][0], "rightmost": -centre[j][0], "topmost": centre[j][1],
                       "bottommost": -centre[j][1]}[position] for j in peers]  # fmt: skip
            return key <= min(others)
        side = len(objects[0].mask) / 2
        sides = {"left": x < side, "right": x > side, "top": y < side, "bottom": y > side}
        return all(sides[word] for word in position.split()) if position != "middle" else True

    def linked(i, link, pool):
        anchors = [phrase(anchor) for anchor in link.anchors]
        if any(len(one) != 1 for one in anchors) or i in [one[0] for one in anchors]:
            return False
        (x, y), (ax, ay) = centre[i], centre[anchors[0][0]]
        dx, dy = x - ax, y - ay
        name = link.relation
        if name in ("nearest to", "farthest from"):
            away = {j: np.hypot(centre[j][0] - ax, centre[j][1] - ay) for j in pool if j != anchors[0][0]}
            return i == (min if name == "nearest to" else max)(away, key=away.__getitem__)
        if name == "between":
            bx, by = centre[anchors[1][0]]
            return np.hypot(dx, dy) + np.hypot(x - bx, y - by) < 1.3 * np.hypot(bx - ax, by - ay)
        words = {"left": dx < 0 and abs(dx) > abs(dy), "right": dx > 0 and abs(dx) > abs(dy),
                 "above": dy < 0 and abs(dy) > abs(dx), "below": dy > 0 and abs(dy) > abs(dx)}  # fmt: skip
        if name in ("left of", "right of", "above", "below"):
            return words[name.removesuffix(" of")]
        near, far = min(abs(dx), abs(dy)), max(abs(dx), abs(dy))
        signs = {"upper": dy < 0, "lower": dy > 0, "left": dx < 0, "right": dx > 0}
        return near > 0.3 * far and all(signs[word] for word in name.removesuffix(" of").split())

    pool = [i for i, thing in enumerate(objects) if thing.category == meaning.phrase.category]
    fit = phrase(meaning.phrase)
    if meaning.position:
        fit = [i for i in fit if placed(i, meaning.position, pool)]
    return [i for i in fit if all(linked(i, link, pool) for link in meaning.links)]


def test_unclear_sentences_are_left_out_and_missing_anchors_mean_nothing(scenes):
    scene = next(iter(read_contents(scenes).values()))
    category = scene.objects[0].category
    gone = Meaning("relation", Phrase(category), None, (Link("left of", (Phrase("windmill", "large"),)),))
    absent = [name for name in ("windmill", "helipad", "harbor") if name not in {o.category for o in scene.objects}]
    assert (
        scene.fits(Meaning("relation", Phrase(category), None, (Link("above", (Phrase(absent[0]),)),))).status == "none"
    )
    assert scene.fits(gone).status in ("none", "unclear")
    assert scene.refers("a sentence of another kind") is None


def test_elsewhere_only_what_needs_no_truth(data):
    record: Record = data.records("test")[0]
    scene = Scene([record.expression, "the red ship", "the blue ship"], [record.category])
    for change in changes_of(record, scene, None, tuple(PROBES), np.random.default_rng(0)):
        assert (change.meant, change.object) == ("unknown", None)
        assert change.probe != "anchor gone"


def test_the_order_of_words_depends_on_the_seed_only(data):
    record = data.records("test")[0]
    scene = Scene([record.expression], [record.category])
    every = [
        [c for c in changes_of(record, scene, None, probes, np.random.default_rng(3)) if c.probe == "shuffle"]
        for probes in (("shuffle",), tuple(PROBES))
    ]
    assert every[0] == every[1]
    assert sorted(every[0][0].sentence.split()) == sorted(record.expression.split())
