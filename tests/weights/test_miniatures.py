"""The miniatures that the package ships, and the script that makes them."""

import json
import sys
from dataclasses import replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rrsis_zoo.data.synthetic import HELD_OUT
from rrsis_zoo.data.synthetic.chance import RandomStream
from rrsis_zoo.data.synthetic.draw import CATEGORIES, COLOURS
from rrsis_zoo.data.synthetic.language import CONFUSABLE_CATEGORIES, Link, Meaning, Phrase, Reader
from rrsis_zoo.data.synthetic.scenes import make_scene
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import card, list_models, method_named
from rrsis_zoo.models.tokenizers import BEiT3Tokenizer, SigLIPTokenizer
from rrsis_zoo.pretrained.foundations import fill_foundations
from rrsis_zoo.weights.files import read_state_dict
from rrsis_zoo.weights.foundations import fill_sam, fill_sam2
from rrsis_zoo.weights.sources import MINIATURES, MiniSource, parse_source

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "miniatures" / "pretrain.py"
UNREAD = (  # what only pretraining reads
    "match_head.",
    "ground_head.",
    "tracker.sam_prompt_encoder.mask_downscaling.",
    "tracker.sam_prompt_encoder.not_a_point_embed.",
    "tracker.sam_prompt_encoder.point_embeddings.",
    "tracker.sam_mask_decoder.iou_prediction_head.",
)
BUILT = [name for name in list_models() if "mini" in card(name).presets]


def said(name):
    return json.loads((MiniSource(name).folder / "card.json").read_text())


def test_they_are_small_and_half_precision():
    files = [MiniSource(name).folder / "model.safetensors" for name in MINIATURES]
    assert sum(path.stat().st_size for path in files) < 16e6
    for path in files:
        assert {t.dtype for t in read_state_dict(path).values() if t.is_floating_point()} == {torch.float16}


@pytest.mark.parametrize("name", MINIATURES)
def test_a_card_is_about_its_file(name):
    folder = MiniSource(name).folder
    entries = said(name)
    assert entries["sha256"] == sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert entries["parameters"] == sum(t.numel() for t in read_state_dict(folder / "model.safetensors").values())
    assert {"made_by", "seed", "steps", "scenes", "scores", "licence"} <= entries.keys()
    assert entries["scenes"]["seed"] != 0  # the benchmark's
    assert entries["scenes"]["seed"] != entries["scenes"]["unseen_seed"]


@pytest.mark.parametrize("name", MINIATURES)
def test_what_ships_is_made_by_the_recipe(made, name):
    modules, _, _ = made
    recipe, entries = modules.pretrain.RECIPES[name], said(name)
    shipped = modules.pretrain.Recipe(
        entries["steps"], entries["images_a_step"], entries["scenes"]["count"], entries["seed"]
    )
    assert shipped == recipe


@pytest.mark.parametrize("name", MINIATURES)
def test_the_table_says_what_the_card_says(name):
    table = (ROOT / "benchmarks" / "LABBOOK.md").read_text(encoding="utf-8")
    (row,) = [line for line in table.splitlines() if line.startswith(f"| `mini:{name}` |")]
    entries = said(name)
    scores, spent = entries["scores"], entries["training"]
    alone = spent.get("device", "cpu") == "cpu"
    minutes = f"{spent['cpu_s'] / 60:.0f}" if alone else f"{spent['wall_s'] / 60:.0f} of a GPU"
    assert [cell.strip() for cell in row.split("|")][4:7] == [
        f"{entries['parameters'] / 1e6:.2f} M",
        f"{entries['steps']:,}",
        minutes,
    ]
    if name in ("sam", "sam2", "sam3"):
        expected = (
            f"mIoU box {scores['miou_box']:.1f}, point {scores['miou_point']:.1f}, mask {scores['miou_mask']:.1f}"
        )
        assert scores["miou_box"] >= 80
    else:
        found = f"{scores['image_to_text']:.1f}, text to image {scores['text_to_image']:.1f}"
        hits = ", ".join(f"{kind} {scores[kind]:.0f} %" for kind in ("phrases", "places", "referents"))
        expected = f"retrieval image to text {found} of {scores['of']:.0f}; {hits}"
        assert min(scores["phrases"], scores["places"]) >= {"siglip": 90, "beit3": 80}[name]
        assert min(scores["image_to_text"], scores["text_to_image"]) >= 10
    assert row.split("|")[7].strip() == expected


