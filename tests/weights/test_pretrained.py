"""Base weights in both of SAM's forms and SigLIP's, written by the libraries themselves."""

import pytest
import torch
from safetensors.torch import save_file

from rrsis_zoo.errors import ConfigError, MissingWeightsError, WeightsMismatchError
from rrsis_zoo.models.layers.lora import is_lora
from rrsis_zoo.models.rsrefseg import RSRefSeg
from rrsis_zoo.models.rsrefseg2 import RSRefSeg2
from rrsis_zoo.models.tokenizers import SigLIP2Tokenizer, SigLIPTokenizer
from rrsis_zoo.weights.names import sam_to_transformers
from rrsis_zoo.weights.pretrained import find_pretrained, load_pretrained

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
    load_pretrained(model, sources(folder))
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
    load_pretrained(model, sources(folder))
    check_loaded(model, siglip, sam)


def test_the_wrong_size_of_sam_is_named(files):
    folder, _, _ = files
    model = RSRefSeg.from_preset("tiny", sam={"width": 64})
    with pytest.raises(WeightsMismatchError, match="in the file"):
        load_pretrained(model, sources(folder))


def test_an_extra_and_a_missing_entry_are_named(files):
    folder, siglip, _ = files
    siglip["text_model.heed.weight"] = siglip.pop("text_model.head.weight")
    save_file(siglip, folder / "siglip" / "model.safetensors")
    with pytest.raises(WeightsMismatchError, match=r"missing: text_model.head.*unexpected: text_model.heed"):
        load_pretrained(build(), sources(folder))


def test_all_that_is_missing_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    weights = {"sam": "hub:facebook/sam-vit-base", "siglip": "hub:google/siglip-so400m-patch14-384"}
    with pytest.raises(MissingWeightsError) as caught:
        find_pretrained("rsrefseg", weights)
    message = str(caught.value)
    assert "hf download facebook/sam-vit-base model.safetensors" in message
    assert "hf download google/siglip-so400m-patch14-384 model.safetensors spiece.model" in message
    assert "https://huggingface.co/facebook/sam-vit-base" in message


def test_roles_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'siglip'"):
        find_pretrained("rsrefseg", {"sam": "none", "siglib": "none"})
    with pytest.raises(ConfigError, match="no source for siglip"):
        find_pretrained("rsrefseg", {"sam": "none"})
    assert find_pretrained("rsrefseg", {"sam": "none", "siglip": "none"}) == {}
    with pytest.raises(MissingWeightsError, match="nowhere"):
        find_pretrained("rsrefseg", {"sam": f"local:{tmp_path / 'nowhere'}", "siglip": "none"})


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
    load_pretrained(model, sources(tmp_path))
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
        find_pretrained("rsrefseg2", weights)
    assert "hf download facebook/sam2.1-hiera-tiny sam2.1_hiera_tiny.pt" in str(caught.value)
    assert "hf download google/siglip2-so400m-patch16-512 model.safetensors tokenizer.json" in str(caught.value)
