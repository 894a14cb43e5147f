"""Sentences against an independent reading of the words and the masks; the rules of the generator at their borders."""

import json

import numpy as np
import pytest
from slow_reader import Slow

from rrsis_zoo.data.synthetic import make_synthetic
from rrsis_zoo.data.synthetic.chance import RandomStream
from rrsis_zoo.data.synthetic.language import (
    HELD_OUT,
    NO,
    UNCLEAR,
    YES,
    Combination,
    Link,
    Meaning,
    Phrase,
    Reader,
    express,
    held_out,
    is_minimal,
    say,
    sayable,
)
from rrsis_zoo.data.synthetic.scenes import SceneObject


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory):
    root = tmp_path_factory.mktemp("language") / "set"
    make_synthetic(root, scenes=160, splits=(1, 1, 2), seed=11, expressions=4)
    return json.loads((root / "synthetic.json").read_text(encoding="utf-8"))


def test_every_sentence_fits_its_referent_alone(sidecar):
    readers = {image["id"]: Slow(image["objects"]) for image in sidecar["images"]}
    assert len(sidecar["expressions"]) == 640
    for expression in sidecar["expressions"]:
        reader = readers[expression["image_id"]]
        assert reader.read(expression["text"]) == expression["referent"], expression


def test_distractors_are_there(sidecar):
    images = {image["id"]: image for image in sidecar["images"]}
    for expression in sidecar["expressions"]:
        names = [thing["category"] for thing in images[expression["image_id"]]["objects"]]
        peers = names.count(expression["category"]) - 1
        assert (peers == 0) == (expression["kind"] == "category")
        anchors = {anchor["object"] for link in expression["links"] for anchor in link["anchors"]}
        assert expression["referent"] not in anchors
        if expression["kind"] == "multi":
            attributes = [expression["attribute"], *(a["attribute"] for k in expression["links"] for a in k["anchors"])]
            assert any(attributes) or len(anchors) > 1
        if expression["kind"] == "relation":
            assert len(anchors) == 1
            assert expression["attribute"] is None


# -- rules on drawn boxes ----------------------------------------------------------------------------------------------


def box(category, x, y, half=4, colour=None, size=100):
    """A square object around (x, y), in percent of the image."""
    mask = np.zeros((size, size), bool)
    mask[y - half : y + half, x - half : x + half] = True
    return SceneObject(category, colour, None, 0, mask)


def answers(objects, phrase, position=None, links=()):
    return Reader(objects).answers(Meaning("multi", phrase, position, links))


def test_colours():
    scene = [box("building", 20, 20, colour=c) for c in ("grey", "white", "red")] + [box("ship", 80, 80, colour="grey")]
    assert answers(scene, Phrase("building", "grey")) == [YES, UNCLEAR, NO, NO]
    assert answers(scene, Phrase("building", "red")) == [NO, NO, YES, NO]
    assert answers([box("bridge", 20, 20)], Phrase("bridge", "red")) == [UNCLEAR]


def test_sizes_are_relative_to_peers():
    scene = [box("ship", 20, 20, 8), box("ship", 60, 20, 6), box("ship", 60, 60, 4), box("stadium", 20, 70, 15)]
    assert answers(scene, Phrase("ship", "large")) == [YES, NO, NO, NO]
    assert answers(scene, Phrase("ship", "small")) == [NO, NO, YES, NO]
    close = [box("ship", 20, 20, 10), box("ship", 60, 20, 9)]
    assert answers(close, Phrase("ship", "large")) == [UNCLEAR, UNCLEAR]
    assert answers(scene, Phrase("stadium", "large"))[3] == UNCLEAR


def test_a_pitch_inside_another_thing_is_unclear():
    scene = [box("soccer field", 20, 20), box("stadium", 70, 70), box("ship", 20, 70)]
    assert answers(scene, Phrase("soccer field")) == [YES, UNCLEAR, NO]
    assert Reader(scene).referent(Meaning("category", Phrase("soccer field"))) is None


@pytest.mark.parametrize(
    ("position", "x", "y", "expected"),
    [
        ("left", 39, 90, YES),
        ("left", 45, 50, UNCLEAR),
        ("left", 57, 50, NO),
        ("bottom", 50, 61, YES),
        ("bottom", 50, 43, NO),
        ("top right", 70, 30, YES),
        ("top right", 70, 50, UNCLEAR),
        ("top right", 30, 30, NO),
        ("middle", 60, 40, YES),
        ("middle", 70, 50, UNCLEAR),
        ("middle", 50, 80, NO),
    ],
)
def test_positions(position, x, y, expected):
    assert answers([box("ship", x, y)], Phrase("ship"), position) == [expected]