@pytest.mark.parametrize("method", BUILT)
def test_a_method_takes_them_whole(method):
    """Every tensor of the files is in the model afterwards; nothing of them is left at its initial value."""
    sources = card(method).presets["mini"].weights
    model = method_named(method).model().from_preset("mini")
    fill_foundations(model, sources)
    assert model.tokenizer_ready
    held = {sha256(t.float().numpy().tobytes()).digest() for t in model.state_dict().values() if t.is_floating_point()}
    for source in sources.values():
        if source == "none":
            continue
        state = read_state_dict(parse_source(source).folder / "model.safetensors")
        lost = [n for n, t in state.items() if sha256(t.float().numpy().tobytes()).digest() not in held]
        assert [n for n in lost if not n.startswith(UNREAD)] == []


def test_both_conventions_of_siglip_read_alike():
    """RSRefSeg reads the miniature with SigLIP's tokenizer file, RSRefSeg 2 with SigLIP 2's."""
    from rrsis_zoo.models.tokenizers import SigLIP2Tokenizer, SigLIPTokenizer

    folder = MiniSource("siglip").folder
    first = SigLIPTokenizer.from_file(folder / "spiece.model", 64)
    second = SigLIP2Tokenizer.from_file(folder / "tokenizer.json", 64)
    for text in ("the red ship", "the two small storage tanks left of the bridge", "a zebra"):
        assert first.encode(text) == second.encode(text)


@pytest.mark.parametrize("text", ["mini:", "mini:sma", "mini:/etc"])
def test_unknown_miniatures_are_named(text):
    with pytest.raises(ConfigError, match=r"miniature .* known: beit3, evisam3, rs2sam2, rsrefseg, rsrefseg2, sam"):
        parse_source(text)


# -- the script ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The script's modules and a few scenes."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        modules = SimpleNamespace(
            **{name: import_module(name) for name in ("scenes", "promptable", "image_text", "pretrain")}
        )
    finally:
        sys.path.remove(str(SCRIPT.parent))
    folder = tmp_path_factory.mktemp("scenes")
    return modules, modules.scenes.scenes(40, modules.scenes.SEED, folder), folder


def test_scenes_say_what_is_there_and_keep_the_test_s_combinations_out(made):
    modules, data, folder = made
    again = modules.scenes.scenes(40, modules.scenes.SEED, folder)
    assert all(
        np.array_equal(a.image, b.image) and a.sentences == b.sentences for a, b in zip(data, again, strict=True)
    )
    kept = {f"{c.attribute} {c.category}" for c in HELD_OUT if c.attribute and not c.relation}
    for scene in data:
        assert scene.image.shape == (128, 128, 3)
        assert scene.image.dtype == np.uint8
        assert scene.sentences
        objects = set(range(scene.labels.max()))
        assert all(set(found) <= objects and found for found in scene.phrases.values())
        assert all(set(found) <= objects and found for found in scene.places.values())
        assert not kept & {*scene.phrases, *scene.wrong, *scene.absent}
        own = {text for text, _ in scene.sentences}
        assert own.isdisjoint(scene.strangers)
        assert not any(phrase in said for phrase in kept for said in (*own, *scene.strangers))


def test_a_sentence_fits_nothing_where_its_anchor_is_missing(made):
    modules, _, _ = made
    missing = several = 0
    for index in range(30):
        objects = make_scene(128, RandomStream(7, 0, index)).objects
        here = [thing.category for thing in objects]
        alike = {name for pair in CONFUSABLE_CATEGORIES if pair & set(here) for name in pair}
        for anchor in CATEGORIES:
            meaning = Meaning("relation", Phrase(here[0]), links=(Link("nearest to", (Phrase(anchor),)),))
            fits_nothing = modules.scenes._fits_nothing(meaning, Reader(objects))
            if anchor not in here:
                assert fits_nothing == (anchor not in alike)
                missing += fits_nothing
            elif here.count(anchor) > 1:
                assert not fits_nothing  # which of them is meant is not said
                several += 1
    assert missing > 100
    assert several > 5


