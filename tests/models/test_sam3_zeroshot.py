"""What is zero-shot SAM 3's own: prompts, rules, both forms of its weights."""

import json
from dataclasses import replace

import contract
import pytest
import torch
from safetensors.torch import save_file

from golden_cases.case import Case
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.sam3_zeroshot.model import SAM3ZeroShot
from rrsis_zoo.methods.sam3_zeroshot.phrases import head_noun, noun_phrase
from rrsis_zoo.methods.sam3_zeroshot.rules import EMPTY, best, box_map, fused, kept_first, margins
from rrsis_zoo.methods.sam3_zeroshot.weights import FOUNDATION_FILLERS, transformers_names
from rrsis_zoo.models.tokenizers import CLIPTokenizer
from rrsis_zoo.models.types import Prompts


def tiny(**changes):
    return lambda: SAM3ZeroShot.from_preset("tiny", **changes)


VARIANTS = {
    "fused": {"rule": "fused", "confidence": 0.1, "mask_threshold": 0.1},
    "best": {"when_absent": "best", "geometry_token": "none"},
    "all kept": {"confidence": 0.0, "prompt": "head_noun"},
}


@pytest.mark.parametrize("promise", contract.ALWAYS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("variant", VARIANTS)
def test_contract_of_the_variants(variant, promise):
    promise(tiny(**VARIANTS[variant]))


def test_presence_and_boxes_are_the_methods_own():
    model, b = contract.build(tiny(confidence=0.0)).eval(), contract.batch()
    prediction = model(b)
    p = prediction.prompts
    assert p.presence.shape == (5,)
    assert p.boxes.shape[:2] == p.scores.shape
    assert (p.scores.diff(dim=1) <= 0).all()  # the best first
    best_box = p.aux["boxes"][torch.arange(5), best(p.aux["scores"])]
    height, width = contract.SIZES[contract.INDEX[3]]
    torch.testing.assert_close(p.boxes[3, 0], best_box[3] * torch.tensor([width, height, width, height]))
    assert prediction[3:4].prompts.boxes.shape[0] == 1


def test_groups_with_other_numbers_of_instances_are_joined():
    def prompts(n, k):
        return Prompts(
            torch.zeros(n, 2, 3), None, torch.zeros(n, 1, 2, 2), boxes=torch.zeros(n, k, 4), scores=torch.ones(n, k),
            points=torch.ones(n, k, 2, 2), point_labels=torch.ones(n, k, 2, dtype=torch.int64), replies=["x"] * n,
        )  # fmt: skip

    joined = Prompts.joined([prompts(2, 1), prompts(1, 3)])
    assert joined.boxes.shape == (3, 3, 4)
    assert joined.boxes[:2, 1:].isnan().all()
    assert joined.scores.tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 1]]
    assert joined.point_labels[0].tolist() == [[1, 1], [-1, -1], [-1, -1]]
    assert joined.replies == ["x"] * 3
    assert joined[[2, 0]].replies == ["x"] * 2
    assert joined.sparse.shape == (3, 2, 3)


def test_an_absent_answer_is_empty_unless_the_best_is_asked_for():
    model, b = contract.build(tiny(confidence=1.0)).eval(), contract.batch()
    assert (model(b).mask_logits == EMPTY).all()
    model.config = replace(model.config, when_absent="best")
    assert not (model(b).mask_logits == EMPTY).any()
    model.config = replace(model.config, rule="fused", mask_threshold=0.99)
    assert (model(b).mask_logits == EMPTY).all()


@pytest.mark.parametrize("instances", [0, 1, 4])
@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_margins_are_positive_where_the_fusion_exceeds_its_threshold(instances, t):
    torch.manual_seed(instances)
    masks, semantic = 4 * torch.randn(3, 5, 6, 9), 4 * torch.randn(3, 1, 6, 9)
    scores, presence = torch.rand(3, 5), torch.tensor([0.1, 0.6, 0.99])
    kept = torch.arange(5).expand(3, 5) < instances
    f = fused(masks, semantic, scores, presence, kept)
    margin = margins(masks, semantic, scores, presence, kept, t)
    assert torch.equal(margin > 0, f > t)
    assert (margin[0] == EMPTY).all()  # p is below every threshold here


def test_which_instances_are_kept():
    scores = torch.tensor([[0.2, 0.9, 0.9, 0.6], [0.1, 0.2, 0.5, 0.3]])
    assert best(scores).tolist() == [1, 2]
    order, kept = kept_first(scores, 0.5)
    assert order[0].tolist() == [1, 2, 3]
    assert kept.tolist() == [[True] * 3, [False] * 3]  # above, not at, the confidence
    assert kept_first(scores, 0.95)[0].shape == (2, 1)


