"""Methods from a file or module that the user names: ``rrsis fit --plugin my_method.py``.

A plug-in is Python that registers a method, with `rrsis_zoo.register` or by the name ``METHOD``. Loading it runs its
code, so it is only loaded when the user names it.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from rrsis_zoo.errors import ConfigError, RRSISError
from rrsis_zoo.files import expanded
from rrsis_zoo.methods.method import Method
from rrsis_zoo.methods.registry import methods, register, registered

_loaded: dict[str, tuple[Method, ...]] = {}


def load_plugin(source: str | os.PathLike[str]) -> tuple[Method, ...]:
    """Load a plug-in and return its methods, which all commands and `rrsis_zoo.load_model` then know.

    It is imported once a process, and its folder is added to the end of Python's path, so that it can import the
    modules beside it and loading processes find it.

    Args:
        source: a Python file, a folder with ``__init__.py``, or the name of an importable module.

    Raises:
        ConfigError: there is no such plug-in, its code fails, it registers nothing, or its name is that of another
            module.
    """
    text = os.fspath(source)
    path = _path(text)
    name = text if path is None else _module_name(path)
    if path is not None:
        _check_name(name, path)
    if name not in _loaded:
        _loaded[name] = _methods_of(name, path, text)
    for method in _loaded[name]:
        if methods().get(method.name) is not method:  # not by its own code, or the registry was emptied
            register(method)
    return _loaded[name]


def _methods_of(name: str, path: Path | None, text: str) -> tuple[Method, ...]:
    before, fresh = registered(), name not in sys.modules
    module = _import(name, path, text)
    found = [method for key, method in registered().items() if before.get(key) is not method]
    own = getattr(module, "METHOD", None)
    if isinstance(own, Method) and own not in found:
        found.append(own)
    if not found:
        if fresh:
            del sys.modules[name]  # a notebook tries again when it is mended
        raise ConfigError(
            f"plug-in {text} registers no method: end it with rrsis_zoo.register(METHOD), where METHOD is a "
            f"{Method.__module__}.{Method.__qualname__}"
        )
    return tuple(found)


def _path(text: str) -> Path | None:
    """Return the file of a plug-in; None for the name of a module.

    Raises:
        ConfigError: there is no such file, or a folder is not a package.
    """
    path = expanded(text)
    if not (text.endswith(".py") or os.sep in text or os.path.isdir(path)):
        return None
    if os.path.isdir(path):
        path = path / "__init__.py"
    if not os.path.isfile(path):
        raise ConfigError(
            f"plug-in {text}: there is no file {path}; give a Python file, a package's folder or a module"
        )
    return path.absolute()


def _module_name(path: Path) -> str:
    """Return the name under which configurations find the classes of a plug-in's file."""
    name = path.parent.name if path.name == "__init__.py" else path.stem
    if not name.isidentifier():
        raise ConfigError(f"plug-in {path}: {name!r} cannot be a module's name: rename it with letters, digits and _")
    return name


def _check_name(name: str, path: Path) -> None:
    """Refuse a file that is called like another module, which configurations would find instead."""
    try:
        spec = find_spec(name)
    except ValueError:  # a module without a specification, such as __main__
        spec = ModuleSpec(name, None)
    if spec is not None and (spec.origin is None or Path(spec.origin) != path):
        where = f" ({spec.origin})" if spec.origin else ""
        raise ConfigError(f"plug-in {path}: there is already a module {name!r}{where}; rename the plug-in")


def _import(name: str, path: Path | None, text: str) -> ModuleType:
    if path is not None:
        folder = str(path.parents[1] if path.name == "__init__.py" else path.parent)
        if folder not in sys.path:
            sys.path.append(folder)
        importlib.invalidate_caches()  # it may have been written a moment ago
    try:
        return importlib.import_module(name)
    except RRSISError as error:
        raise ConfigError(f"plug-in {text}: {error}") from error
    except (Exception, SystemExit) as error:  # a foreign import can raise any error
        if isinstance(error, ModuleNotFoundError) and path is None and name.startswith(str(error.name)):
            raise ConfigError(
                f"plug-in {text}: there is no module {error.name!r}; give a Python file, for instance {text}.py"
            ) from error
        raise ConfigError(f"plug-in {text} cannot be imported: {_place(error, path)}{error!r}") from error


def _place(error: BaseException, path: Path | None) -> str:
    """Return file and line of an error in a plug-in's own code."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: "
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if path is None or path.parent in Path(f.filename).parents]
    own = [f for f in own if not f.filename.startswith("<")]  # the import system's
    return f"{own[-1].filename}, line {own[-1].lineno}: " if own else ""
