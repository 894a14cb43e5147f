import numpy as np
import pytest
from boxes import box

from rrsis_zoo.data.transforms import Augmentation, crop_around, random_boxes, transform
from rrsis_zoo.errors import ConfigError

IMAGE = np.random.default_rng(0).integers(1, 256, (90, 120, 3), dtype=np.uint8)
MASK = box((90, 120), 10, 20, 40, 35)
QUARTERS = {"rot90": 1, "rot180": 2, "rot270": 3}


@pytest.mark.parametrize("symmetry", ["hflip", "vflip", "rot180"])
def test_twice_is_the_identity_on_image_mask_and_text(symmetry):
    there = transform(IMAGE, MASK, "the ship at the upper left of the harbor", symmetry)
    assert not np.array_equal(there[0], IMAGE)
    assert there[2] != "the ship at the upper left of the harbor"
    image, mask, text = transform(*there, symmetry)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(mask, MASK)
    assert text == "the ship at the upper left of the harbor"


def test_pixels_move_as_the_name_says():
    for symmetry, times in QUARTERS.items():
        image, mask, _ = transform(IMAGE, MASK, "a ship", symmetry)
        np.testing.assert_array_equal(image, np.rot90(IMAGE, times))
        np.testing.assert_array_equal(mask, np.rot90(MASK, times))
    np.testing.assert_array_equal(transform(IMAGE, MASK, "a ship", "hflip")[0], IMAGE[:, ::-1])
    np.testing.assert_array_equal(transform(IMAGE, MASK, "a ship", "vflip")[1], MASK[::-1])
    back = transform(*transform(IMAGE, MASK, "a ship", "rot90"), "rot270")
    np.testing.assert_array_equal(back[0], IMAGE)
    np.testing.assert_array_equal(back[1], MASK)


@pytest.mark.parametrize(("text", "symmetry"), [("the right of way", "hflip"), ("the left ship", "rot90")])
def test_refused_sentence_leaves_everything_as_it_is(text, symmetry):
    image, mask, same = transform(IMAGE, MASK, text, symmetry)
    assert image is IMAGE
    assert mask is MASK
    assert same == text


def test_random_boxes_are_the_published_ones():
    numbers = []
    for seed in range(60):
        image = np.full((200, 400, 3), 255, np.uint8)
        boxed = random_boxes(image, np.random.default_rng(seed))
        assert (image == 255).all()
        black = (boxed == 0).all(-1)
        assert ((boxed == 0).any(-1) == black).all()
        numbers.append(black.sum() / 32**2)
    assert 5 < min(numbers) < max(numbers) < 60  # overlaps, and rows drawn up to width − 32 of an image less high
    corner = random_boxes(np.full((32, 32, 3), 255, np.uint8), np.random.default_rng(0))
    assert (corner == 0).all()


def test_number_of_boxes():
    class Count:
        def __init__(self, seed):
            self.rng, self.seen = np.random.default_rng(seed), []

        def integers(self, *arguments, **settings):
            self.seen.append((arguments, settings))
            return self.rng.integers(*arguments, **settings)

    sizes = set()
    for seed in range(400):
        count = Count(seed)
        random_boxes(np.zeros((800, 800, 3), np.uint8), count)
        assert count.seen[1][0] == (0, 769)  # exclusive: 768 = 800 − 32 is the last
        sizes.add(count.seen[1][1]["size"][0])
    assert (min(sizes), max(sizes)) == (20, 60)


def test_boxed_references_are_chosen_once():
    references = [f"r{i // 2}" for i in range(100)]
    first, again, other = (Augmentation({"random_boxes": 0.2}, seed, references) for seed in (0, 0, 1))
    assert len(first.boxed) == 10
    assert first.boxed == again.boxed != other.boxed
    for index, reference in enumerate(references):
        for epoch in range(3):
            image, mask, text = first(IMAGE, MASK, "a ship", reference, epoch, index)
            assert (image is not IMAGE) == (reference in first.boxed)
            assert mask is MASK
            assert text == "a ship"


def test_draws_depend_on_seed_epoch_and_sample_only():
    shares = {"random_boxes": 1, "photometric": 1, "crops": 1, "flips": 0.5, "rotations": 0.5}
    references = [f"r{i}" for i in range(4)]

    def run(seed, order):
        augmentation = Augmentation(shares, seed, references)
        return {(e, i): augmentation(IMAGE, MASK, "a ship", f"r{i}", e, i) for e, i in order}

    order = [(epoch, index) for epoch in range(2) for index in range(4)]
    first, backwards, other = run(0, order), run(0, order[::-1]), run(1, order)
    for key in order:
        for ours, theirs in zip(first[key], backwards[key], strict=True):
            assert np.array_equal(ours, theirs)
    images = [result[0] for run_ in (first, other) for result in run_.values()]
    assert all(not np.array_equal(a, b) for i, a in enumerate(images) for b in images[:i])


def test_photometric_changes_colours_a_little_and_nothing_else():
    augmentation = Augmentation({"photometric": 1}, 0, ["r"])
    smooth = np.repeat(np.linspace(40, 200, 120).astype(np.uint8)[None, :, None], 90, 0).repeat(3, 2)
    changes = []
    for epoch in range(40):
        image, mask, text = augmentation(smooth, MASK, "the left ship", "r", epoch, 0)
        assert image.shape == smooth.shape
        assert image.dtype == np.uint8
        assert mask is MASK
        assert text == "the left ship"
        changes.append(np.abs(image.astype(int) - smooth).mean())
    assert 3 < np.mean(changes) < 25
    assert max(changes) < 60


def test_crops_hold_the_whole_mask():
    sides = set()
    for seed in range(50):
        image, mask = crop_around(IMAGE, MASK, np.random.default_rng(seed))
        assert mask.sum() == MASK.sum()
        assert image.shape[:2] == mask.shape
        assert image.shape[0] >= 0.6 * 90
        assert image.shape[1] >= 0.6 * 120
        np.testing.assert_array_equal(image[mask], IMAGE[MASK])
        sides.add(mask.shape)
    assert len(sides) > 30
    empty = np.zeros_like(MASK)
    assert crop_around(IMAGE, empty, np.random.default_rng(0))[0] is IMAGE
    full = np.ones_like(MASK)
    assert crop_around(IMAGE, full, np.random.default_rng(0))[1].shape == full.shape


def test_crops_need_a_sentence_about_nothing_around():
    augmentation = Augmentation({"crops": 1}, 0, ["r"])
    assert augmentation(IMAGE, MASK, "the ship near the pier", "r", 0, 0)[0] is IMAGE
    assert augmentation(IMAGE, MASK, "the gray ship", "r", 0, 0)[0].shape != IMAGE.shape


@pytest.mark.parametrize(
    ("shares", "message"),
    [({"flip": 0.5}, "did you mean 'flips'"), ({"flips": 1.5}, "share from 0 to 1, got 1.5")],
)
def test_shares_that_cannot_be_used(shares, message):
    with pytest.raises(ConfigError, match=message):
        Augmentation(shares, 0, [])
