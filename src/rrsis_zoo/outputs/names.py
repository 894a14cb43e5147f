"""Which files each input becomes, decided before any work: no two the same, no input, nothing that is there. No torch.

Into a folder an input ``a/b.tif`` becomes ``b.png``, ``b.json`` and so on. Inputs that share a name keep what tells
them apart: ``b.tif`` and ``b.jpg`` become ``b.tif.png`` and ``b.jpg.png``, ``2019/b.tif`` and ``2020/b.tif`` become
``2019-b.png`` and ``2020-b.png``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.outputs.kinds import KINDS


class NamedKind(Protocol):
    """What this module needs to know of a kind of output."""

    @property
    def name(self) -> str:
        """As in ``--kind``."""
        ...

    @property
    def suffix(self) -> str:
        """Of a file that the user names."""
        ...

    @property
    def ending(self) -> str:
        """What follows an input's name in a folder."""
        ...

    def numbered(self, path: Path, sentences: int) -> tuple[Path, ...]:
        """Return the files for a path."""
        ...


_Kind = TypeVar("_Kind", bound=NamedKind)


@dataclass(frozen=True)
class Job:
    """An input and its outputs.

    Attributes:
        path: of the input.
        files: kind's name -> where its files go.
    """

    path: Path
    files: Mapping[str, tuple[Path, ...]]

    @property
    def all_files(self) -> list[Path]:
        """All outputs."""
        return [path for paths in self.files.values() for path in paths]


def is_folder(out: str) -> bool:
    """Return whether an output is a folder: it exists as one, or its name ends with a slash."""
    return out.endswith(("/", os.sep)) or os.path.isdir(out)


def kinds_for(
    out: str,
    named: Sequence[str],
    known: Mapping[str, _Kind] = KINDS,
    default: str = "png",
    further: Sequence[str] = (),
) -> tuple[_Kind, ...]:
    """Return the kinds of output that are meant.

    Args:
        out: file or folder.
        named: names of kinds; empty for the one that a file's ending says, or the default in a folder.
        known: all kinds, by name.
        default: name of the one in a folder.
        further: endings that mean something elsewhere, for the error.

    Raises:
        ConfigError: a file with another ending, or several kinds in one file.
    """
    if is_folder(out):
        return tuple(known[name] for name in dict.fromkeys(named)) or (known[default],)
    suffix = Path(out).suffix.lower()
    if not named:
        fitting = [kind for kind in known.values() if kind.suffix == suffix]
        if not fitting:
            endings = ", ".join(dict.fromkeys([*(kind.suffix for kind in known.values()), *further]))
            raise ConfigError(f"--out {out} must end in one of {endings}, or in / for a folder")
        return (fitting[0],)
    if len(set(named)) > 1:
        raise ConfigError(f"--kind {','.join(named)} makes several files of an input: give a folder, --out {out}/")
    kind = known[named[0]]
    if suffix != kind.suffix:
        raise ConfigError(f"--out {out} must end in {kind.suffix} for --kind {kind.name}")
    return (kind,)


def jobs(inputs: Sequence[Path], out: str, kinds: Sequence[NamedKind], sentences: int) -> list[Job]:
    """Return what each input becomes.

    Args:
        inputs: all of them.
        out: file or folder.
        kinds: of output.
        sentences: their number.

    Raises:
        ConfigError: an input that is given twice, several inputs for one file, or an output that would replace an input
            or another output.
    """
    real = [Path(os.path.realpath(path)) for path in inputs]
    if twice := next((path for path, n in Counter(real).items() if n > 1), None):
        raise ConfigError(f"{inputs[real.index(twice)]} is given twice")
    if not is_folder(out):
        if len(inputs) > 1:
            raise ConfigError(f"{len(inputs)} inputs need a folder: --out {os.path.splitext(out)[0]}/")
        result = [Job(inputs[0], {kind.name: kind.numbered(Path(out), sentences) for kind in kinds})]
    else:
        folder = Path(out)
        result = [
            Job(path, {kind.name: kind.numbered(folder / f"{name}{kind.ending}", sentences) for kind in kinds})
            for path, name in zip(inputs, _names(inputs), strict=True)
        ]
    _check(result, dict(zip(real, inputs, strict=True)))
    return result


def _check(planned: Sequence[Job], inputs: Mapping[Path, Path]) -> None:
    seen: dict[str, Path] = {}
    for job in planned:
        for path in job.all_files:
            place = Path(os.path.realpath(path))
            if place in inputs:
                raise ConfigError(f"{path} would replace the input {inputs[place]}: give another --out")
            key = str(place).casefold()  # some file systems do not tell A from a
            if key in seen:
                raise ConfigError(f"{seen[key]} and {job.path} would both become {path}: segment them one by one")
            seen[key] = job.path


def _names(inputs: Sequence[Path]) -> list[str]:
    """Return a name for each input; those that are shared get their ending, then the folders that they are in."""
    longer = [_longer_names(path) for path in inputs]
    names = [next(some) for some in longer]
    while True:
        counts = Counter(name.casefold() for name in names)
        shared = [n for n, name in enumerate(names) if counts[name.casefold()] > 1]
        wider = {n: name for n in shared if (name := next(longer[n], None)) is not None}
        if not wider:
            return names
        for n, name in wider.items():
            names[n] = name


def _longer_names(path: Path) -> Iterator[str]:
    """Yield ``c``, ``c.tif``, ``b-c``, ``b-c.tif``, ``a-b-c`` … for ``/a/b/c.tif``."""
    folders = Path(os.path.abspath(path)).parts[1:-1]
    for depth in range(len(folders) + 1):
        before = folders[len(folders) - depth :]
        yield "-".join((*before, path.stem))
        if path.suffix:
            yield "-".join((*before, path.name))


def existing(planned: Sequence[Job]) -> list[Path]:
    """Return the outputs that are there already."""
    return [path for job in planned for path in job.all_files if os.path.lexists(path)]
