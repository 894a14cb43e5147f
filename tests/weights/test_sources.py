import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from rrsis_zoo.errors import ConfigError, MissingWeightsError, WeightsMismatchError
from rrsis_zoo.weights.sources import HubSource, LocalSource, NoSource, parse_source, resolve

WANTED = ("model.safetensors", "pytorch_model.bin")
ROLE = "weights of the text tower"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("none", NoSource()),
        ("local:w.pt", LocalSource(Path("w.pt"))),
        (r"local:C:\weights\w.pt", LocalSource(Path(r"C:\weights\w.pt"))),
        ("local:/a b/@x:y", LocalSource(Path("/a b/@x:y"))),
        ("hub:org/repo", HubSource("org/repo")),
        ("hub:org/repo@v1.0", HubSource("org/repo", "v1.0")),
        ("hub:org/repo@refs/pr/3", HubSource("org/repo", "refs/pr/3")),
        ("hub:org/sam-vit_b.1:sub/w.pt", HubSource("org/sam-vit_b.1", None, "sub/w.pt")),
        (f"hub:org/repo@{COMMIT}:a@b.pt", HubSource("org/repo", COMMIT, "a@b.pt")),
    ],
)
def test_sources_are_read_and_written_alike(text, source):
    assert parse_source(text) == source
    assert str(source) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("local:", "has no path"),
        ("local", "has no path"),
        ("hub:", "has no repository"),
        ("hub", "has no repository"),
        ("hub:@v1", "has no repository"),
        ("hub:repo", "'repo' is not of the form ORG/REPO"),
        ("hub:a/b/c", "'a/b/c' is not of the form"),
        ("hub:a/../b", "is not of the form ORG/REPO"),
        ("hub:a/b--c", "is not of the form ORG/REPO"),
        ("hub:org/repo@", "'' after '@' is not a valid revision"),
        ("hub:org/repo@a b", "'a b' after '@' is not a valid revision"),
        ("hub:org/repo:", "'' is not a valid path"),
        ("hub:org/repo:../w.pt", "'../w.pt' is not a valid path"),
        ("hub:org/repo:/w.pt", "'/w.pt' is not a valid path"),
        ("none:w.pt", "nothing may follow 'none'"),
        ("lokal:w.pt", "'lokal' (did you mean 'local'?); known: hub, local, mini, none"),
        ("org/repo", "unknown kind of weight source in 'org/repo'"),
        ("", "unknown kind of weight source in ''"),
    ],
)
def test_malformed_sources(text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(words)):
        parse_source(text)


def test_a_bare_path_that_exists_is_answered_with_its_source(tmp_path):
    with pytest.raises(ConfigError, match=re.escape(f"write local:{tmp_path}")):
        parse_source(str(tmp_path))


def test_none_resolves_to_nothing():
    with pytest.raises(ConfigError, match=f"{ROLE}: the source is 'none'"):
        resolve(NoSource(), WANTED, ROLE)


# -- local -----------------------------------------------------------------------------------------------------------


def write_index(folder, shards, name="model.safetensors.index.json"):
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": {f"w{i}": s for i, s in enumerate(shards)}}))
    return folder / name


def test_local_file_whatever_its_name(tmp_path):
    path = tmp_path / "step:7 final.ckpt"
    path.touch()
    assert resolve(parse_source(f"local:{path}"), WANTED, ROLE) == path


def test_local_folder_in_order_of_preference(tmp_path):
    source = LocalSource(tmp_path)
    with pytest.raises(MissingWeightsError, match=r"has no model\.safetensors or pytorch_model\.bin") as error:
        resolve(source, WANTED, ROLE)
    assert str(tmp_path) in str(error.value)
    assert str(error.value).startswith(ROLE)

    (tmp_path / "pytorch_model.bin").touch()
    assert resolve(source, WANTED, ROLE).name == "pytorch_model.bin"
    (tmp_path / "shard.safetensors").touch()
    write_index(tmp_path, ["shard.safetensors"])
    assert resolve(source, WANTED, ROLE).name == "model.safetensors.index.json"
    (tmp_path / "model.safetensors").touch()
    assert resolve(source, WANTED, ROLE).name == "model.safetensors"


def test_local_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.pt").touch()
    assert resolve(parse_source("local:~/w.pt"), WANTED, ROLE) == tmp_path / "w.pt"


def test_local_absent_path_is_named(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"no file or folder .*/gone; .* with model\.safetensors or pytorch"):
        resolve(LocalSource(tmp_path / "gone"), WANTED, ROLE)


