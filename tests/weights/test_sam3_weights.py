"""SAM 3 into EviSAM3, from files in transformers' form (names by its classes) and in Meta's."""

import pytest
import torch
from safetensors.torch import save_file
from transformers import Sam3TrackerMaskDecoderConfig, Sam3TrackerPromptEncoderConfig
from transformers.models.sam3.modeling_sam3 import Sam3VisionNeck, Sam3ViTModel
from transformers.models.sam3_tracker.modeling_sam3_tracker import (
    Sam3TrackerMaskDecoder,
    Sam3TrackerPromptEncoder,
)

from rrsis_zoo.errors import MissingWeightsError, WeightsMismatchError
from rrsis_zoo.methods.evisam3.model import EviSAM3
from rrsis_zoo.methods.evisam3.weights import official_name as evisam3
from rrsis_zoo.methods.registry import card
from rrsis_zoo.models.backbones.sam3 import _vit_config
from rrsis_zoo.pretrained.foundations import find_foundations
from rrsis_zoo.pretrained.official import official_names
from rrsis_zoo.weights.files import read_state_dict
from rrsis_zoo.weights.sources import MiniSource

KEPT = ("iou_prediction_head", "pred_obj_score_head", "mask_tokens")  # as published


def build(**changes):
    return EviSAM3.from_preset("tiny", **changes)


def load(model, path):
    EviSAM3.foundation_fillers["sam"](model, [path])


@pytest.fixture(scope="module")
def source():
    """A model whose SAM 3 the files hold."""
    torch.manual_seed(7)
    return build()


def check(model, source, neck="detector"):
    for name, tensor in model.state_dict().items():
        if not name.startswith(("sam.", "no_mask_embed.")) or any(part in name for part in KEPT):
            continue
        given = source.state_dict()[name]
        if name.endswith("position_embeddings"):
            tensor, given = tensor[:, 1:], given[:, 1:]  # the first row is not in every form
        expected = given + 1 if neck == "tracker" and ".neck." in name else given
        assert tensor.equal(expected), name


@pytest.fixture(scope="module")
def transformers_form(source, tmp_path_factory):
    """The names of transformers' modules, checked against these modules themselves."""
    config = source.config.sam
    vit = _vit_config(config)
    state = {}
    for name, tensor in source.sam.state_dict().items():
        if name.startswith("trunk."):
            place = "detector_model.vision_encoder.backbone." + name.removeprefix("trunk.")
            if ".qkv." in name:
                for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                    state[place.replace(".qkv.", f".{part}_proj.")] = rows.clone()
            else:
                state[place] = tensor[:, 1:].clone() if name.endswith("position_embeddings") else tensor
        elif name.startswith("neck."):
            state["detector_model.vision_encoder." + name] = tensor
            state["tracker_" + name] = tensor + 1
        elif name.startswith("mask_decoder.") and not any(part in name for part in KEPT):
            state["tracker_model." + name] = tensor
    with torch.device("meta"):
        trunk = Sam3ViTModel(vit).state_dict()
        neck = Sam3VisionNeck(source.sam.neck.config).state_dict()
        decoder = Sam3TrackerMaskDecoder(
            Sam3TrackerMaskDecoderConfig(hidden_size=48, mlp_dim=96, num_attention_heads=2, iou_head_hidden_dim=48)
        ).state_dict()
        prompts = Sam3TrackerPromptEncoder(Sam3TrackerPromptEncoderConfig(hidden_size=48)).state_dict()
    theirs = {f"detector_model.vision_encoder.backbone.{n}": t for n, t in trunk.items()}
    theirs |= {f"{p}.{n}": t for n, t in neck.items() for p in ("detector_model.vision_encoder.neck", "tracker_neck")}
    theirs |= {f"tracker_model.mask_decoder.{n}": t for n, t in decoder.items()}
    for name, tensor in state.items():
        assert theirs[name].shape == tensor.shape, name
    for name, tensor in theirs.items():  # three mask tokens and their heads more, and what is not read
        state.setdefault(name, torch.randn(tensor.shape))
    assert "no_mask_embed.weight" in prompts
    state["tracker_model.prompt_encoder.no_mask_embed.weight"] = source.no_mask_embed.weight.detach()
    code = source.sam.position_code.positional_encoding_gaussian_matrix
    state["tracker_model.shared_image_embedding.positional_embedding"] = code
    state["detector_model.text_encoder.text_model.embeddings.token_embedding.weight"] = torch.randn(5, 3)
    path = tmp_path_factory.mktemp("hf") / "model.safetensors"
    save_file({n: t.clone() for n, t in state.items()}, path)
    return path