def test_wrong_colours_are_of_things_that_are_there(made):
    _, data, _ = made
    found = [(scene, text) for scene in data for text in scene.wrong]
    assert len(found) > len(data)
    for scene, text in found:
        colour, thing = text.split(" ", 1)
        assert thing in scene.phrases
        assert text not in scene.phrases
        assert any(f"{other} {thing}" in scene.phrases for other in COLOURS if other != colour)


def test_prompts_point_at_their_masks(made):
    modules, data, _ = made
    chance = np.random.default_rng(0)
    masks = np.stack([data[0].labels == k + 1 for k in range(data[0].labels.max())])
    places, labels = modules.promptable._points(masks, 3, chance)
    for mask, where, label in zip(masks, places.numpy().astype(int), labels.tolist(), strict=True):
        assert [bool(mask[y, x]) for x, y in where] == [bool(v) for v in label]
        x0, y0, x1, y1 = modules.promptable._box(mask, np.random.default_rng(1))
        xs = np.nonzero(mask)[1]
        assert abs((x0 + x1) / 2 - xs.mean()) < 16
        assert x0 < x1
        assert y0 < y1


@pytest.mark.parametrize("name", ["sam", "sam2", "sam3"])
def test_every_kind_of_prompt_is_answered_and_learned_from(made, name):
    modules, data, _ = made
    torch.manual_seed(0)
    model, kinds = modules.promptable.Promptable(name), modules.promptable.KINDS
    seen = set()
    for seed in range(60):
        asked = model.draw(data[:2], np.random.default_rng(seed))
        outside = not asked.get("labels", torch.ones(1)).all()  # points that are not meant
        what = (frozenset(asked) - {"images", "masks", "index"}, outside)
        if what in seen:
            continue
        seen.add(what)
        count, side = len(asked["masks"]), 4 * model.model.config.grid
        logits, iou = model.answer(asked)
        answers = 1 if name == "sam3" else 4
        assert logits.shape == (count, answers, side, side)
        assert iou.shape == (count, answers)
        terms = model.loss(asked)
        terms["loss"].backward()
        assert set(terms) == {"first", "iou", "loss", "miou"} | ({"best"} if answers > 1 else set())
    assert len(seen) == len(kinds)
    unread = tuple(
        f"model.{part}."
        for part in (
            "neck.fpn_layers.3",
            "mask_decoder.pred_obj_score_head",
            "mask_decoder.output_hypernetworks_mlps.1",
        )
    )
    if name == "sam3":
        still = {part for part, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        assert still == {part for part, _ in model.named_parameters() if part.startswith(unread)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["sam", "sam2", "sam3"])
def test_a_gpu_answers_as_the_cpu_does(made, name):
    modules, data, _ = made
    torch.manual_seed(0)
    model = modules.promptable.Promptable(name).eval()
    asked = model.draw(data[:2], np.random.default_rng(3))
    here = model.answer(asked)
    there = model.cuda().answer({key: tensor.cuda() for key, tensor in asked.items()})
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-2, atol=1e-2)


def test_a_score_asks_for_every_object_by_three_kinds(made, monkeypatch):
    modules, data, _ = made
    model, asked = modules.promptable.Promptable("sam3"), []

    def nothing(questions):
        asked.append(set(questions) - {"images", "index"})
        return torch.full((len(questions["index"]), 1, 32, 32), -1.0), None

    monkeypatch.setattr(model, "answer", nothing)
    assert model.score(data[:3]) == {"miou_box": 0.0, "miou_point": 0.0, "miou_mask": 0.0}
    assert asked == [{"boxes"}, {"places", "labels"}, {"given"}] * 3


@pytest.fixture(scope="module")
def readers(made):
    modules, data, _ = made
    texts = [text for scene in data for text in (*scene.phrases, *scene.places, *(said for said, _ in scene.sentences))]
    return {name: modules.pretrain.build(name, texts, 0).eval() for name in ("siglip", "beit3")}


