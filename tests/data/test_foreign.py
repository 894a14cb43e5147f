"""Foreign sentences are about what is not there, as many as a scene has, the same wherever they are drawn."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rrsis_zoo.data.annotations import annotations_hash
from rrsis_zoo.data.categories import Categories
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.foreign import KIN, ForeignSentences, foreign_records
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd
from rrsis_zoo.data.masks import RunLengths, encode_mask
from rrsis_zoo.data.records import Record
from rrsis_zoo.data.sources import SOURCES, ReadOptions
from rrsis_zoo.data.synthetic import make_sample, make_synthetic
from rrsis_zoo.data.synthetic.language import CONFUSABLE_CATEGORIES
from rrsis_zoo.data.transforms import AUGMENTATIONS
from rrsis_zoo.errors import ConfigError

KINDS = ("dam", "chimney", "windmill", "golf field")


def record(scene, category, n=0, text=None, **more):
    mask = RunLengths((encode_mask(np.ones((4, 6), dtype=np.bool_)),), 4, 6)
    return Record(
        f"d/val/{scene}{n}/0", scene, None, f"{scene}.jpg", text or f"the {category} {scene}{n}", "val", category,
        category and "label", mask, **more,
    )  # fmt: skip


SPLIT = [
    record("a", "dam"), record("a", "chimney", 1), record("b", "windmill"), record("b", "windmill", 1),
    record("b", "windmill", 2), record("c", "golf field", text="the golf field near the dam"), record("c", None, 1),
]  # fmt: skip


def test_they_are_about_what_is_not_there():
    found = foreign_records(SPLIT)
    assert Counter(r.scene_id for r in found) == {"a": 2, "b": 3, "c": 2}
    own = {scene: {r.category for r in SPLIT if r.scene_id == scene} for scene in "abc"} | {"c": {"golf field", "dam"}}
    sources = {r.expression: r for r in SPLIT}
    for asked in found:
        assert asked.category not in own[asked.scene_id]
        assert sources[asked.expression].scene_id != asked.scene_id
        assert (asked.category, asked.category_source) == (sources[asked.expression].category, "label")
        assert asked.image_file == f"{asked.scene_id}.jpg"
        assert asked.is_empty
        assert (asked.height, asked.width) == (4, 6)
        assert not asked.mask.decode().any()
    assert len({r.sample_id for r in [*found, *SPLIT]}) == len(found) + len(SPLIT)
    assert all(len({r.expression for r in found if r.scene_id == scene}) == n for scene, n in (("a", 2), ("b", 3)))


def test_they_depend_on_the_split_and_the_seed_alone():
    assert foreign_records(SPLIT) == foreign_records(list(SPLIT))
    many = [record(str(scene), KINDS[scene % 4], n) for scene in range(20) for n in range(3)]
    assert annotations_hash(foreign_records(many, seed=1)) != annotations_hash(foreign_records(many))
    drawn = Counter(r.expression for r in foreign_records(many))
    assert len(drawn) > 30  # not the same few for every scene


def test_kin_may_be_there_unsaid():
    """A scene with a stadium may show a soccer field, one with ships a harbor."""
    split = [record("a", "stadium"), record("b", "soccer field"), record("c", "ship"), record("d", "harbor")]
    words = {scene: {r.category for r in foreign_records(split) if r.scene_id == scene} for scene in "abcd"}
    assert words == {
        scene: found
        for scene, found in words.items()
        if found <= ({"ship", "harbor"} if scene in "ab" else {"stadium", "soccer field"})
    }
    assert all(words.values())
    names = Counter(name for group in KIN for name in group)
    assert max(names.values()) == 1


def test_what_a_scene_holds_is_known_for_certain():
    """Then only that counts, whatever else is mentioned."""
    there = frozenset({"dam", "chimney"})
    split = [record("a", "dam", text="the dam, as large as a windmill", present=there), record("b", "windmill")]
    (found, other) = foreign_records(split)
    assert (found.scene_id, found.category, other.category) == ("a", "windmill", "dam")


@pytest.mark.parametrize(
    ("split", "why"),
    [
        ([record("a", "dam"), record("b", "dam")], "only 'dam' is asked for"),
        ([record("a", None), record("b", None)], "no category is known"),
        ([record("a", "dam"), record("a", "chimney", 1)], "every category occurs in every scene"),
    ],
)
def test_a_split_without_any(split, why):
    with pytest.raises(ConfigError, match=f"no sentence of this split is foreign.*{why}"):
        foreign_records(split)


def test_categories_in_a_sentence():
    words = Categories(("ship", "storage tank", "road", "road marking"), {"ship": ("boat",)})
    assert words.all_in("Boats left of two storage-tanks on a road marking") == {"ship", "storage tank", "road marking"}
    assert words.all_in("nothing") == frozenset()
    assert SOURCES["risbench"].categories.all_in("a vessel near the pier") == {"ship", "harbor"}


# -- the synthetic scenes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "synthetic"
    make_synthetic(root, scenes=24, size=64, splits=(8, 8, 8), processes=1)
    return root


def test_synthetic_scenes_say_what_is_in_them(made):
    records = SOURCES["synthetic"].read(made, "val", ReadOptions())
    scenes = list(dict.fromkeys(r.scene_id for r in records))
    for number, scene in enumerate(scenes):
        there = {thing.category for thing in make_sample("val", number, size=64).scene.objects}
        alike = {name for pair in CONFUSABLE_CATEGORIES if pair & there for name in pair}
        mine = [r for r in records if r.scene_id == scene]
        assert {r.present for r in mine} == {frozenset(there | alike)}
        assert {r.category for r in mine} <= there
    found = foreign_records(records)
    assert len(found) == len(records)
    assert not [r for r in found if r.category in r.present]


# -- in training batches -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Nine training scenes with two sentences each, about three of four kinds of things."""
    rng = np.random.default_rng(0)
    scenes = []
    for split, count in (("train", 9), ("val", 3), ("test", 3)):
        for i in range(count):
            mask = np.zeros((40, 48), dtype=np.bool_)
            mask[4:20, 4 + i : 20 + i] = True
            referents = [
                Referent(mask.copy(), [f"the {KINDS[(i + k) % 4]} at the top left"], KINDS[(i + k) % 4]) for k in (0, 1)
            ]
            scenes.append(ReferredScene(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8), referents, split))
    root = tmp_path_factory.mktemp("mixed") / "tree"
    write_rrsisd(root, scenes)
    return root