def test_boxes_on_a_grid():
    boxes = torch.tensor([[[0.25, 0.0, 0.75, 1.5], [0.5, 0.5, 0.4, 0.9]]])
    heat = box_map(boxes, torch.tensor([[0.8, 1.0]]), torch.tensor([[True, True]]), 2)
    assert heat.shape == (1, 1, 2, 2)
    torch.testing.assert_close(heat[0, 0], torch.full((2, 2), 0.4))  # a reversed box covers nothing


@pytest.mark.parametrize(
    ("sentence", "phrase", "noun"),
    [
        ("The large white-and-red ship, near the pier", "large white-and-red ship", "ship"),
        ("a cluster of round storage tanks", "round storage tanks", "storage tanks"),
        ("left", "left", "left"),
        ("", "", ""),
        ("THE   UPPER ONE", "the upper one", "the upper one"),
        ("red", "red", "red"),
        ("two swimming pools beside the building", "swimming pools", "swimming pools"),
    ],
)
def test_phrases(sentence, phrase, noun):
    assert (noun_phrase(sentence), head_noun(sentence)) == (phrase, noun)


def test_the_prompt_is_what_is_tokenised():
    model = contract.build(tiny(prompt="head_noun"))
    sentence = model.tokenizer(["ship"], "independent")
    assert model.tokenize(["the large ship on the left"], "published").ids.equal(sentence.ids)


def test_clip_tokens():
    tokenizer = CLIPTokenizer.from_expressions(contract.EXPRESSIONS, 100, 8)
    again = CLIPTokenizer.from_state(tokenizer.state())
    ids = tokenizer.encode("the ship left of the pier and the tank")
    assert ids == again.encode("THE&nbsp; ship\tleft of the pier and the tank")
    assert len(ids) == 8
    assert ids[0] == tokenizer.vocabulary_size - 2
    assert ids[-1] == tokenizer.vocabulary_size - 1
    assert 0 not in ids
    for wrong in (b"{}", b"[1]", b"no JSON", json.dumps({"model": {"vocab": {"a": 0}, "merges": []}}).encode()):
        with pytest.raises(ConfigError, match=r"not CLIP's tokenizer\.json"):
            CLIPTokenizer(wrong, 8)


# -- weights -----------------------------------------------------------------------------------------------------------


def meta_names(golden):
    """All names of Meta's detector: trunk and neck are in EviSAM3's list."""
    listed = [name.removeprefix("detector.") for name in Case(golden / "sam3_zeroshot" / "full_keys").keys]
    vision = "image_encoder.vision_backbone."
    listed += [
        name.replace("image_encoder.", "backbone.", 1)
        for name in Case(golden / "evisam3" / "full_keys").keys
        if name.startswith((f"{vision}trunk.", f"{vision}convs.")) and "prompt_generator" not in name
    ]
    return [name for name in listed if "points_" not in name and "freqs_cis" not in name]


def in_metas_form(state, golden):
    """A state of ours under Meta's names and shapes."""
    content = {}
    for name in meta_names(golden):
        ours = transformers_names(name)
        if ours[0] not in state:
            continue  # more layers than a small model has
        tensor = torch.cat([state[n] for n in ours])
        if name.endswith("trunk.pos_embed"):
            tensor = torch.cat([torch.zeros_like(tensor[:, :1]), tensor], 1)
        content[f"detector.{name}"] = tensor.T if name.endswith("encoder.text_projection") else tensor
    content["detector.geometry_encoder.points_direct_project.weight"] = torch.zeros(2)
    content["tracker.maskmem_tpos_enc"] = torch.zeros(3)
    return content


@pytest.mark.parametrize("form", ["meta", "transformers"])
def test_both_forms_of_the_weights_load(golden, form, tmp_path):
    torch.manual_seed(0)
    source, target = SAM3ZeroShot.from_preset("tiny"), SAM3ZeroShot.from_preset("tiny")
    state = source.sam.state_dict()
    if form == "meta":
        path = tmp_path / "sam3.pt"
        torch.save({"model": in_metas_form(state, golden)}, path)
    else:
        path = tmp_path / "model.safetensors"
        extra = {"tracker_neck.conv.weight": torch.zeros(2)}
        save_file({f"detector_model.{n}": t.contiguous() for n, t in state.items()} | extra, path)
    assert not torch.equal(target.sam.state_dict()["text_projection.weight"], state["text_projection.weight"])
    FOUNDATION_FILLERS["sam"](target, [path])
    for name, tensor in target.sam.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_every_parameter_of_the_real_model_has_a_name_of_metas(golden):
    with torch.device("meta"):
        places = set(SAM3ZeroShot.from_preset("base").sam.state_dict())
    assert places == {ours for name in meta_names(golden) for ours in transformers_names(name)}