def test_texts_are_read_at_once_as_alone(made, readers):
    modules, _, _ = made
    model = readers["siglip"]
    texts = ["ship", "the red ship", "the small storage tank at the top left of the image and a bridge"]
    asked = modules.image_text.tokenised(model.tokenizer, texts)
    together = model.read_texts(asked["ids"], asked["length"])
    for n, text in enumerate(texts):
        pooled = model.model.text_features(model.tokenizer([text], "independent")).pooled
        torch.testing.assert_close(together[n], F.normalize(pooled, dim=1)[0], rtol=1e-4, atol=1e-5)


def test_questions_of_siglip_have_true_answers(made, readers):
    """Captions fit where all that they claim is there; of a phrase's cells those count that its things cover."""
    modules, data, _ = made
    model, module = readers["siglip"], modules.image_text
    asked = model.draw(data[:16], np.random.default_rng(0))
    assert (asked["fits"].diagonal() == 1).all()
    assert 0 < (asked["fits"] > 0).sum() - 16 < 64  # some captions fit other scenes too
    share = module._share(asked["labels"], asked["index"], asked["named"], 16)
    for row in range(0, len(share), 7):
        scene, things = data[int(asked["index"][row])], asked["named"][row].nonzero()[:, 0] + 1
        mask = torch.from_numpy(np.isin(scene.labels, things.numpy())).float()
        torch.testing.assert_close(share[row], F.adaptive_avg_pool2d(mask[None], 16)[0])
    nothing = asked["named"].sum(1) == 0
    assert 16 <= nothing.sum() <= 32
    model.loss(asked)["loss"].backward()


def test_questions_of_beit3_have_true_answers(made, readers, monkeypatch):
    modules, data, _ = made
    model, said = readers["beit3"], []
    whole = modules.image_text.tokenised
    monkeypatch.setattr(modules.image_text, "tokenised", lambda t, texts: said.extend(texts) or whole(t, texts))
    asked = model.draw(data[:16], np.random.default_rng(0))
    everywhere = {sentence for scene in data[:16] for sentence, _ in scene.sentences}
    false = []
    for text, pair, fits in zip(said, asked["pair"].tolist(), asked["fits"].tolist(), strict=False):
        own = {sentence for sentence, _ in data[pair].sentences}
        assert (text in own) == bool(fits)
        if not fits:
            assert text in everywhere or text in data[pair].strangers
            false.append(text in data[pair].strangers)
    assert asked["fits"].tolist() == [1.0, 0.0] * 8
    assert 0 < sum(false) < 8  # what fits nothing here, and what was said of other images
    assert asked["index"].max() == 7  # counted in the second half
    terms = model.loss(asked)
    assert set(terms) == {"match", "ground", "loss", "right"}
    terms["loss"].backward()


def test_retrieval_is_the_mean_over_sets_of_distinct_sentences(made):
    """Six scenes, two of one sentence: three sets of two, and in each the first is right first both ways."""
    modules, data, _ = made
    scenes = [replace(data[0], sentences=((text, 0),)) for text in "aabcde"]
    asked = []

    class Reader(torch.nn.Module):
        def matches(self, scenes, texts):
            asked.append((len(scenes), tuple(texts)))
            return torch.tensor([[2.0, 1.0], [1.0, 0.0]])

    found = modules.image_text.retrieval(Reader(), scenes, 2)
    assert found == {"image_to_text": 1.0, "text_to_image": 1.0, "of": 2.0, "sets": 3.0}
    assert asked == [(2, ("a", "b")), (2, ("a", "c")), (2, ("d", "e"))]
    with pytest.raises(ValueError, match="among 6 needs as many distinct sentences, got 5"):
        modules.image_text.retrieval(Reader(), scenes, 6)


