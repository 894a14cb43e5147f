"""Submodules of a package without what the package itself imports, which may take seconds.

``import a.b`` first runs ``a/__init__.py``. For segment_anything that is torchvision with torch's compiler, for sam2 it
is hydra; neither is needed for the networks in them.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """A package whose own module has not run yet; it does as soon as something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # looked for in all modules by inspect and others
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__path__ = spec.submodule_search_locations  # type: ignore[assignment]
        spec.loader.exec_module(self)
        return getattr(self, name)


@contextmanager
def deferred(*packages: str) -> Iterator[None]:
    """In this context submodules of these packages are imported without the packages' own modules.

    Those run later, when another submodule or a name of the package is asked for; nobody else notices. A package that
    is imported already, or is not installed, is left alone.

    Args:
        *packages: names without a dot.
    """
    waiting: list[ModuleType] = []
    for name in packages:
        module = sys.modules.get(name)
        spec = importlib.util.find_spec(name) if module is None else module.__spec__
        if spec is None or (module is not None and type(module) is not _Deferred):
            continue
        if module is None:
            module = importlib.util.module_from_spec(spec)
            module.__class__ = _Deferred
            sys.modules[name] = module
        module.__path__ = spec.submodule_search_locations  # type: ignore[assignment]
        waiting.append(module)
    try:
        yield
    finally:
        for module in waiting:
            if type(module) is _Deferred:
                del module.__path__  # the next import of a submodule asks for it