def test_extremes():
    scene = [box("ship", 20, 20), box("ship", 40, 50), box("ship", 80, 56), box("harbor", 6, 50)]
    assert answers(scene, Phrase("ship"), "leftmost") == [YES, NO, NO, NO]
    assert answers(scene, Phrase("ship"), "rightmost") == [NO, NO, YES, NO]
    assert answers(scene, Phrase("ship"), "bottommost") == [NO, UNCLEAR, UNCLEAR, NO]
    # The greater object reaches further to the left although its centre does not.
    assert answers([box("ship", 20, 20, 4), box("ship", 32, 60, 18)], Phrase("ship"), "leftmost") == [UNCLEAR, NO]


@pytest.mark.parametrize(
    ("relation", "dx", "dy", "expected"),
    [
        ("left of", -30, 10, YES),
        ("left of", -30, 22, UNCLEAR),
        ("left of", -10, 30, NO),
        ("left of", 30, 0, NO),
        ("left of", -11, 0, UNCLEAR),
        ("right of", 30, -10, YES),
        ("above", 5, -30, YES),
        ("above", 0, 30, NO),
        ("below", 5, 30, YES),
        ("upper left of", -20, -20, YES),
        ("upper left of", -30, -14, YES),
        ("upper left of", -30, -10, UNCLEAR),
        ("upper left of", -30, -4, NO),
        ("upper left of", 20, -20, NO),
        ("lower right of", 20, 20, YES),
        ("upper right of", 20, -20, YES),
        ("lower left of", -20, 20, YES),
    ],
)
def test_directions(relation, dx, dy, expected):
    scene = [box("ship", 50 + dx, 50 + dy), box("harbor", 50, 50)]
    assert answers(scene, Phrase("ship"), None, (Link(relation, (Phrase("harbor"),)),)) == [expected, NO]


def test_things_beside_each_other_must_not_overlap_on_the_axis():
    scene = [box("ship", 35, 50, 12), box("harbor", 50, 56, 12)]
    assert answers(scene, Phrase("ship"), None, (Link("left of", (Phrase("harbor"),)),)) == [UNCLEAR, NO]


def test_nearest_by_centres_and_by_borders():
    anchor = Link("nearest to", (Phrase("harbor"),))
    far = Link("farthest from", (Phrase("harbor"),))
    scene = [box("ship", 50, 30), box("ship", 50, 80), box("harbor", 50, 50)]
    assert answers(scene, Phrase("ship"), None, (anchor,)) == [YES, NO, NO]
    assert answers(scene, Phrase("ship"), None, (far,)) == [NO, YES, NO]
    even = [box("ship", 50, 25), box("ship", 50, 77), box("harbor", 50, 50)]
    assert answers(even, Phrase("ship"), None, (anchor,)) == [UNCLEAR, UNCLEAR, NO]
    # By its centre the great one is farther, by its border nearer.
    great = [box("ship", 50, 30, 4), box("ship", 50, 78, 20), box("harbor", 50, 50)]
    assert answers(great, Phrase("ship"), None, (anchor,)) == [UNCLEAR, UNCLEAR, NO]
    assert answers(scene[::2], Phrase("ship"), None, (anchor,)) == [UNCLEAR, NO]


def test_between():
    link = Link("between", (Phrase("harbor"), Phrase("bridge")))
    scene = [box("ship", 50, 52), box("ship", 20, 90), box("harbor", 20, 50), box("bridge", 80, 50)]
    assert answers(scene, Phrase("ship"), None, (link,)) == [YES, NO, NO, NO]
    assert answers([box("ship", 50, 70), *scene[2:]], Phrase("ship"), None, (link,)) == [UNCLEAR, NO, NO]


def test_an_anchor_must_be_one_object():
    scene = [
        box("ship", 20, 50, colour="red"),
        box("ship", 80, 50, colour="red"),
        box("harbor", 50, 50),
        box("harbor", 50, 90),
    ]
    meaning = Meaning("relation", Phrase("ship"), None, (Link("left of", (Phrase("harbor"),)),))
    assert Reader(scene).answers(meaning) is None
    assert Reader(scene).referent(meaning) is None
    one = Reader(scene[:3])
    assert one.referent(meaning) == 0
    assert is_minimal(one, meaning)
    red = Meaning("multi", Phrase("ship", "red"), None, meaning.links)
    assert one.referent(red) == 0
    assert not is_minimal(one, red)


