"""Base weights in both of SAM's forms and SigLIP's, written by the libraries themselves."""

import pytest
import torch
from safetensors.torch import save_file

from rrsis_zoo.errors import ConfigError, MissingWeightsError, WeightsMismatchError
from rrsis_zoo.methods.registry import card
from rrsis_zoo.methods.rsrefseg.model import RSRefSeg
from rrsis_zoo.methods.rsrefseg2.model import RSRefSeg2
from rrsis_zoo.models.backbones.sam2 import SAM2, SAM2Config
from rrsis_zoo.models.tokenizers import SigLIP2Tokenizer, SigLIPTokenizer
from rrsis_zoo.pretrained.foundations import fill_foundations, find_foundations
from rrsis_zoo.weights.foundations import fill_sam2
from rrsis_zoo.weights.names import sam_to_transformers
from rrsis_zoo.weights.wrappers import is_lora

EXPRESSIONS = ["the red ship left of the pier", "a storage tank", "the tennis court at the bottom"] * 5


def build(adapt="lora"):
    return RSRefSeg.from_preset("tiny", adapt=adapt)


@pytest.fixture
def files(tmp_path):
    """A folder each for SAM and SigLIP with random content of the tiny sizes."""
    torch.manual_seed(7)
    source = build("full")
    (tmp_path / "siglip").mkdir()
    (tmp_path / "sam").mkdir()
    siglip = {k: v.contiguous() for k, v in source.siglip.state_dict().items()}
    save_file(siglip, tmp_path / "siglip" / "model.safetensors")
    tokenizer = SigLIPTokenizer.from_expressions(EXPRESSIONS, 100, 64)
    (tmp_path / "siglip" / "spiece.model").write_bytes(tokenizer.model)
    sam = {k: v.contiguous() for k, v in source.sam.state_dict().items() if not k.startswith("position_code")}
    torch.save(sam, tmp_path / "sam" / "sam_vit_b_01ec64.pth")
    return tmp_path, siglip, sam


def sources(folder):
    return {"sam": f"local:{folder / 'sam'}", "siglip": f"local:{folder / 'siglip'}"}


def check_loaded(model, siglip, sam):
    for prefix, expected in (("siglip.", siglip), ("sam.", sam)):
        state = {k.replace(".base_layer.", "."): v for k, v in model.state_dict().items() if not is_lora(k)}
        for name, tensor in expected.items():
            assert state[prefix + name].equal(tensor), name
    own = model.sam.position_code.positional_encoding_gaussian_matrix
    assert own.equal(sam["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"])
    assert model.tokenizer_ready


@pytest.mark.parametrize("adapt", ["lora", "full"])
def test_sams_own_release(files, adapt):
    folder, siglip, sam = files
    model = build(adapt)
    fill_foundations(model, sources(folder))
    check_loaded(model, siglip, sam)


def test_transformers_form(files):
    """As `facebook/sam-vit-*` has it: other names, one shared position matrix."""
    folder, siglip, sam = files
    names = sam_to_transformers(sam)
    theirs = {names[k]: v for k, v in sam.items()}
    theirs["shared_image_embedding.positional_embedding"] = theirs.pop(
        "prompt_encoder.shared_embedding.positional_embedding"
    )
    (folder / "sam" / "sam_vit_b_01ec64.pth").unlink()
    save_file(theirs, folder / "sam" / "model.safetensors")
    model = build()
    fill_foundations(model, sources(folder))
    check_loaded(model, siglip, sam)


def test_the_wrong_size_of_sam_is_named(files):
    folder, _, _ = files
    model = RSRefSeg.from_preset("tiny", sam={"width": 64})
    with pytest.raises(WeightsMismatchError, match="in the file"):
        fill_foundations(model, sources(folder))


def test_an_extra_and_a_missing_entry_are_named(files):
    folder, siglip, _ = files
    siglip["text_model.heed.weight"] = siglip.pop("text_model.head.weight")
    save_file(siglip, folder / "siglip" / "model.safetensors")
    with pytest.raises(WeightsMismatchError, match=r"missing: text_model.head.*unexpected: text_model.heed"):
        fill_foundations(build(), sources(folder))


def test_all_that_is_missing_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    weights = {"sam": "hub:facebook/sam-vit-base", "siglip": "hub:google/siglip-so400m-patch14-384"}
    with pytest.raises(MissingWeightsError) as caught:
        find_foundations(card("rsrefseg"), weights)
    message = str(caught.value)
    assert "hf download facebook/sam-vit-base model.safetensors" in message
    assert "hf download google/siglip-so400m-patch14-384 model.safetensors spiece.model" in message
    assert "https://huggingface.co/facebook/sam-vit-base" in message


