import json
from pathlib import Path

import pytest

from rrsis_zoo.data.directions import is_local, rewrite
from rrsis_zoo.data.synthetic import make_sample
from rrsis_zoo.data.synthetic.chance import RandomStream
from rrsis_zoo.data.synthetic.language import Link, Meaning, say

GOLDEN = Path(__file__).parents[1] / "golden/datasets"
SYMMETRIES = ("hflip", "vflip", "rot90", "rot180", "rot270")

REWRITTEN = [  # sentence, left-right, top-bottom; None: refused
    ("The baseball field on the top", "=", "The baseball field on the bottom"),
    ("A vehicle on the lower right", "A vehicle on the lower left", "A vehicle on the upper right"),
    (
        "the bottom right corner of the left court",
        "the bottom left corner of the right court",
        "the top right corner of the left court",
    ),
    ("an upper left building", "an upper right building", "a lower left building"),
    ("a lower corner", "=", "an upper corner"),
    ("The left-most ship", "The right-most ship", "="),
    ("the ship on the right-hand side", "the ship on the left-hand side", "="),
    ("the middleright court", "the middleleft court", "="),
    ("LEFT of the pier", "RIGHT of the pier", "="),
    ("Upper Left one", "Upper Right one", "Lower Left one"),
    ("the third car from left to right", "the third car from right to left", "="),
    ("second from the left", "second from the right", "="),
    ("the left and right courts", "the right and left courts", "="),
    ("an airplane facing left", "an airplane facing right", "="),
    ("the ship on the right next to the pier", "the ship on the left next to the pier", "="),
    (
        "the court to the left, below the road",
        "the court to the right, below the road",
        "the court to the left, above the road",
    ),
    ("the ship at the top of the image", "=", "the ship at the bottom of the image"),
    ("a bright ship in the middle", "=", "="),
    ("the ship under way on the left", "the ship under way on the right", None),
    ("the right of way", None, "="),
    ("the vehicle on the right of way", None, "="),
    ("the boxes left over", None, "="),
    ("the left over boxes", None, "="),
    ("leftover cars", None, None),
    ("the vehicle left the road", None, "="),
    ("the ship right next to the pier", None, "="),
    ("a road at a right angle", None, "="),
    ("the car in the right lane", None, "="),
    ("on the left bank of the river", None, "="),
    ("a top-down view of the ship", "=", None),
    ("helipad on top of the building", "=", None),
    ("the ship at the top of the pier", "=", None),
    ("the lower building", "=", None),
    ("the bridge above the river", "=", None),
    ("a ship seen from above", "=", None),
    ("a runway made up of slabs", "=", None),
    ("the northern dam", None, None),
    ("the ship to the southwest", None, None),
    ("the ship at two o'clock", None, None),
    ("the road that turns", None, None),
    ("an S-shaped road", None, None),
    ("the second ship", None, None),
]


@pytest.mark.parametrize(("sentence", "hflip", "vflip"), REWRITTEN, ids=[one[0] for one in REWRITTEN])
def test_rewritten_exactly_or_refused(sentence, hflip, vflip):
    assert rewrite(sentence, "hflip") == (sentence if hflip == "=" else hflip)
    assert rewrite(sentence, "vflip") == (sentence if vflip == "=" else vflip)