def test_all_that_can_be_said_is_accepted():
    scene = [
        box("ship", 20, 30, 4, "red"),
        box("ship", 75, 30, 7, "white"),
        box("ship", 45, 85, 4, "white"),
        box("harbor", 48, 48, 6),
    ]
    reader = Reader(scene)
    said = dict(sayable(reader))
    assert all(reader.referent(meaning) == index for meaning, index in said.items())
    assert said[Meaning("category", Phrase("harbor"))] == 3
    assert said[Meaning("attribute", Phrase("ship", "red"))] == 0
    assert said[Meaning("attribute", Phrase("ship", "large"))] == 1
    assert said[Meaning("position", Phrase("ship"), "bottommost")] == 2
    assert said[Meaning("relation", Phrase("ship"), None, (Link("below", (Phrase("harbor"),)),))] == 2
    assert Meaning("attribute", Phrase("ship", "white")) not in said
    assert Meaning("attribute", Phrase("harbor", "large")) not in said


def test_held_out_patterns():
    red = Combination("vehicle", "red")
    left = Combination("ship", None, "left of")
    both = Combination("building", "large", "left of")
    link = Link("left of", (Phrase("vehicle", "red"),))
    assert red.occurs_in(Meaning("attribute", Phrase("vehicle", "red")))
    assert red.occurs_in(Meaning("multi", Phrase("ship"), None, (link,)))
    assert not red.occurs_in(Meaning("multi", Phrase("ship", "red"), None, (Link("above", (Phrase("vehicle"),)),)))
    assert left.occurs_in(Meaning("multi", Phrase("ship", "red"), None, (link,)))
    assert not left.occurs_in(Meaning("relation", Phrase("vehicle"), None, (Link("left of", (Phrase("ship"),)),)))
    assert both.occurs_in(Meaning("multi", Phrase("building", "large"), None, (link,)))
    assert not both.occurs_in(Meaning("multi", Phrase("building", "small"), None, (link,)))
    assert held_out(Meaning("attribute", Phrase("vehicle", "red"))) == [red]
    assert red in HELD_OUT


def test_only_test_scenes_may_be_novel():
    scene = [box("vehicle", 20, 30, colour="red"), box("vehicle", 75, 60, colour="blue")]
    plain = {e.text for i in range(40) for e in express(scene, 2, False, RandomStream(i))}
    novel = {e.text for i in range(40) for e in express(scene, 2, True, RandomStream(i))}
    assert "the red vehicle" in novel
    assert "the red vehicle" not in plain
    assert "the blue vehicle" in plain


def test_fewer_expressions_where_there_is_less_to_say():
    said = express([box("bridge", 30, 30), box("harbor", 70, 70)], 5, False, RandomStream(0))
    assert sorted(e.referent for e in said) == [0, 1]
    assert {e.meaning.kind for e in said} == {"category"}


@pytest.mark.parametrize(
    ("meaning", "peers", "expected"),
    [
        (Meaning("category", Phrase("airplane")), 0, {"the airplane", "the airplane in the image", "an airplane"}),
        (Meaning("attribute", Phrase("ship", "red")), 1, {"the red ship"}),
        (Meaning("attribute", Phrase("ship", "large")), 1, {"the large ship", "the larger ship"}),
        (Meaning("attribute", Phrase("ship", "small")), 2, {"the small ship", "the smallest ship"}),
        (Meaning("position", Phrase("ship"), "topmost"), 1, {"the topmost ship", "the uppermost ship"}),
        (
            Meaning("position", Phrase("ship"), "top left"),
            1,
            {"the ship in the upper left", "the ship at the top left of the image"},
        ),
        (
            Meaning(
                "multi", Phrase("ship", "red"), None, (Link("between", (Phrase("harbor"), Phrase("ship", "large"))),)
            ),
            2,
            {"the red ship between the harbor and the large ship"},
        ),
        (
            Meaning(
                "multi", Phrase("ship"), None, (Link("above", (Phrase("harbor"),)), Link("below", (Phrase("bridge"),)))
            ),
            2,
            {"the ship above the harbor and below the bridge"},
        ),
    ],
)
def test_sentences(meaning, peers, expected):
    assert {say(meaning, peers, RandomStream(i)) for i in range(40)} == expected
