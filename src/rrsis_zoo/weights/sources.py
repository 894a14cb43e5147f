"""Weight sources: one explicit string says where weights come from; nothing is ever downloaded. No torch.

local:PATH                        a file, or a folder that holds one
hub:ORG/REPO[@REVISION][:FILE]    a Hugging Face repository, read from the local cache only
mini:NAME                         a miniature shipped with this package: a foundation model or a trained method
none                              no weights: parameters keep their initial values
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rrsis_zoo.errors import ConfigError, MissingDataError, MissingWeightsError, WeightsMismatchError, unknown_name
from rrsis_zoo.files import expanded, read_json
from rrsis_zoo.schema import Strict, checked
from rrsis_zoo.weights.catalogue import REPOSITORIES, size_text
from rrsis_zoo.weights.places import no_url

INDEX_SUFFIX = ".index.json"
"""``model.safetensors.index.json`` maps the tensors of ``model.safetensors`` to shards."""

INDEX_LIMIT = 64 * 2**20
"""Largest size of such an index in bytes; a thousand names take 0.1 MB."""

# The hub's rule: letters and digits, and single dots or hyphens between them.
_REPO_PART = r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*"


@dataclass(frozen=True)
class LocalSource:
    """A file or folder on this machine.

    Attributes:
        path: as written by the user; ``~`` is expanded when it is resolved.
    """

    path: Path

    def __str__(self) -> str:
        return f"local:{self.path}"


@dataclass(frozen=True)
class HubSource:
    """A repository of the Hugging Face hub.

    Attributes:
        repo: ``org/name``.
        revision: branch, tag or commit; None for ``main``.
        file: path of one file in it; None to look for the usual names.
    """

    repo: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        return f"hub:{self.repo}{f'@{self.revision}' if self.revision else ''}{f':{self.file}' if self.file else ''}"

    @property
    def page(self) -> str:
        """Web page of the repository at its revision."""
        return f"https://huggingface.co/{self.repo}{f'/tree/{self.revision}' if self.revision else ''}"

    @property
    def place(self) -> str:
        """The page, with size and terms of the weights if the catalogue has them."""
        known = REPOSITORIES.get(self.repo)
        return f"{self.page} ({known.what}, {size_text(known.bytes)}; {known.terms})" if known else self.page

    def command(self, files: Sequence[str]) -> str:
        """Return the shell command that fetches files of the repository, or all, into the local cache."""
        revision = ["--revision", self.revision] if self.revision else []
        return " ".join(["hf download", self.repo, *files, *revision])


@dataclass(frozen=True)
class MiniSource:
    """A miniature trained on synthetic scenes and shipped with the package.

    Attributes:
        name: one of ``MINIATURES``, or of `trained_miniatures`.
    """

    name: str

    def __str__(self) -> str:
        return f"mini:{self.name}"

    @property
    def folder(self) -> Path:
        """Folder of its weights, tokenizers and card."""
        return _SHIPPED / self.name

    @property
    def whole(self) -> bool:
        """Whether it is a trained method, and not a foundation model."""
        return self.name not in MINIATURES


@dataclass(frozen=True)
class NoSource:
    """No weights."""

    def __str__(self) -> str:
        return "none"


WeightSource = LocalSource | HubSource | MiniSource | NoSource

MINIATURES = ("sam", "sam2", "sam3", "siglip", "beit3")
"""Names of the miniature foundation models; benchmarks/miniatures pretrains them."""

_SHIPPED = Path(__file__).parents[1] / "miniatures"


def trained_miniatures() -> tuple[str, ...]:
    """Return the methods of which a trained miniature is shipped."""
    return tuple(
        sorted(f.name for f in _SHIPPED.iterdir() if f.is_dir() and f.name not in (*MINIATURES, "__pycache__"))
    )


def is_source(text: str) -> bool:
    """Return whether a text has the form of a source of weights, and is not a path or a name."""
    return text.startswith(("local:", "hub:", "mini:"))


def parse_source(text: str) -> WeightSource:
    """Parse a source string; see the module's docstring for its forms.

    Nothing is looked up: the source may be absent from this machine.

    Raises:
        ConfigError: an unknown kind of source, or one with a missing or malformed part.

    Example:
        >>> source = parse_source("hub:KyanChen/RSRefSeg2:rrsisd.pth")
        >>> source.repo, source.file
        ('KyanChen/RSRefSeg2', 'rrsisd.pth')
        >>> source.command([source.file])
        'hf download KyanChen/RSRefSeg2 rrsisd.pth'
    """
    no_url(text)
    kind, _, rest = text.partition(":")
    if text == "none":
        return NoSource()
    if kind == "none":
        raise ConfigError(f"weight source {text!r}: nothing may follow 'none'")
    if kind == "local":
        if not rest:
            raise ConfigError(f"weight source {text!r} has no path: write local:PATH")
        return LocalSource(Path(rest))
    if kind == "hub":
        return _parse_hub(text, rest)
    if kind == "mini":
        if rest not in (known := (*MINIATURES, *trained_miniatures())):
            raise unknown_name(f"miniature in the weight source {text!r}", rest, known)
        return MiniSource(rest)
    if text and os.path.exists(os.path.expanduser(text)):
        raise ConfigError(f"weight source {text!r} has no kind: write local:{text}")
    raise unknown_name(f"kind of weight source in {text!r}:", kind, ("local", "hub", "mini", "none"))


def _parse_hub(text: str, rest: str) -> HubSource:
    form = "write hub:ORG/REPO[@REVISION][:FILE]"
    repo_revision, colon, file = rest.partition(":")
    repo, at, revision = repo_revision.partition("@")
    if not repo:
        raise ConfigError(f"weight source {text!r} has no repository: {form}")
    if not re.fullmatch(f"{_REPO_PART}/{_REPO_PART}", repo):
        raise ConfigError(f"weight source {text!r}: {repo!r} is not of the form ORG/REPO: {form}")
    if at and (not re.fullmatch(r"[\w.][\w./-]*", revision) or ".." in revision.split("/")):
        raise ConfigError(f"weight source {text!r}: {revision!r} after '@' is not a valid revision: {form}")
    if colon and (not file or any(part in ("", ".", "..") for part in file.split("/"))):
        raise ConfigError(f"weight source {text!r}: {file!r} is not a valid path in the repository: {form}")
    return HubSource(repo, revision or None, file or None)


def resolve(source: WeightSource, wanted: Sequence[str], role: str) -> Path:
    """Find the file to read on this machine.

    For every wanted name the sharded form is accepted too: then the path is that of the index
    (``model.safetensors.index.json``), and all its shards exist.

    Args:
        source: of the weights. A local file may have any name.
        wanted: candidate file names in order of preference, such as ``("model.safetensors", "pytorch_model.bin")``;
            at least one.
        role: description of the weights for error messages, for instance ``"weights of the SigLIP text tower"``.

    Returns:
        Path of an existing file.

    Raises:
        MissingWeightsError: the file, or a shard of it, is not on this machine.
        ConfigError: the source is ``none``, or a trained method.
    """
    if isinstance(source, LocalSource):
        return _resolve_local(source, wanted, role)
    if isinstance(source, HubSource):
        return _resolve_hub(source, wanted, role)
    if isinstance(source, MiniSource) and source.whole:
        known = ", ".join(f"mini:{name}" for name in MINIATURES)
        raise ConfigError(f"{role}: {source} is a trained method, not a foundation model; known: {known}")
    if isinstance(source, MiniSource):
        return _resolve_local(LocalSource(source.folder), wanted, role)
    raise ConfigError(
        f"{role}: the source is 'none', but weights are needed: give local:PATH, hub:ORG/REPO or mini:NAME"
    )


def read_index(path: Path) -> dict[str, str]:
    """Return tensor name -> shard file name of a ``*.index.json``.

    Raises:
        MissingWeightsError: the file does not exist.
        WeightsMismatchError: not an index of shards in its folder.
    """
    try:
        content = read_json(path, INDEX_LIMIT, WeightsMismatchError)
    except MissingDataError as error:
        raise MissingWeightsError(str(error)) from error
    advice = "it is not an index of weight shards (a JSON object 'weight_map')"
    shards = checked(_Index, content, str(path), WeightsMismatchError, advice).weight_map
    if not shards:
        raise WeightsMismatchError(f"{path} names no shards: {advice}")
    for shard in shards.values():
        if shard in ("", ".", "..") or "\0" in shard or Path(shard).name != shard:
            raise WeightsMismatchError(f"{path} names the shard {shard!r}, which is not a file name in its folder")
    return shards


class _Index(Strict):
    weight_map: dict[str, str]


def missing_shards(index: Path) -> list[str]:
    """Return the shards named by a ``*.index.json`` that are missing from its folder."""
    return [shard for shard in sorted(set(read_index(index).values())) if not os.path.isfile(index.parent / shard)]


def _resolve_local(source: LocalSource, wanted: Sequence[str], role: str) -> Path:
    path = expanded(source.path)
    if os.path.isdir(path):
        _, file = _first(wanted, lambda name: path / name if os.path.isfile(path / name) else None)
        if file is None:
            raise MissingWeightsError(f"{role}: the folder {path} has no {_listed(wanted)}")
    elif os.path.isfile(path):
        file = path
    else:
        raise MissingWeightsError(
            f"{role}: there is no file or folder {path}; give the path of a weight file, or of a folder with "
            f"{_listed(wanted)}"
        )
    if file.name.endswith(INDEX_SUFFIX) and (lacking := missing_shards(file)):
        raise MissingWeightsError(f"{role}: {', '.join(lacking)} must be in the folder of {file}, which names them")
    return file


def _resolve_hub(source: HubSource, wanted: Sequence[str], role: str) -> Path:
    # Imported here: it takes 0.2 s, and most commands look up no weights.
    from huggingface_hub import constants, try_to_load_from_cache

    names = [source.file] if source.file else list(wanted)
    absent = set()  # names that the hub does not have, according to the cache

    def look_up(name: str) -> Path | None:
        location = try_to_load_from_cache(source.repo, name, revision=source.revision)
        if location is not None and not isinstance(location, str):
            absent.add(name)
        return Path(location) if isinstance(location, str) else None

    name, file = _first(names, look_up)
    if file is None:
        command = source.command([next((name for name in names if name not in absent), names[0])])
        raise MissingWeightsError(
            f"{role}: no {_listed(names)} of {source.place} is in the local cache {constants.HF_HUB_CACHE}; "
            f"fetch it with: {command}",
            what=f"{role}: {source.place} is not in the local cache {constants.HF_HUB_CACHE}",
            mend=command,
        )
    if name.endswith(INDEX_SUFFIX) and (lacking := missing_shards(file)):
        folder = name.removesuffix(file.name)
        command = source.command([folder + shard for shard in lacking])
        lack = (
            f"{role}: {len(lacking)} of the shards of {name} of {source.place} are not in the local cache "
            f"{constants.HF_HUB_CACHE}"
        )
        raise MissingWeightsError(f"{lack}; fetch them with: {command}", what=lack, mend=command)
    return file


def _first(wanted: Sequence[str], look_up: Callable[[str], Path | None]) -> tuple[str, Path | None]:
    """Return the first wanted name that exists, and its path; each as one file or else as an index of shards."""
    for name in wanted:
        for form in (name,) if name.endswith(INDEX_SUFFIX) else (name, name + INDEX_SUFFIX):
            if (file := look_up(form)) is not None:
                return form, file
    return "", None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " or " + names[-1] if len(names) > 1 else names[0]
