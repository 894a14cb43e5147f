"""Downloads on request: the files that a preset or a config needs. No torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rrsis_zoo.errors import ConfigError, MissingDataError, MissingWeightsError, unknown_name
from rrsis_zoo.methods.registry import card, method_at
from rrsis_zoo.models.card import MethodCard
from rrsis_zoo.weights.catalogue import REPOSITORIES, Repository
from rrsis_zoo.weights.sources import (
    INDEX_SUFFIX,
    HubSource,
    LocalSource,
    MiniSource,
    NoSource,
    missing_shards,
    parse_source,
    resolve,
)
from rrsis_zoo.yaml_files import read_yaml

BESIDE = (
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
"""What ``save_pretrained`` of a chat model and its processor writes beside weights, configuration and tokenizer, by any
version of transformers. Without the right one a model is asked in a way that it was not trained for."""


class Absent(Exception):
    """Raised by a downloader if the repository does not have the file."""


class Download(Protocol):
    """Downloads one file into the local cache."""

    def __call__(self, source: HubSource, file: str) -> Path:
        """Return the path of the file; raise `Absent` if the repository has no such file."""
        ...


@dataclass(frozen=True)
class Wanted:
    """Files needed from one place.

    Attributes:
        source: a repository, or a path on this machine for files fetched by hand.
        what: description of the files.
        files: for each file its possible names, the preferred one first.
        whole: whether everything in the repository that belongs to the model is needed.
    """

    source: HubSource | LocalSource
    what: str
    files: tuple[tuple[str, ...], ...]
    whole: bool = False

    @property
    def place(self) -> str:
        """The web page or the path."""
        return self.source.page if isinstance(self.source, HubSource) else str(self.source)

    @property
    def known(self) -> Repository | None:
        """What the catalogue says of the repository; None if nothing."""
        return REPOSITORIES.get(self.source.repo) if isinstance(self.source, HubSource) else None

    @property
    def bytes(self) -> int | None:
        """Approximate size; None if unknown."""
        return self.known.bytes if self.known else None


def wanted(name: str, preset: str | None = None) -> list[Wanted]:
    """Return the files that a method, release or config needs.

    Args:
        name: a method, ``METHOD/RELEASE`` for the authors' trained weights, or the path of a config (YAML).
        preset: with a method: its sizes; the paper's by default.

    Raises:
        ConfigError: unknown name or preset, or a config without weights.
    """
    if name.endswith((".yaml", ".yml")):
        return _of_config(Path(name))
    method, slash, release = name.partition("/")
    facts = card(method)
    if slash:
        return _of_release(facts, release)
    return _of_weights(facts, facts.presets[facts.preset_named(preset)].weights)


def _of_weights(facts: MethodCard, weights: Mapping[str, str]) -> list[Wanted]:
    needs = []
    for role, text in weights.items():
        if role not in facts.foundations:
            raise unknown_name(f"role in the weights of {facts.name}", role, facts.foundations)
        source = parse_source(text)
        if not isinstance(source, NoSource | MiniSource):  # neither has anything to fetch
            foundation = facts.foundations[role]
            files = _files(source, foundation.files)
            whole = foundation.whole and isinstance(source, HubSource) and source.file is None
            needs.append(Wanted(source, foundation.title, files, whole))
    return sorted(needs, key=lambda need: isinstance(need.source, LocalSource))  # what can be fetched first


def _files(source: HubSource | LocalSource, usual: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    return ((source.file,),) if isinstance(source, HubSource) and source.file else usual


def _of_release(facts: MethodCard, name: str) -> list[Wanted]:
    release = next((r for r in facts.releases if r.name == name), None)
    if release is None:
        if not facts.releases:
            raise ConfigError(f"the authors of {facts.name} publish no trained weights")
        raise unknown_name(f"release of {facts.name}", name, [r.name for r in facts.releases])
    source = parse_source(release.source)
    assert isinstance(source, HubSource)
    assert facts.official is not None
    needs = [Wanted(source, f"{facts.name} {name}", (release.files,))]
    role = facts.official.tokenizer
    tokenizer = parse_source(facts.presets[release.preset].weights[role])
    assert isinstance(tokenizer, HubSource | LocalSource)
    return [
        *needs,
        Wanted(tokenizer, f"tokenizer of {facts.foundations[role].title}", (facts.foundations[role].tokenizer,)),
    ]


def _of_config(path: Path) -> list[Wanted]:
    model = model_section(path)
    arguments = model.get("init_args", {})
    known = method_at(model.get("class_path"))
    if known is None:
        raise ConfigError(f"{path} does not name a model of rrsis-zoo in model.class_path")
    weights = arguments.get("weights") or {}
    if isinstance(weights, str):
        source = parse_source(weights)
        if not isinstance(source, HubSource):
            return []
        if source.file is None:
            raise ConfigError(f"{source} is a whole repository: fetch it with: {source.command([])}")
        return [Wanted(source, "the complete model", ((source.file,),))]
    return _of_weights(known.card, weights)


def model_section(path: Path) -> dict[str, Any]:
    """Return the section ``model`` of a config; if it is a path, the section is read from there.

    Raises:
        ConfigError: the file cannot be read, or has no such section.
    """
    section = _read(path).get("model")
    if isinstance(section, str):
        section = _read(path.parent / section)
    if not isinstance(section, dict):
        raise ConfigError(f"{path} has no section 'model'")
    return section


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except MissingDataError as error:
        raise ConfigError(f"{path} cannot be read as a config: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} cannot be read as a config: it holds no settings")
    return content


def fetch(needs: Iterable[Wanted], download: Download) -> list[Path]:
    """Download files into the local cache, each under the first of its names that the repository has.

    Returns:
        Their paths, shards of a file after their index.

    Raises:
        MissingWeightsError: a repository has none of the names, or cannot be reached; or a file that has to be fetched
            by hand is missing.
    """
    paths = []
    for need in needs:
        mine = [path for names in need.files for path in _first(need, names, download)]
        if need.whole and isinstance(need.source, HubSource):
            mine += _rest(need.source, mine, download)
        paths += mine
    return paths


def _rest(source: HubSource, there: Sequence[Path], download: Download) -> list[Path]:
    """Download the small files beside a model that has come: chat templates, vocabularies, processors."""
    found = []
    for name in BESIDE:
        if all(path.name != name for path in there):
            with contextlib.suppress(Absent):  # no model has all of them
                found.append(download(source, name))
    return found


def _first(need: Wanted, names: tuple[str, ...], download: Download) -> list[Path]:
    if isinstance(need.source, LocalSource):
        return [resolve(need.source, names, need.what)]
    for name in names:
        for form in (name, name + INDEX_SUFFIX):
            try:
                path = download(need.source, form)
            except Absent:
                continue
            if not form.endswith(INDEX_SUFFIX):
                return [path]
            folder = form.removesuffix(path.name)
            return [path, *(download(need.source, folder + shard) for shard in missing_shards(path))]
    raise MissingWeightsError(f"{need.what}: {need.source.page} has no {' or '.join(names)}")


def hub_download(source: HubSource, file: str) -> Path:
    """Download with huggingface_hub: existing files are not fetched again, interrupted downloads are resumed.

    Raises:
        Absent: the repository has no such file.
        MissingWeightsError: the hub cannot be reached, or the download fails.
    """
    import httpx
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(hf_hub_download(source.repo, file, revision=source.revision))
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:  # the second is an EntryNotFoundError too
        raise MissingWeightsError(
            f"{source.place} cannot be reached, or HF_HUB_OFFLINE is set; on a machine with a network run "
            f"{source.command([file])} and copy its cache, or give the file as local:PATH"
        ) from error
    except EntryNotFoundError as error:
        raise Absent(file) from error
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise MissingWeightsError(f"{file} cannot be downloaded from {source.page}: {error}") from error