def golden_phrases():
    for path in sorted(GOLDEN.glob("*/output_phrase_*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield line.split(maxsplit=1)[1]
    for reference in json.loads((GOLDEN / "rrsisd/expected.json").read_text())["readers"]["lavt"]["splits"].values():
        for one in reference:
            yield from one["phrases"]


def test_twice_is_the_identity():
    synthetic = [e.text for i in range(60) for e in make_sample("test", i, size=64).expressions]
    sentences = [*golden_phrases(), *(one[0] for one in REWRITTEN), *synthetic]
    assert len(sentences) > 200
    for sentence in sentences:
        for symmetry in ("hflip", "vflip", "rot180"):
            there = rewrite(sentence, symmetry)
            assert there is None or rewrite(there, symmetry) == sentence
        for there, back in (("rot90", "rot270"), ("rot270", "rot90")):
            turned = rewrite(sentence, there)
            assert turned is None or rewrite(turned, back) == sentence


def test_golden_phrases():
    """All of them, with what becomes of them."""
    changed = {}
    for phrase in dict.fromkeys(golden_phrases()):
        for symmetry in ("hflip", "vflip"):
            new = rewrite(phrase, symmetry)
            if new != phrase:
                changed[phrase.strip(), symmetry] = new and new.strip()
    beginning = "The large train station structure with multiple parallel lines occupies the"
    assert changed == {
        ("The baseball field on the top", "vflip"): "The baseball field on the bottom",
        ("A vehicle on the lower right", "hflip"): "A vehicle on the lower left",
        ("A vehicle on the lower right", "vflip"): "A vehicle on the upper right",
        ("A tennis court on the lower left", "hflip"): "A tennis court on the lower right",
        ("A tennis court on the lower left", "vflip"): "A tennis court on the upper left",
        ("The tennis court beside the café – left", "hflip"): None,
        (
            "The basketball court is on the right of the tennis court in the middle",
            "hflip",
        ): "The basketball court is on the left of the tennis court in the middle",
        ("The left-most airplane on the tarmac.", "hflip"): "The right-most airplane on the tarmac.",
        ("The airplane parked on the right-most side.", "hflip"): "The airplane parked on the left-most side.",
        (f"{beginning} lower part of the image.", "vflip"): f"{beginning} upper part of the image.",
        (
            "The  small vehicle positioned at the top center of the image .",
            "vflip",
        ): "The  small vehicle positioned at the bottom center of the image .",
        ("The storage-tank near the café – upper left.", "hflip"): "The storage-tank near the café – upper right.",
        ("The storage-tank near the café – upper left.", "vflip"): "The storage-tank near the café – lower left.",
    }


def mirrored(meaning: Meaning, words: dict[str, str]) -> Meaning:
    """The meaning in the mirrored image, from the generator's logical form."""

    def swap(name):
        if name is None:
            return None
        for one, other in words.items():
            if one in name:
                return name.replace(one, other)
        return name

    links = tuple(Link(swap(link.relation), link.anchors) for link in meaning.links)
    return Meaning(meaning.kind, meaning.phrase, swap(meaning.position), links)


@pytest.mark.parametrize(
    ("symmetry", "words"),
    [
        ("hflip", {"left": "right", "right": "left"}),
        (
            "vflip",
            {"top": "bottom", "bottom": "top", "above": "below", "below": "above", "upper": "lower", "lower": "upper"},
        ),
    ],
)
def test_synthetic_sentences_say_the_mirrored_meaning(symmetry, words):
    """The generator knows what its sentences mean: the rewritten one must be a way to say the mirrored meaning."""
    rewritten = changed = 0
    for index in range(80):
        for expression in make_sample("train", index, size=64).expressions:
            new = rewrite(expression.text, symmetry)
            if new is None:
                continue
            rewritten += 1
            changed += new != expression.text
            meaning = mirrored(expression.meaning, words)
            ways = {say(meaning, expression.peers, RandomStream(i)) for i in range(60)}
            # it never says "lowermost", the partner of its "uppermost"
            assert new.replace("lowermost", "bottommost") in ways, (expression.text, new)
    assert rewritten > 200
    assert changed > 40


@pytest.mark.parametrize(
    ("sentence", "turns"),
    [
        ("a red ship", True),
        ("the bright ship near the harbor", True),
        ("the ship on the left", False),
        ("the upper one", False),
        ("the horizontal bridge", False),
        ("the second ship", False),
        ("the northern dam", False),
        ("the right of way", False),
    ],
)
def test_quarter_turns_only_without_any_direction(sentence, turns):
    for symmetry in ("rot90", "rot270"):
        assert rewrite(sentence, symmetry) == (sentence if turns else None)


def test_local_sentences_speak_of_nothing_around():
    assert is_local("the large gray ship")
    assert is_local("A windmill")
    for sentence in ("the ship near the pier", "the ship in the image", "the left ship", "a group of ships"):
        assert not is_local(sentence)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("sentence", ["", "  ", "…", "日本", "left", "the", "Ölfass"])
def test_odd_sentences_do_no_harm(sentence, symmetry):
    assert rewrite(sentence, symmetry) in (sentence, None)
