"""save_pretrained, from_pretrained, push_to_hub and load_model over every kind of source."""

import json
import sys

import huggingface_hub
import layouts
import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file
from test_sources import add_to_cache

import rrsis_zoo
from rrsis_zoo.errors import ConfigError, MissingWeightsError, WeightsMismatchError
from rrsis_zoo.loading import load_model
from rrsis_zoo.methods.control.model import Control
from rrsis_zoo.methods.registry import card, list_models, method_named
from rrsis_zoo.methods.rsrefseg.model import RSRefSeg
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.pretrained.whole import fill_model, find_weights, find_whole
from rrsis_zoo.weights.checkpoints import META, weights_hash
from rrsis_zoo.weights.folders import is_folder

EXPRESSIONS = ["the red ship left of the pier", "a storage tank", "the tennis court at the bottom"] * 5


def tiny(method, **settings):
    model = method_named(method).model().from_preset("tiny", **settings)
    model.fit_tokenizer(EXPRESSIONS)
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    tiny("rsrefseg").save_pretrained(path)
    return path


@pytest.mark.parametrize("method", list_models())
def test_saved_and_loaded(method, tmp_path):
    model = tiny(method)
    model.save_pretrained(tmp_path / "m")
    assert is_folder(tmp_path / "m")
    files = {"config.json", "model.safetensors", "README.md"}
    files |= {f"tokenizer.{name}" for name, value in model.tokenizer_state().items() if isinstance(value, torch.Tensor)}
    assert {p.name for p in (tmp_path / "m").iterdir()} == files
    assert ("tokenizer.model" in files) == (method != "think2seg")  # which reads sentences as they are
    for again in (
        load_model(tmp_path / "m"),
        load_model(f"local:{tmp_path / 'm'}"),
        load_model(method, weights=f"local:{tmp_path / 'm'}"),
        type(model).from_pretrained(tmp_path / "m"),
        ReferringSegmenter.from_pretrained(tmp_path / "m"),
    ):
        assert type(again) is type(model)
        assert again.config == model.config
        assert weights_hash(again) == weights_hash(model)
        assert not again.training
        ours, theirs = (m.tokenize(EXPRESSIONS[:2], "independent").ids for m in (model, again))
        assert ours.equal(theirs)
        assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]
        assert not any(t.is_meta for t in [*again.parameters(), *again.buffers()])


def test_the_mixin_is_huggingface_hubs(monkeypatch, tmp_path):
    """push_to_hub writes a folder and uploads it; here to a hub that only takes notes."""
    assert issubclass(RSRefSeg, huggingface_hub.ModelHubMixin)
    uploaded = {}

    def create_repo(self, repo_id, **kwargs):
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path, **kwargs):
        uploaded[repo_id] = {p.name: p.read_bytes() for p in folder_path.iterdir()}
        return "https://huggingface.co/somebody/ships/commit/1"

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    model = tiny("rsrefseg")
    model.push_to_hub("somebody/ships")
    files = uploaded["somebody/ships"]
    assert set(files) == {"config.json", "model.safetensors", "tokenizer.model", "README.md"}
    data = huggingface_hub.ModelCard(files["README.md"].decode()).data
    assert (data.library_name, data.pipeline_tag) == ("rrsis-zoo", "image-segmentation")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert weights_hash(load_model(tmp_path)) == weights_hash(model)


