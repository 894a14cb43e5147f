"""The methods by name: ours, those of installed packages, and those that a program registers. Imports no torch.

A package adds a method by an entry point of the group ``rrsis_zoo.methods`` that names a `Method`
(docs/start/add_a_method.md).
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.methods import control, evisam3, rs2sam2, rsrefseg, rsrefseg2
from rrsis_zoo.methods.method import Method
from rrsis_zoo.models.card import MethodCard

GROUP = "rrsis_zoo.methods"
"""Entry points of installed packages."""

_OURS: dict[str, Method] = {
    method.name: method
    for method in (rsrefseg.METHOD, rs2sam2.METHOD, rsrefseg2.METHOD, evisam3.METHOD, control.METHOD)
}
_registered: dict[str, Method] = {}


def register(method: Method) -> None:
    """Add a method for this process: commands, `rrsis_zoo.load_model` and tables know it from now on.

    Args:
        method: to be added. One that was registered under its name before is replaced, so that a notebook's cell can
            be run again.

    Raises:
        ConfigError: not a `Method`, or the name is that of a method of the zoo or of an installed package.
    """
    if not isinstance(method, Method):
        raise ConfigError(f"register takes a rrsis_zoo.methods.method.Method, got a {type(method).__name__}")
    if method.name in _OURS or method.name in _installed():
        raise ConfigError(f"there is a method {method.name!r} already: give the new one another name")
    _registered[method.name] = method


def methods() -> dict[str, Method]:
    """Return all methods by name: the zoo's in the order of their publication, installed packages', registered ones.

    Warns:
        UserWarning: an installed package's entry point cannot be loaded, or has the name of another method.
    """
    return _OURS | _installed() | _registered


def list_models() -> list[str]:
    """Return the public names of all methods.

    Example:
        >>> list_models()
        ['rsrefseg', 'rs2sam2', 'rsrefseg2', 'evisam3', 'control']
    """
    return list(methods())


def method_named(name: str) -> Method:
    """Return a method.

    Raises:
        ConfigError: no method of that name.
    """
    known = methods()
    if name not in known:
        raise unknown_name("model", name, known)
    return known[name]


def card(name: str) -> MethodCard:
    """Return a method's card.

    Raises:
        ConfigError: no method of that name.
    """
    return method_named(name).card


def method_at(class_path: str | None) -> Method | None:
    """Return the method whose LightningModule a config names; None where it is no method's.

    Places in earlier versions, ``rrsis_zoo.training.<name>``, are known too. Every method's classes are imported.
    """
    now = current_class_path(class_path)
    return next((known for known in methods().values() if known.class_path == now), None)


def current_class_path(class_path: str | None) -> str | None:
    """Return where a LightningModule is now that a config or checkpoint of an earlier version names."""
    package, _, name = (class_path or "").rpartition(".")
    earlier, _, module = package.rpartition(".")
    if earlier != "rrsis_zoo.training" or module not in _OURS:
        return class_path
    now = _OURS[module].class_path
    return now if now.rpartition(".")[2] == name else class_path


@cache
def _installed() -> dict[str, Method]:
    """Return the methods of installed packages; looked for once."""
    found: dict[str, Method] = {}
    for point in entry_points(group=GROUP):
        try:  # the other methods are not to suffer from a package that is broken
            method = _loaded(point)
            if method.name in _OURS or method.name in found:
                raise ConfigError(f"{point.value!r} brings a second method {method.name!r}")
        except ConfigError as error:
            warnings.warn(f"an installed package's method is left out: {error}", stacklevel=2)
            continue
        found[method.name] = method
    return found


def _loaded(point: EntryPoint) -> Method:
    try:
        found = point.load()
    except Exception as error:  # a stranger's import may fail in any way
        raise ConfigError(f"{point.value!r} cannot be imported ({error!r}); update or uninstall the package") from error
    if not isinstance(found, Method):
        raise ConfigError(f"{point.value!r} must be a rrsis_zoo.methods.method.Method, it is a {type(found).__name__}")
    return found