@pytest.fixture(scope="module")
def metas_form(source, tmp_path_factory):
    state = {}
    for name, tensor in source.state_dict().items():
        theirs = evisam3(name)
        if theirs.startswith("image_encoder.") and "prompt_generator" not in theirs:
            place = theirs.replace("image_encoder.", "detector.backbone.")
            state[place] = tensor
            if ".convs." in place:
                state[place.replace(".convs.", ".sam2_convs.")] = tensor + 1
        elif theirs.startswith("mask_decoder.") and not any(part in theirs for part in KEPT):
            state[f"tracker.sam_{theirs}"] = tensor
        elif theirs.startswith(("pe_layer.", "no_mask_embed.")):
            state[f"tracker.sam_prompt_encoder.{theirs}"] = tensor
    state["tracker.sam_mask_decoder.mask_tokens.weight"] = torch.arange(4.0)[:, None].expand(4, 48)
    state["tracker.sam_mask_decoder.output_hypernetworks_mlps.3.layers.0.weight"] = torch.randn(48, 48)
    state["tracker.sam_mask_decoder.iou_prediction_head.layers.2.weight"] = torch.randn(4, 48)
    state["tracker.sam_mask_decoder.pred_obj_score_head.layers.0.weight"] = torch.randn(48, 48)
    state["detector.backbone.language_backbone.encoder.weight"] = torch.randn(3, 3)
    state["detector.backbone.vision_backbone.trunk.blocks.0.attn.freqs_cis"] = torch.randn(4, 2, dtype=torch.complex64)
    path = tmp_path_factory.mktemp("meta") / "sam3.pt"
    torch.save({"model": state}, path)
    return path


@pytest.mark.parametrize("form", ["transformers_form", "metas_form"])
@pytest.mark.parametrize("neck", ["detector", "tracker"])
def test_both_forms_and_both_necks(source, form, neck, request):
    """Quirk 11: the published program takes the detector's neck."""
    model = build(neck=neck)
    before = model.sam.mask_decoder.mask_tokens.weight.clone()
    load(model, request.getfixturevalue(form))
    check(model, source, neck)
    assert model.sam.mask_decoder.mask_tokens.weight.equal(before)


def test_mask_tokens_on_request(metas_form):
    """Quirk 10."""
    model = build(sam_mask_tokens=True)
    load(model, metas_form)
    assert model.sam.mask_decoder.mask_tokens.weight[:, 0].tolist() == [0, 1]


def test_the_miniature_has_the_trackers_neck_and_what_evisam3_reads():
    """It is in Meta's names; the program's neck is not in it."""
    model = EviSAM3.from_preset("mini")
    path = MiniSource("sam3").folder / "model.safetensors"
    load(model, path)
    state = read_state_dict(path)
    for ours, theirs in (
        ("sam.neck.fpn_layers.0.proj2.weight", "detector.backbone.vision_backbone.sam2_convs.0.conv_3x3.weight"),
        ("sam.trunk.layers.3.attention.qkv.weight", "detector.backbone.vision_backbone.trunk.blocks.3.attn.qkv.weight"),
        ("sam.mask_decoder.mask_tokens.weight", "tracker.sam_mask_decoder.mask_tokens.weight"),
        ("no_mask_embed.weight", "tracker.sam_prompt_encoder.no_mask_embed.weight"),
    ):
        assert model.state_dict()[ours].equal(state[theirs].float()), ours
    with pytest.raises(WeightsMismatchError, match=r"sam\.neck\.fpn_layers"):
        load(EviSAM3.from_preset("mini", neck="detector"), path)


def test_another_size_is_named(metas_form):
    with pytest.raises(WeightsMismatchError, match=r"sam3\.pt"):
        load(build(sam={"width": 32}), metas_form)


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeightsError) as caught:
        find_foundations(card("evisam3"), card("evisam3").presets["large"].weights)
    message = str(caught.value)
    assert "gated, SAM License" in message
    assert "hf download facebook/sam3 model.safetensors" in message
    assert "beit3_large_patch16_224.pth" in message


def test_names_are_those_of_the_authors_program(golden):
    import gzip
    import json

    with torch.device("meta"):
        model = EviSAM3.from_preset("large")
    names = official_names(model)
    keys = json.loads(gzip.decompress((golden / "evisam3" / "full_keys" / "keys.json.gz").read_bytes()))
    left_out = {name for name in keys if name not in set(names.values())}
    assert set(names.values()) <= set(keys)
    assert len(left_out) == 23  # BEiT-3's mask token and the experts' second names