def test_roles_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'siglip'"):
        find_foundations(card("rsrefseg"), {"sam": "none", "siglib": "none"})
    with pytest.raises(ConfigError, match="no source for siglip"):
        find_foundations(card("rsrefseg"), {"sam": "none"})
    assert find_foundations(card("rsrefseg"), {"sam": "none", "siglip": "none"}) == {}
    with pytest.raises(MissingWeightsError, match="nowhere"):
        find_foundations(card("rsrefseg"), {"sam": f"local:{tmp_path / 'nowhere'}", "siglip": "none"})


@pytest.mark.parametrize("adapt", ["lora", "full"])
def test_rsrefseg2(tmp_path, adapt):
    """Meta's file of SAM 2.1 with its video parts, SigLIP 2's two files; what is the method's own stays."""
    torch.manual_seed(7)
    source, model = (RSRefSeg2.from_preset("tiny", adapt=a) for a in ("full", adapt))
    siglip = {k: v.contiguous() for k, v in source.siglip.state_dict().items()}
    sam = {k: v.contiguous() for k, v in source.sam.state_dict().items()}
    for part in ("siglip", "sam"):
        (tmp_path / part).mkdir()
    save_file(siglip, tmp_path / "siglip" / "model.safetensors")
    tokenizer = SigLIP2Tokenizer.from_expressions(EXPRESSIONS, 100, 64)
    (tmp_path / "siglip" / "tokenizer.json").write_bytes(tokenizer.model)
    video = {"memory_encoder.out_proj.weight": torch.zeros(2, 2), "maskmem_tpos_enc": torch.zeros(7, 1, 1, 64)}
    torch.save({"model": {**sam, **video}}, tmp_path / "sam" / "sam2.1_hiera_large.pt")
    own = {name: tensor.clone() for name, tensor in model.prompter.state_dict().items()}
    fill_foundations(model, sources(tmp_path))
    state = {k.replace(".base_layer.", "."): v for k, v in model.state_dict().items() if not is_lora(k)}
    assert all(state[f"siglip.{name}"].equal(tensor) for name, tensor in siglip.items())
    assert all(state[f"sam.{name}"].equal(tensor) for name, tensor in sam.items())
    assert all(model.prompter.state_dict()[name].equal(tensor) for name, tensor in own.items())
    assert model.tokenizer.encode("the red ship") == tokenizer.encode("the red ship")


def test_rsrefseg2_commands(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    weights = {
        "sam": "hub:facebook/sam2.1-hiera-tiny:sam2.1_hiera_tiny.pt",
        "siglip": "hub:google/siglip2-so400m-patch16-512",
    }
    with pytest.raises(MissingWeightsError) as caught:
        find_foundations(card("rsrefseg2"), weights)
    assert "hf download facebook/sam2.1-hiera-tiny sam2.1_hiera_tiny.pt" in str(caught.value)
    assert "hf download google/siglip2-so400m-patch16-512 model.safetensors tokenizer.json" in str(caught.value)


# -- RS2-SAM2 ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rs2sam2_files(tmp_path):
    """Files in the released layouts with random content of small sizes, SAM 2's video parts and BEiT-3's heads too."""
    from rrsis_zoo.methods.rs2sam2.model import RS2SAM2
    from rrsis_zoo.models.tokenizers import BEiT3Tokenizer

    torch.manual_seed(7)
    source = RS2SAM2.from_preset("tiny")
    sam = {k: v for k, v in source.sam.state_dict().items() if ".fusion." not in k and ".adapter." not in k}
    video = {
        "memory_encoder.out_proj.bias": torch.ones(3),
        "maskmem_tpos_enc": torch.ones(2),
        "no_obj_ptr": torch.ones(1),
    }
    torch.save({"model": {**sam, **video}}, tmp_path / "sam2_hiera_large.pt")
    beit3 = {f"beit3.{k}": v for k, v in source.union.state_dict().items()}
    unused = {"beit3.vision_embed.mask_token": torch.ones(1, 1, 64), "mlm_head.weight": torch.ones(3)}
    torch.save({"model": {**beit3, **unused}}, tmp_path / "beit3_large_patch16_224.pth")
    tokenizer = BEiT3Tokenizer.from_expressions(EXPRESSIONS, 100, 64)
    (tmp_path / "beit3.spm").write_bytes(tokenizer.model)
    return tmp_path, source


def test_rs2sam2_from_its_base_weights(rs2sam2_files):
    """All that the files have is filled, and nothing else is touched."""
    folder, source = rs2sam2_files
    torch.manual_seed(8)
    model = type(source).from_preset("tiny", adapt="adapters")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fill_foundations(model, {"sam": f"local:{folder}", "beit3": f"local:{folder}"})
    for name, tensor in model.state_dict().items():
        is_base = name.startswith(("sam.", "union.")) and ".fusion." not in name and ".adapter." not in name
        assert tensor.equal(source.state_dict()[name] if is_base else before[name]), name
    assert model.tokenizer.encode("ship")[0] == 0


def test_rs2sam2_files_that_do_not_fit_are_named(rs2sam2_files):
    folder, source = rs2sam2_files
    content = torch.load(folder / "sam2_hiera_large.pt")["model"]
    del content["no_mem_embed"]
    content["something.else"] = torch.ones(1)
    torch.save({"model": content}, folder / "sam2_hiera_large.pt")
    with pytest.raises(WeightsMismatchError, match=r"1 missing: no_mem_embed; 1 unexpected: something.else"):
        fill_foundations(source, {"sam": f"local:{folder}", "beit3": "none"})
    torch.save({"model": {"text_embed.weight": torch.ones(2)}}, folder / "beit3_large_patch16_224.pth")
    with pytest.raises(WeightsMismatchError, match="missing"):
        fill_foundations(source, {"sam": "none", "beit3": f"local:{folder}"})


def test_rs2sam2_says_where_its_weights_are_to_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeightsError) as caught:
        find_foundations(card("rs2sam2"), {"sam": "hub:facebook/sam2-hiera-large", "beit3": f"local:{tmp_path}"})
    assert "hf download facebook/sam2-hiera-large sam2_hiera_large.pt" in str(caught.value)
    assert "https://github.com/microsoft/unilm/tree/master/beit3" in str(caught.value)
    assert "beit3.spm" in str(caught.value)


