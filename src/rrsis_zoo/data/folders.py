"""What lies in a dataset's folders: files, and links to files. A link to nowhere is no file. No torch here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rrsis_zoo.data.headers import placeholder
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import dangling, expanded, reason, regular_file

_SHOWN = 3


def existing_folder(root: str | Path, title: str, advice: str) -> Path:
    """Return the folder of a dataset, with ``~`` and variables replaced.

    Args:
        root: as the user wrote it.
        title: of the dataset, for the error.
        advice: what to tell somebody who has not got it.

    Raises:
        MissingDataError: there is no such folder.
        DataFormatError: it cannot be looked at.
    """
    root = expanded(root)
    if is_folder(root):
        return root
    what = "is a file, a folder was expected" if os.path.isfile(root) else f"there is no such folder{dangling(root)}"
    raise MissingDataError(f"{title}: no folder {str(root)!r} ({what}); {advice}")


def is_folder(path: Path) -> bool:
    """Tell whether a path leads to a folder.

    Raises:
        DataFormatError: that cannot be found out.
    """
    try:
        return os.path.isdir(path)
    except (OSError, ValueError) as cause:
        raise DataFormatError(f"{path} cannot be looked at ({reason(cause)})") from cause


def walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what `os.walk` yields; folders inside that may not be looked into are passed over.

    Raises:
        DataFormatError: the root itself may not.
    """

    def unreadable(cause: OSError) -> None:
        if cause.filename in (None, str(root)):
            raise DataFormatError(f"{root} cannot be looked at ({reason(cause)})") from cause

    return os.walk(root, onerror=unreadable)


class Listing:
    """The files of one folder, looked up once; a link counts as what it leads to.

    Args:
        folder: to look into, not into folders inside.

    Raises:
        DataFormatError: it cannot be looked at.
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
            raise DataFormatError(f"{folder} cannot be looked at ({reason(cause)})") from cause

    def lack(self, name: str) -> str:
        """Return a name with the reason why there is no file of it; an empty text where there is one."""
        return "" if name in self.files else f"{name}{self.others.get(name, '')}"


def _leads_to_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links, or a link into what may not be looked at
        return False


def _what_is(path: Path) -> str:
    try:
        if os.path.isdir(path):
            return " (a folder)"
        return dangling(path) or " (no regular file)"
    except OSError as cause:
        return f" ({reason(cause)})"


def annotation_file(path: Path) -> Path:
    """Return the path of a file of annotations that was fetched.

    Raises:
        MissingDataError: there is none.
        DataFormatError: no regular file, or a web page or pointer in its place.
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
    """Return a file name that an annotation file gives; it must not lead out of its folder.

    Raises:
        DataFormatError: it holds a folder, or is none.
    """
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise DataFormatError(f"{where}: {name!r} must be the name of a file in its folder, without a path")
    return name


def missing_files(what: str, missing: Sequence[str], folder: Path, advice: str) -> MissingDataError:
    """Return the error for files that a split names and a folder has not.

    Args:
        what: dataset, kind of files and split, where the number stands as ``{}``.
        missing: what `Listing.lack` says of each.
        folder: where they should be.
        advice: what to tell somebody who has not got them.
    """
    names = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    there = all(name.endswith(")") for name in missing)  # links to nowhere, folders, pipes
    mend = "put the files themselves there" if there else f"the download is incomplete; {advice}"
    which = what.format(len(missing)) + " are"
    if len(missing) == 1:
        which = which.replace("files", "file").replace(" are", " is")
    return MissingDataError(f"{which} not in {str(folder)!r} ({names}): {mend}")
