"""What is fetched, in which order and from where; no network, a downloader that takes notes."""

import json

import httpx
import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, OfflineModeIsEnabled

from rrsis_zoo.commands.fetch import Absent, fetch, hub_download, wanted
from rrsis_zoo.commands.models import run_models
from rrsis_zoo.errors import ConfigError, MissingWeightsError
from rrsis_zoo.methods.registry import card, list_models
from rrsis_zoo.weights.sources import HubSource


class Hub:
    """Repositories as name -> file -> content; brings files into a folder."""

    def __init__(self, folder, **repositories):
        self.folder, self.asked = folder, []
        self.repositories = repositories

    def __call__(self, source, file):
        self.asked.append((source.repo, source.revision, file))
        files = self.repositories.get(source.repo.split("/")[1].replace("-", "_"), {})
        if file not in files:
            raise Absent(file)
        path = self.folder / source.repo / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[file])
        return path


def repos(needs):
    return [(str(need.source), need.files) for need in needs]


def test_what_a_method_needs():
    needs = wanted("rsrefseg")
    assert [need.source.repo for need in needs] == ["facebook/sam-vit-large", "google/siglip-so400m-patch14-384"]
    assert needs[1].files == (("model.safetensors", "pytorch_model.bin"), ("spiece.model",))
    assert needs[0].bytes == pytest.approx(1.25e9, rel=0.01)
    assert wanted("rsrefseg", "b")[0].source.repo == "facebook/sam-vit-base"
    assert wanted("rsrefseg", "tiny") == []


@pytest.mark.parametrize("name", list_models())
def test_the_paper_configs_need_what_the_cards_say(name, root):
    found = wanted(str(root / "configs" / f"{name}.yaml"))
    assert found
    assert repos(found) == repos(wanted(name))


def test_releases_need_their_tokenizer():
    for name in list_models():
        for release in card(name).releases:
            needs = wanted(f"{name}/{release.name}")
            assert str(needs[0].source) == release.source
            assert needs[1].files == (card(name).foundations[card(name).official.tokenizer].tokenizer,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rsrefsge", "did you mean 'rsrefseg'"),
        ("rsrefseg/rrsisd", "publish no trained weights"),
        ("nowhere.yaml", "nowhere.yaml cannot be read"),
    ],
)
def test_unknown_names(name, words):
    with pytest.raises(ConfigError, match=words):
        wanted(name)
    with pytest.raises(ConfigError, match="unknown preset of rsrefseg"):
        wanted("rsrefseg", "huge")


def test_configs_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"

    def config(**arguments):
        model = {"class_path": "rrsis_zoo.methods.rsrefseg.module.RSRefSegModule", "init_args": arguments}
        path.write_text(json.dumps({"model": model}))
        return wanted(str(path))

    assert config() == []
    assert config(weights=None) == []
    by_hand = config(weights={"sam": "none", "siglip": f"local:{tmp_path / 'siglip'}"})
    with pytest.raises(MissingWeightsError, match=r"SigLIP: there is no file or folder .*siglip"):
        fetch(by_hand, Hub(tmp_path))
    (tmp_path / "siglip").mkdir()
    for name in ("model.safetensors", "spiece.model"):
        (tmp_path / "siglip" / name).touch()
    assert [p.name for p in fetch(by_hand, Hub(tmp_path))] == ["model.safetensors", "spiece.model"]
    own = config(weights={"sam": "hub:me/sam@v2:sam.pth", "siglip": "none"})
    assert repos(own) == [("hub:me/sam@v2:sam.pth", (("sam.pth",),))]
    assert repos(config(weights="hub:me/all:w.pth")) == [("hub:me/all:w.pth", (("w.pth",),))]
    with pytest.raises(ConfigError, match=r"hf download me/all$"):
        config(weights="hub:me/all")
    with pytest.raises(ConfigError, match="did you mean 'siglip'"):
        config(weights={"sam": "none", "siglib": "none"})
    path.write_text("model: {class_path: somebody.else}")
    with pytest.raises(ConfigError, match="does not name a model of rrsis-zoo"):
        wanted(str(path))
    path.write_text("data: {}")
    with pytest.raises(ConfigError, match="has no section 'model'"):
        wanted(str(path))


def test_the_first_name_that_is_there(tmp_path):
    hub = Hub(tmp_path, siglip_so400m_patch14_384={"pytorch_model.bin": "w", "spiece.model": "t"})
    paths = fetch(wanted("rsrefseg")[1:], hub)
    assert [p.name for p in paths] == ["pytorch_model.bin", "spiece.model"]
    assert [file for *_, file in hub.asked] == [
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "spiece.model",
    ]