# -- SAM 2 in the hub's form -------------------------------------------------------------------------------------------

SMALL_SAM2 = SAM2Config(
    image_size=128, width=16, heads=1, stages=(1, 1, 2, 1), windows=(8, 4, 8, 4), global_blocks=(3,)
)


def hubs_sam2(video):
    """transformers' own class of the same sizes, with random content; parts for video where asked for."""
    import transformers as t

    torch.manual_seed(3)
    trunk = {
        "hidden_size": 16,
        "num_attention_heads": 1,
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 4, 8, 4],
        "global_attention_blocks": [3],
    }
    vision = {
        "backbone_config": t.Sam2HieraDetConfig(**trunk),
        "backbone_channel_list": [128, 64, 32, 16],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }
    kinds = (t.Sam2VideoModel, t.Sam2VideoConfig) if video else (t.Sam2Model, t.Sam2Config)
    prompts = {"image_size": 128}
    model = kinds[0](kinds[1](vision_config=vision, prompt_encoder_config=prompts)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("video", [False, True])
def test_sam2_in_transformers_form(tmp_path, video):
    """As `facebook/sam2*-hiera-*/model.safetensors` has it: every entry finds its place, and computes the same."""
    theirs = hubs_sam2(video)
    state = {name: tensor.contiguous().clone() for name, tensor in theirs.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    ours = SAM2(SMALL_SAM2).eval()
    fill_sam2(ours, tmp_path / "model.safetensors")
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        pyramid = ours.encode(image)
        if not video:
            features = theirs.get_image_embeddings(image)
            for a, b in zip((pyramid.s0, pyramid.s1, pyramid.embedding), features, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.std()))
    points = ours.sam_prompt_encoder.point_embeddings
    assert torch.cat([p.weight for p in points]).equal(state["prompt_encoder.point_embed.weight"])
    decoder = "mask_decoder.transformer.layers.1.cross_attn_token_to_image.o_proj.weight"
    assert ours.sam_mask_decoder.transformer.layers[1].cross_attn_token_to_image.out_proj.weight.equal(state[decoder])
    head = ours.get_parameter("sam_mask_decoder.pred_obj_score_head.layers.1.weight")
    assert head.equal(state["mask_decoder.pred_obj_score_head.layers.0.weight"])


def test_a_wrong_entry_of_the_hubs_form_is_named(tmp_path):
    state = {name: tensor.contiguous().clone() for name, tensor in hubs_sam2(False).state_dict().items()}
    state["vision_encoder.nek.convs.0.weight"] = state.pop("vision_encoder.neck.convs.0.weight")
    save_file(state, tmp_path / "model.safetensors")
    words = (
        r"1 missing: image_encoder\.neck\.convs\.0\.conv\.weight; 1 unexpected: vision_encoder\.nek\.convs\.0\.weight"
    )
    with pytest.raises(WeightsMismatchError, match=words):
        fill_sam2(SAM2(SMALL_SAM2), tmp_path / "model.safetensors")