def test_local_shards_must_be_there(tmp_path):
    index = write_index(tmp_path, ["s-1.safetensors", "s-2.safetensors", "s-1.safetensors"])
    (tmp_path / "s-1.safetensors").touch()
    for source in (LocalSource(tmp_path), LocalSource(index)):
        with pytest.raises(MissingWeightsError, match=r": s-2\.safetensors must be in the folder of"):
            resolve(source, WANTED, ROLE)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": "../b"}}', '{"weight_map": {"a": 1}}']
)
def test_a_damaged_index_is_named(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(WeightsMismatchError, match=re.escape(str(tmp_path))):
        resolve(LocalSource(tmp_path), WANTED, ROLE)


# -- hub -------------------------------------------------------------------------------------------------------------


def add_to_cache(cache, repo, name, content=b"x", commit=COMMIT, ref="main"):
    """Lay a file into a hub cache as `hf download` does: a blob, a link from the snapshot, a ref to the commit."""
    root = cache / f"models--{repo.replace('/', '--')}"
    blob = root / "blobs" / f"{commit[:8]}{name.replace('/', '_')}"
    link = root / "snapshots" / commit / name
    for folder in (blob.parent, link.parent, (root / "refs" / ref).parent):
        folder.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(os.path.relpath(blob, link.parent))
    (root / "refs" / ref).write_text(commit)
    return link


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_hub_revisions_and_files(cache):
    main = add_to_cache(cache, "org/repo", "pytorch_model.bin")
    tagged = add_to_cache(cache, "org/repo", "model.safetensors", commit="f" * 40, ref="v2")
    nested = add_to_cache(cache, "org/repo", "sub/other.pt", commit="f" * 40, ref="v2")
    assert resolve(parse_source("hub:org/repo"), WANTED, ROLE) == main
    assert resolve(parse_source("hub:org/repo@v2"), WANTED, ROLE) == tagged
    assert resolve(parse_source(f"hub:org/repo@{'f' * 40}"), WANTED, ROLE) == tagged
    assert resolve(parse_source("hub:org/repo@v2:sub/other.pt"), WANTED, ROLE) == nested
    preferred = add_to_cache(cache, "org/repo", "model.safetensors")
    assert resolve(parse_source("hub:org/repo"), WANTED, ROLE) == preferred


def test_hub_missing_names_role_page_and_command(cache):
    with pytest.raises(MissingWeightsError) as error:
        resolve(parse_source("hub:org/repo"), WANTED, ROLE)
    assert str(error.value) == (
        f"{ROLE}: no model.safetensors or pytorch_model.bin of https://huggingface.co/org/repo is in the local cache "
        f"{cache}; fetch it with: hf download org/repo model.safetensors"
    )
    add_to_cache(cache, "org/repo", "w.pt")  # on main, not on v2
    with pytest.raises(MissingWeightsError) as error:
        resolve(parse_source("hub:org/repo@v2:w.pt"), WANTED, ROLE)
    assert "https://huggingface.co/org/repo/tree/v2" in str(error.value)
    assert str(error.value).endswith("hf download org/repo w.pt --revision v2")


def test_hub_file_known_to_be_absent_is_not_asked_for(cache):
    add_to_cache(cache, "org/repo", "config.json")
    absent = cache / "models--org--repo" / ".no_exist" / COMMIT / "model.safetensors"
    absent.parent.mkdir(parents=True)
    absent.touch()
    with pytest.raises(MissingWeightsError, match=r"hf download org/repo pytorch_model\.bin$"):
        resolve(parse_source("hub:org/repo"), WANTED, ROLE)


def test_hub_dangling_link_is_missing(cache):
    add_to_cache(cache, "org/repo", "model.safetensors").resolve().unlink()
    with pytest.raises(MissingWeightsError):
        resolve(parse_source("hub:org/repo"), WANTED, ROLE)


@pytest.mark.parametrize("folder", ["", "sub/"])
def test_hub_shards(cache, folder):
    index = json.dumps({"weight_map": {"a": "s-1.safetensors", "b": "s-2.safetensors"}}).encode()
    path = add_to_cache(cache, "org/repo", f"{folder}model.safetensors.index.json", index)
    add_to_cache(cache, "org/repo", f"{folder}s-1.safetensors")
    wanted = [f"{folder}model.safetensors"]
    with pytest.raises(MissingWeightsError, match=f"hf download org/repo {folder}s-2.safetensors$"):
        resolve(parse_source("hub:org/repo"), wanted, ROLE)
    add_to_cache(cache, "org/repo", f"{folder}s-2.safetensors")
    assert resolve(parse_source("hub:org/repo"), wanted, ROLE) == path


@pytest.mark.parametrize(("variable", "sub"), [("HF_HUB_CACHE", ""), ("HF_HOME", "hub")])
def test_hub_cache_of_the_environment_without_network_or_torch(tmp_path, variable, sub):
    path = add_to_cache(tmp_path / sub, "org/repo", "model.safetensors")
    code = f"""
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from rrsis_zoo.errors import MissingWeightsError
from rrsis_zoo.weights.sources import parse_source, resolve
assert "huggingface_hub" not in sys.modules
print(resolve(parse_source("hub:org/repo"), {WANTED!r}, "w"))
try:
    resolve(parse_source("hub:org/other"), {WANTED!r}, "w")
except MissingWeightsError as error:
    print(error)
assert "torch" not in sys.modules
"""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE"))}
    # Not offline: even then nothing may be fetched.
    out = subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {variable: str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    found, error = out.stdout.splitlines()
    assert Path(found) == path
    assert str(tmp_path / sub) in error