def test_shards_follow_their_index(tmp_path):
    index = json.dumps({"weight_map": {"a": "s-1.safetensors", "b": "s-2.safetensors"}})
    shards = {"s-1.safetensors": "1", "s-2.safetensors": "2"}
    hub = Hub(tmp_path, sam_vit_large={"model.safetensors.index.json": index, **shards})
    assert [p.name for p in fetch(wanted("rsrefseg")[:1], hub)] == ["model.safetensors.index.json", *shards]


def test_a_repository_without_the_file(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"huggingface\.co/facebook/sam-vit-large has no model\.safetensors"):
        fetch(wanted("rsrefseg"), Hub(tmp_path))


def test_the_command(tmp_path, capsys):
    files = {"model.safetensors": "w", "spiece.model": "t"}
    hub = Hub(tmp_path, sam_vit_base=files, siglip_so400m_patch14_384=files)
    assert run_models(["fetch", "rsrefseg", "--preset", "b"], hub) == 0
    said = capsys.readouterr().out
    assert "SAM: https://huggingface.co/facebook/sam-vit-base (375 MB)" in said
    assert str(tmp_path / "google" / "siglip-so400m-patch14-384" / "spiece.model") in said
    assert run_models(["fetch", "control", "--preset", "tiny"], hub) == 0
    assert "needs nothing" in capsys.readouterr().out


def test_a_chat_model_comes_with_all_that_its_processor_reads(tmp_path, capsys):
    """Also with what only some versions of transformers write; terms are said before anything is fetched."""
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    files = {
        "model.safetensors.index.json": index, "model-1.safetensors": "1", "model-2.safetensors": "2",
        "tokenizer.json": "t", "config.json": "c", "tokenizer_config.json": "x", "preprocessor_config.json": "p",
        "chat_template.json": "j", "generation_config.json": "g", "vocab.json": "v", "README.md": "r", "train.py": "no",
    }  # fmt: skip
    hub = Hub(tmp_path, **{"sam2.1_hiera_small": {"model.safetensors": "w"}, "Think2Seg_RS_3B": files})
    assert run_models(["fetch", "think2seg"], hub) == 0
    said = capsys.readouterr().out
    assert "Think2Seg-RS-3B (7.5 GB); licence: none stated that we know of\n" in said
    assert "sam2.1-hiera-small (184 MB); licence: Apache-2.0\n" in said
    folder = tmp_path / "RicardoString" / "Think2Seg-RS-3B"
    assert {path.name for path in folder.iterdir()} == files.keys() - {"README.md", "train.py"}
    for name in ("config.json", "tokenizer.json", "preprocessor_config.json"):
        gone = Hub(
            tmp_path / "other", **{**hub.repositories, "Think2Seg_RS_3B": {n: t for n, t in files.items() if n != name}}
        )
        with pytest.raises(MissingWeightsError, match=f"Think2Seg-RS-3B has no {name}"):
            run_models(["fetch", "think2seg"], gone)
    with pytest.raises(MissingWeightsError):
        run_models(["fetch", "sam3_zeroshot"], Hub(tmp_path))
    assert "licence: SAM License; gated: ask for access on its page" in capsys.readouterr().out


def test_the_downloader_is_the_hubs_own(monkeypatch, tmp_path):
    source = HubSource("facebook/sam-vit-base", "v1")
    asked = []

    def download(repo, file, revision):
        asked.append((repo, file, revision))
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert hub_download(source, "w.pth") == tmp_path / "w.pth"
    assert asked == [("facebook/sam-vit-base", "w.pth", "v1")]


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (
            OfflineModeIsEnabled("offline"),
            MissingWeightsError,
            "HF_HUB_OFFLINE.*hf download facebook/sam-vit-base w.pth",
        ),
        (LocalEntryNotFoundError("no network"), MissingWeightsError, "cannot be reached"),
        (EntryNotFoundError("404"), Absent, "w.pth"),
        (OSError("disk full"), MissingWeightsError, "w.pth cannot be downloaded from .*: disk full"),
        (httpx.ReadTimeout("too slow"), MissingWeightsError, "w.pth cannot be downloaded from .*: too slow"),
    ],
)
def test_what_goes_wrong_while_fetching(monkeypatch, error, expected, words):
    def download(*args, **kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(expected, match=words):
        hub_download(HubSource("facebook/sam-vit-base"), "w.pth")


def test_offline_is_quick():
    """The test run is offline: the real client says so at once, without a try."""
    with pytest.raises(MissingWeightsError, match=r"SAM ViT-B, 375 MB.*cannot be reached"):
        hub_download(HubSource("facebook/sam-vit-base"), "model.safetensors")
