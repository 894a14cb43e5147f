"""Files in a dataset's folders, including links to files. A broken link is not a file. No torch here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rrsis_zoo.data.headers import placeholder
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import dangling, expanded, reason, regular_file

_SHOWN = 3


def existing_folder(root: str | Path, title: str, advice: str) -> Path:
    """Return the folder of a dataset, with ``~`` and variables expanded.

    Args:
        root: as the user wrote it.
        title: of the dataset, for the error.
        advice: for someone who does not have it.

    Raises:
        MissingDataError: there is no such folder.
        DataFormatError: it cannot be accessed.
    """
    root = expanded(root)
    if is_folder(root):
        return root
    what = "is a file; a folder was expected" if os.path.isfile(root) else f"there is no such folder{dangling(root)}"
    raise MissingDataError(f"{title}: no folder {str(root)!r} ({what}); {advice}")


def is_folder(path: Path) -> bool:
    """Return whether a path leads to a folder.

    Raises:
        DataFormatError: the path cannot be accessed.
    """
    try:
        return path.is_dir()
    except (OSError, ValueError) as cause:
        raise DataFormatError(f"{path} cannot be accessed ({reason(cause)})") from cause


def walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what `os.walk` yields; inner folders without read permission are skipped.

    Raises:
        DataFormatError: the root itself cannot be accessed.
    """

    def unreadable(cause: OSError) -> None:
        if cause.filename in (None, str(root)):
            raise DataFormatError(f"{root} cannot be accessed ({reason(cause)})") from cause

    return os.walk(root, onerror=unreadable)


def broken_links(folder: Path) -> str:
    """Return the broken links directly in a folder, for an error: one may be what is missing; empty without any."""
    lost = [
        f"{path.name}{dangling(path)}"
        for path in sorted(folder.iterdir())
        if path.is_symlink() and not os.path.exists(path)
    ]
    return f", where {' and '.join(lost)}" if lost else ""


class Listing:
    """The files in one folder, listed once; links are followed.

    Args:
        folder: to list, without folders inside it.

    Raises:
        DataFormatError: it cannot be accessed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: set[str] = set()
        self.others: dict[str, str] = {}
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _leads_to_file(entry):
                        self.files.add(entry.name)
                    else:
                        self.others[entry.name] = _what_is(Path(entry.path))
        except OSError as cause:
            raise DataFormatError(f"{folder} cannot be accessed ({reason(cause)})") from cause

    def lack(self, name: str) -> str:
        """Return a name with the reason why there is no such file; an empty text if there is one."""
        return "" if name in self.files else f"{name}{self.others.get(name, '')}"


def _leads_to_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links, or a link to a place without access
        return False


def _what_is(path: Path) -> str:
    try:
        if path.is_dir():
            return " (a folder)"
        return dangling(path) or " (not a regular file)"
    except OSError as cause:
        return f" ({reason(cause)})"


def annotation_file(path: Path) -> Path:
    """Return the path of an annotation file, checked to be one.

    Raises:
        MissingDataError: there is none.
        DataFormatError: not a regular file, or a web page or pointer in its place.
    """
    try:
        with regular_file(path).open("rb") as file:
            instead = placeholder(file.read(64), "the annotations")
    except OSError as cause:
        raise DataFormatError(f"{path}: cannot be read ({reason(cause)})") from cause
    if instead:
        raise DataFormatError(f"{path}: {instead}")
    return path


def plain_name(name: str, where: str) -> str:
    """Return a file name from an annotation file; it must not lead out of its folder.

    Raises:
        DataFormatError: it contains a folder, or is not a file name.
    """
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise DataFormatError(f"{where}: {name!r} must be the name of a file in its folder, without a path")
    return name


def missing_files(what: str, missing: Sequence[str], folder: Path, advice: str) -> MissingDataError:
    """Return the error for files that a split names and a folder lacks.

    Args:
        what: dataset, kind of files and split, with ``{}`` for their number.
        missing: the results of `Listing.lack`.
        folder: where they should be.
        advice: for someone who does not have them.
    """
    names = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    there = all(name.endswith(")") for name in missing)  # broken links, folders, pipes
    fix = "put the files themselves there" if there else f"the download is incomplete; {advice}"
    which = what.format(len(missing)) + " are"
    if len(missing) == 1:
        which = which.replace("files", "file").replace(" are", " is")
    return MissingDataError(f"{which} not in {str(folder)!r} ({names}): {fix}")