def module(root, share=0.25, **more):
    settings = {"batch_size": 6, "num_workers": 0, "foreign_share": share, **more}
    return RRSISDataModule("rrsis-d", str(root), **settings)


def epoch(data, number=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def shown(batch):
    return list(
        zip(batch.sample_ids, batch.expressions, batch.absent, [bool(m.any()) for m in batch.masks], strict=True)
    )


@pytest.mark.parametrize("draw", ["samples", "scenes", "references"])
def test_a_batch_with_foreign_sentences(mixed, draw):
    """The published samples in the published order, and after them the foreign ones about the same images."""
    data = module(mixed, draw=draw)
    plain = epoch(module(mixed, 0, draw=draw))
    batches = epoch(data)
    assert len(batches) == len(plain) == 3
    records = {r.sample_id: r for r in data.records("train")}
    for batch, without in zip(batches, plain, strict=True):
        assert without.absent == []
        assert batch.absent == [False] * 6 + [True] * 2
        assert (batch.sample_ids[:6], batch.expressions[:6]) == (without.sample_ids, without.expressions)
        assert len(batch.images) == len(without.images)  # nothing more to encode
        assert not any(mask.any() for mask in batch.masks[6:])
        for name, text in zip(batch.sample_ids[6:], batch.expressions[6:], strict=True):
            host = records[name.rpartition("/")[0]]
            there = {r.category for r in records.values() if r.scene_id == host.scene_id}
            assert not any(kind in text for kind in there)
        assert len(set(batch.sample_ids)) == 8


def test_they_are_the_same_with_workers_and_others_in_another_epoch(mixed):
    first, second = (list(map(shown, epoch(module(mixed), n))) for n in (0, 1))
    assert first != second
    assert first == list(map(shown, epoch(module(mixed, num_workers=2))))
    assert first != list(map(shown, epoch(module(mixed, seed=5))))


def test_an_epoch_taken_up_again(mixed):
    whole = list(map(shown, epoch(module(mixed), 3)))
    data = module(mixed)
    data.start_at(3, 1)
    loader = data.train_dataloader()
    assert len(loader) == 3
    loader.sampler.set_epoch(3)
    assert list(map(shown, loader)) == whole[1:]


def test_every_process_has_its_own(mixed):
    """Samples are shared among processes as without foreign sentences; each adds its own."""

    def of(rank, share):
        data = module(mixed, share, batch_size=3)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        return epoch(data)

    for rank in (0, 1):
        for batch, without in zip(of(rank, 0.25), of(rank, 0), strict=True):
            assert batch.sample_ids[:3] == without.sample_ids
            assert batch.absent == [False] * 3 + [True]


def test_pictures_do_not_give_them_away(mixed):
    """They are augmented as their host is."""
    data = module(mixed, 0.5, augment=dict.fromkeys(AUGMENTATIONS, 1.0))
    plain = module(mixed, 0.5)
    changed = 0
    for batch, without in zip(epoch(data), epoch(plain), strict=True):
        for n in range(6, 12):
            mine, native = batch.images[batch.image_index[n]], without.images[without.image_index[n]]
            changed += mine.shape != native.shape or not torch.equal(mine, native)
            assert batch.masks[n].shape == mine.shape[1:]
            assert not batch.masks[n].any()
    assert changed == 18


def test_a_half_is_a_half(mixed):
    assert [(module(mixed, share).added) for share in (0, 0.2, 0.25, 0.5, 0.75)] == [0, 2, 2, 6, 18]
    (batch, *_) = epoch(module(mixed, 0.75))
    assert sum(batch.absent) == 18  # more than there are scenes
    assert len(set(batch.sample_ids)) == 24


@pytest.mark.parametrize(
    ("share", "more", "message"),
    [
        (1.0, {}, "foreign_share must be at least 0 and below 1, got 1.0"),
        (-0.1, {}, "foreign_share must be at least 0 and below 1"),
        (0.01, {}, "adds no sentence to a batch of 6: set at least 0.08"),
        (0.25, {"shuffle_expressions": True}, "shuffle_expressions takes away"),
    ],
)
def test_settings_that_cannot_be(mixed, share, more, message):
    with pytest.raises(ConfigError, match=message):
        module(mixed, share, **more)
    assert module(mixed, 0.08).added == 1


def test_data_of_one_kind_have_no_foreign_sentences(mixed, tmp_path):
    mask = np.ones((8, 8), dtype=np.bool_)
    scenes = [
        ReferredScene(np.zeros((8, 8, 3), dtype=np.uint8), [Referent(mask, ["the dam"], "dam")], "train")
        for _ in range(4)
    ]
    write_rrsisd(tmp_path / "one", scenes)
    with pytest.raises(ConfigError, match="only 'dam' is asked for"):
        module(tmp_path / "one", 0.5, batch_size=2).train_dataloader()


def test_no_scene_is_drawn_where_nothing_is_foreign():
    """A scene with everything in it cannot be a host."""
    everything = [record("a", kind, n) for n, kind in enumerate(KINDS)]
    sentences = ForeignSentences([*everything, record("b", "dam")])
    assert (sentences.hosts("a"), sentences.hosts("b")) == (False, True)
    assert sentences.draw("a", 3, np.random.default_rng(0)) == []
    places = sentences.draw("b", 9, np.random.default_rng(0))
    assert sorted(places) == [1, 2, 3]
