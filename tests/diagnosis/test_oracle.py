"""What a changed sentence refers to: the grammar read backwards, and what a careful reader would say."""

import numpy as np
import pytest

from rrsis_zoo.data.synthetic import make_sample
from rrsis_zoo.data.synthetic.chance import RandomStream
from rrsis_zoo.data.synthetic.contents import Contents, Mentioned, understand
from rrsis_zoo.data.synthetic.language import YES, Reader, say, sayable
from rrsis_zoo.data.synthetic.scenes import SceneObject
from rrsis_zoo.diagnosis.probes import paraphrases, swaps

SCENES = 80


@pytest.fixture(scope="module")
def scenes():
    found = []
    for index in range(SCENES):
        sample = make_sample("test", index, size=64)
        said = {e.text: Mentioned(e.referent, tuple(i for a in e.anchors for i in a)) for e in sample.expressions}
        found.append(Contents(sample.scene.objects, said))
    return found


def test_every_sentence_that_can_be_said_is_read_back(scenes):
    read = 0
    for number, contents in enumerate(scenes):
        stream = RandomStream(7, number)
        for meaning, referent in sayable(contents.reader):
            text = say(meaning, len(contents.reader.peers[referent]), stream)
            back = understand(text)
            assert back is not None, text
            assert (back.phrase, back.position, back.links) == (meaning.phrase, meaning.position, meaning.links), text
            assert contents.refers(text) == ("one", referent), text
            read += 1
    assert read > 1000


def test_a_paraphrase_means_the_same(scenes):
    """Wordings outside the grammar ("the ship that is red") cannot be read back; all others can, and mean the same."""
    outside = ("that is", "on the far", "bigge")
    read = 0
    for number, contents in enumerate(scenes):
        stream = RandomStream(8, number)
        for meaning, referent in sayable(contents.reader):
            text = say(meaning, len(contents.reader.peers[referent]), stream)
            for _, changed in paraphrases(text):
                assert changed != text
                if any(words in changed for words in outside):
                    continue
                assert contents.refers(changed) == ("one", referent), (text, changed)
                read += 1
    assert read > 300


@pytest.mark.parametrize(
    ("sentence", "changed"),
    {
        "the ship to the upper left of the harbor": "the ship on the upper left of the harbor",
        "the ship to the left of the harbor": "the ship left of the harbor",
        "the ship left of the harbor": "the ship to the left of the harbor",
        "the leftmost ship": "the ship on the far left",
    }.items(),
)
def test_paraphrases(sentence, changed):
    assert [text for _, text in paraphrases(sentence)] == [changed]


def test_swapping_back_gives_the_sentence(scenes):
    for contents in scenes:
        for text in contents.sentences:
            for what, changed in swaps(text):
                assert changed != text
                if "to" in what or "from" in what or "most" in what or "lowest" in what:
                    continue  # several words have the same opposite
                assert text in [back for _, back in swaps(changed)]


def disc(x: float, y: float, r: float, size: int = 128) -> np.ndarray:
    yy, xx = np.mgrid[:size, :size] + 0.5
    return (xx - x) ** 2 + (yy - y) ** 2 <= r * r


def scene(*objects: tuple[str, str | None, float, float, float]) -> Contents:
    things = tuple(SceneObject(name, colour, None, 0, disc(x, y, r)) for name, colour, x, y, r in objects)
    return Contents(things, {})


def test_a_comparison_among_fewer_is_unclear_and_not_nothing():
    """The nearest tank is large; "the small tank nearest to the vehicle" is a small one, to most readers."""
    contents = scene(
        ("storage tank", "blue", 30, 60, 14),
        ("storage tank", "green", 100, 100, 7),
        ("vehicle", "yellow", 60, 60, 6),
    )
    assert contents.refers("the large storage tank nearest to the vehicle") == ("one", 0)
    assert contents.refers("the small storage tank nearest to the vehicle").status == "unclear"
    assert contents.refers("the green storage tank nearest to the vehicle").status == "unclear"
    # no red tank at all: nothing is meant however it is read
    assert contents.refers("the red storage tank nearest to the vehicle").status == "none"
    assert contents.refers("the storage tank nearest to the vehicle") == ("one", 0)


def test_without_a_comparison_nothing_is_nothing():
    contents = scene(("ship", "red", 20, 60, 6), ("ship", "white", 100, 60, 6), ("harbor", None, 60, 60, 10))
    assert contents.refers("the red ship to the left of the harbor") == ("one", 0)
    assert contents.refers("the red ship to the right of the harbor").status == "none"
    assert contents.refers("the ship to the left of the bridge").status == "none"  # no such anchor
    assert contents.refers("the ship above the harbor").status == "none"
    assert contents.refers("of ship the the red") is None


def test_what_fits_two_objects_is_unclear():
    contents = scene(("ship", "red", 20, 60, 6), ("ship", "red", 100, 60, 6), ("harbor", None, 60, 20, 8))
    assert contents.refers("the red ship").status == "unclear"
    assert contents.refers("the harbor above the red ship").status == "unclear"
    assert not contents.unique("ship")
    assert contents.unique("harbor")
    assert Reader(contents.objects).phrase(understand("the red ship").phrase) == [YES, YES, 0]