def test_from_the_hubs_cache(monkeypatch, tmp_path, folder):
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    for call in (
        lambda: load_model("hub:somebody/ships"),
        lambda: load_model("rsrefseg", weights="hub:somebody/ships"),
    ):
        with pytest.raises(MissingWeightsError, match=r"fetch it with: hf download somebody/ships"):
            call()
    with pytest.raises(MissingWeightsError, match=r"hf download somebody/ships, or give local_files_only=False"):
        RSRefSeg.from_pretrained("somebody/ships", cache_dir=cache)
    with pytest.raises(MissingWeightsError, match="is not a folder"):
        RSRefSeg.from_pretrained(tmp_path / "no" / "where", cache_dir=cache)
    for path in folder.iterdir():
        add_to_cache(cache, "somebody/ships", path.name, path.read_bytes())
    expected = weights_hash(load_model(folder))
    assert weights_hash(load_model("hub:somebody/ships")) == expected
    assert weights_hash(load_model("rsrefseg", weights="hub:somebody/ships")) == expected
    assert weights_hash(RSRefSeg.from_pretrained("somebody/ships", cache_dir=cache)) == expected


def test_a_mapped_model_survives_a_new_version_of_its_folder(tmp_path):
    """Weights are used from the file; writing to the folder again must not change what is in use."""
    tiny("rsrefseg").save_pretrained(tmp_path)
    first = load_model(tmp_path)
    before = {k: v.clone() for k, v in first.state_dict().items()}
    with torch.no_grad():
        first.prompter.down_channel.bn.weight.add_(1)  # writing to a parameter does not reach the file
    assert load_model(tmp_path).prompter.down_channel.bn.weight.equal(before["prompter.down_channel.bn.weight"])
    first.save_pretrained(tmp_path)  # onto itself
    assert load_model(tmp_path).prompter.down_channel.bn.weight.equal(first.prompter.down_channel.bn.weight)
    torch.manual_seed(9)
    tiny("rsrefseg").save_pretrained(tmp_path)
    assert first.siglip.text_model.head.weight.equal(before["siglip.text_model.head.weight"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's list of mapped files")
def test_a_loaded_model_lives_in_its_file(folder):
    model = load_model(folder)
    start = model.siglip.text_model.head.weight.data_ptr()
    with open("/proc/self/maps") as maps:
        for line in maps:
            low, high = (int(x, 16) for x in line.split()[0].split("-"))
            if low <= start < high:
                assert "model.safetensors" in line
                return
    pytest.fail("the weight lies in no mapping")


def damaged(folder, tmp_path, name, change):
    copy = tmp_path / "copy"
    copy.mkdir(exist_ok=True)
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    change(copy / name)
    return copy


@pytest.mark.parametrize(
    ("name", "change", "error", "words"),
    [
        ("model.safetensors", lambda p: p.unlink(), MissingWeightsError, "model.safetensors is missing"),
        ("tokenizer.model", lambda p: p.unlink(), MissingWeightsError, "tokenizer.model is missing"),
        ("model.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-9]), WeightsMismatchError, "is truncated"),
        ("config.json", lambda p: p.unlink(), WeightsMismatchError, "is not a model of rrsis-zoo"),
        ("config.json", lambda p: p.write_text("{"), WeightsMismatchError, "is not a model of rrsis-zoo"),
        ("config.json", lambda p: edit(p, format=2), WeightsMismatchError, "format 2"),
        ("config.json", lambda p: edit(p, model="control"), ConfigError, "unknown setting"),
    ],
)
def test_damaged_folders(folder, tmp_path, name, change, error, words):
    with pytest.raises(error, match=words):
        load_model(damaged(folder, tmp_path, name, change))


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_weights_of_another_configuration_are_named(folder, tmp_path):
    def widen(path):
        config = json.loads(path.read_text())
        config["config"]["siglip"]["width"] = 128
        path.write_text(json.dumps(config))

    with pytest.raises(WeightsMismatchError, match=r"wrongly shaped: .*\(64,\) in the file, \(128,\)"):
        load_model(damaged(folder, tmp_path, "config.json", widen))


def test_wrong_classes_and_settings(folder, tmp_path):
    with pytest.raises(ConfigError, match="holds rsrefseg, not Control"):
        Control.from_pretrained(folder)
    with pytest.raises(ConfigError, match="holds rsrefseg, not control"):
        load_model("control", weights=f"local:{folder}")
    with pytest.raises(ConfigError, match="leave the preset out"):
        load_model("rsrefseg", weights=f"local:{folder}", preset="b")
    with pytest.raises(ConfigError, match="with its own preset and weights"):
        load_model(folder, preset="tiny")
    with pytest.raises(ConfigError, match="did you mean 'rsrefseg'"):
        load_model("rsrefsge")
    with pytest.raises(ConfigError, match="known: b, l, mini, tiny"):
        load_model("rsrefseg", preset="tyni")
    with pytest.raises(ConfigError, match="got 'none'"):
        find_whole("none", card("rsrefseg"))
    with pytest.raises(MissingWeightsError, match="nowhere"):
        load_model("rsrefseg", weights=f"local:{tmp_path / 'nowhere'}")
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="name the method, load_model"):
        load_model(f"local:{tmp_path / 'a.safetensors'}")
    with pytest.raises(WeightsMismatchError, match="has no other format"):
        load_model("control", weights=f"local:{tmp_path / 'a.safetensors'}", preset="tiny")
    assert rrsis_zoo.load_model("rsrefseg", weights=f"local:{folder}", preset="tiny").tokenizer_ready


def test_into_a_built_model(folder, tmp_path):
    """What a config with one source for the whole model does."""
    find_weights(card("rsrefseg"), f"local:{folder}")
    model = RSRefSeg.from_preset("tiny")
    fill_model(model, f"local:{folder}")
    assert weights_hash(model) == weights_hash(load_model(folder))
    assert model.tokenizer_ready
    other = RSRefSeg.from_preset("tiny", dense_prompt=False)
    with pytest.raises(ConfigError, match="dense_prompt is True, here False"):
        fill_model(other, f"local:{folder}")
    with pytest.raises(ConfigError, match="holds rsrefseg, not control"):
        fill_model(Control.from_preset("tiny"), f"local:{folder}")
    with pytest.raises(MissingWeightsError):
        find_weights(card("rsrefseg"), f"local:{tmp_path / 'gone.ckpt'}")


def test_a_checkpoint_of_fit(tmp_path):
    model = tiny("rsrefseg")
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(
        {"state_dict": state | {"metrics.x": torch.ones(1)}, META: model.description(), "epoch": 1}, tmp_path / "a.ckpt"
    )
    for again in (load_model(tmp_path / "a.ckpt"), load_model("rsrefseg", weights=f"local:{tmp_path / 'a.ckpt'}")):
        assert weights_hash(again) == weights_hash(model)
        assert again.tokenizer_ready
    # it may be overwritten in place while the model is in use
    again, before = load_model(tmp_path / "a.ckpt"), weights_hash(model)
    (tmp_path / "a.ckpt").write_bytes(b"")
    assert weights_hash(again) == before


def test_the_authors_file_needs_no_conversion(golden, tmp_path, monkeypatch):
    """load_model takes it as it is, with the published tokenizer from the cache."""
    case, _, weights = layouts.golden_model(golden, "rsrefseg")
    path = layouts.write({"module": weights}, tmp_path / "mp_rank_00_model_states.pt")
    config = layouts.empty_model(case).config
    monkeypatch.setitem(RSRefSeg.presets, "golden", config)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(MissingWeightsError, match=r"tokenizer of SigLIP.*hf download google/siglip.* spiece\.model"):
        load_model("rsrefseg", weights=f"local:{path}", preset="golden")
    pieces = RSRefSeg.tokenizer_kind.from_expressions(EXPRESSIONS, 60, 16).model
    add_to_cache(tmp_path / "hub", "google/siglip-so400m-patch14-384", "spiece.model", pieces)
    for source in (path, tmp_path):  # the file, or the folder that DeepSpeed made
        model = load_model("rsrefseg", weights=f"local:{source}", preset="golden")
        assert model.tokenizer_ready
        assert model.sam.mask_decoder.iou_token.weight.equal(weights["sam_mask_decoder.model.iou_token.weight"])