def test_codes_of_places_tell_all_cells_apart_and_say_what_is_near(made):
    modules, _, _ = made
    codes = modules.image_text.place_codes(16, 128)
    assert codes.shape == (256, 128)
    away = torch.cdist(codes, codes) + 100 * torch.eye(256)
    assert away.min() > 0.5
    row, column = away.argmin(1) // 16, away.argmin(1) % 16
    steps = (row - torch.arange(256) // 16).abs() + (column - torch.arange(256) % 16).abs()
    assert (steps == 1).all()  # the most similar cell is a neighbour


@pytest.mark.parametrize("name", MINIATURES)
def test_a_stopped_run_ends_as_if_it_had_not_been(made, name, tmp_path, monkeypatch):
    modules, data, _ = made
    pretrain, texts = modules.pretrain, [text for scene in data for text, _ in scene.sentences]
    monkeypatch.setattr(pretrain, "SAVE_EVERY_S", 0.0)
    whole, stopped = (pretrain.build(name, texts, 0) for _ in range(2))
    recipe = pretrain.Recipe(steps=4, images=4, scenes=40)
    pretrain.train(whole, data, recipe, tmp_path / "whole")

    loss, calls = stopped.loss, []

    def fail_at_the_third(asked):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return loss(asked)

    monkeypatch.setattr(stopped, "loss", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        pretrain.train(stopped, data, recipe, tmp_path / "stopped")
    pretrain.train(stopped, data, recipe, tmp_path / "stopped")
    assert len(calls) == 3 + 2
    for (key, a), b in zip(whole.state_dict().items(), stopped.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    with pytest.raises(SystemExit, match="another run"):
        pretrain.train(stopped, data, replace(recipe, steps=5), tmp_path / "stopped")


def test_what_is_shipped_scores_what_its_card_says(made, tmp_path):
    """On 60 of the 298 unseen scenes, so within noise."""
    modules, _, _ = made
    unseen = modules.scenes.scenes(60, modules.scenes.UNSEEN_SEED, tmp_path)
    for name in ("sam", "sam2", "sam3"):
        model, path = modules.promptable.Promptable(name), MiniSource(name).folder / "model.safetensors"
        if name == "sam3":  # the prompt encoder is in the file; what reads it all is the script alone
            state, names = read_state_dict(path), modules.promptable.sam3_names(model)
            assert set(names.values()) == set(state)
            model.load_state_dict({ours: state[theirs] for ours, theirs in names.items()}, strict=False)
        else:
            fill = fill_sam if name == "sam" else fill_sam2
            fill(model.model, path)
        assert model.score(unseen)["miou_box"] == pytest.approx(said(name)["scores"]["miou_box"], abs=3)


@pytest.fixture(scope="module")
def unseen(made):
    modules, _, folder = made
    return modules.scenes.scenes(300, modules.scenes.UNSEEN_SEED, folder, 2)


def test_the_shipped_siglip_reads_as_its_card_says(made, unseen):
    modules, _, _ = made
    folder, module = MiniSource("siglip").folder, modules.image_text
    model = module.Contrastive(SigLIPTokenizer.from_file(folder / "spiece.model", 64))
    missing, unknown = model.model.load_state_dict(read_state_dict(folder / "model.safetensors"), strict=False)
    assert not unknown
    assert all("position_ids" in name for name in missing)
    scores = module.retrieval(model, unseen) | module.grounding(model, unseen)
    assert scores == pytest.approx(said("siglip")["scores"], abs=1)


@pytest.mark.slow
def test_the_shipped_beit3_reads_as_its_card_says(made, unseen):
    modules, _, _ = made
    folder, module = MiniSource("beit3").folder, modules.image_text
    model = module.Matching(BEiT3Tokenizer.from_file(folder / "beit3.spm", 64))
    state = read_state_dict(folder / "model.safetensors")
    model.load_state_dict({name.replace("beit3.", "model.", 1): tensor for name, tensor in state.items()})
    stated, grounding = said("beit3")["scores"], module.grounding(model, unseen)
    assert grounding == pytest.approx({name: stated[name] for name in grounding}, abs=1)
    # every sentence meets every picture in it, so retrieval costs most: the first of the card's four sets
    first = module.retrieval(model, unseen[:67])
    assert first == pytest.approx({"image_to_text": 11, "text_to_image": 16, "of": 64, "sets": 1}, abs=1)
