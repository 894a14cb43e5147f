"""The methods by name: ours, those of installed packages, and registered ones. Imports no torch.

A package adds a method with an entry point of the group ``rrsis_zoo.methods`` that refers to a `Method`, a program with
`register`, a command line with ``--plugin`` (docs/start/add_a_method.md).
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.methods import control, evisam3, lavt, rmsin, rs2sam2, rsrefseg, rsrefseg2, sam3_zeroshot, think2seg
from rrsis_zoo.methods.method import Method
from rrsis_zoo.models.card import MethodCard

GROUP = "rrsis_zoo.methods"
"""Group of entry points of installed packages."""

_OURS: dict[str, Method] = {
    method.name: method
    for method in (
        lavt.METHOD,
        rmsin.METHOD,
        rsrefseg.METHOD,
        rs2sam2.METHOD,
        rsrefseg2.METHOD,
        evisam3.METHOD,
        sam3_zeroshot.METHOD,
        think2seg.METHOD,
        control.METHOD,
    )
}
_registered: dict[str, Method] = {}


def register(method: Method) -> None:
    """Add a method for this process, for commands, `rrsis_zoo.load_model` and tables.

    Args:
        method: to add. It replaces one registered earlier under the same name, so that a notebook cell can be run
            again.

    Raises:
        ConfigError: not a `Method`, or the name belongs to a method of the zoo or of an installed package.
    """
    if not isinstance(method, Method):
        raise ConfigError(f"register takes a rrsis_zoo.methods.method.Method, got a {type(method).__name__}")
    if method.name in _OURS or method.name in _installed():
        raise ConfigError(f"there is already a method {method.name!r}: give the new one another name")
    _registered[method.name] = method


def registered() -> dict[str, Method]:
    """Return the methods that `register` has added to this process, by name."""
    return dict(_registered)


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
        ['lavt', 'rmsin', 'rsrefseg', 'rs2sam2', 'rsrefseg2', 'evisam3', 'sam3_zeroshot', 'think2seg', 'control']
    """
    return list(methods())


def method_named(name: str) -> Method:
    """Return a method.

    Raises:
        ConfigError: there is no such method.
    """
    known = methods()
    if name not in known:
        raise unknown_name("model", name, known)
    return known[name]


def card(name: str) -> MethodCard:
    """Return a method's card.

    Raises:
        ConfigError: there is no such method.
    """
    return method_named(name).card


def method_at(class_path: str | None) -> Method | None:
    """Return the method of the LightningModule that a config names; None if it belongs to none.

    Paths of earlier versions, ``rrsis_zoo.training.<name>``, are known too. Every method's classes are imported.
    """
    now = current_class_path(class_path)
    return next((known for known in methods().values() if known.class_path == now), None)


def current_class_path(class_path: str | None) -> str | None:
    """Return the current path of a LightningModule named in a config or checkpoint of an earlier version."""
    package, _, name = (class_path or "").rpartition(".")
    earlier, _, module = package.rpartition(".")
    if earlier != "rrsis_zoo.training" or module not in _OURS:
        return class_path
    now = _OURS[module].class_path
    return now if now.rpartition(".")[2] == name else class_path


@cache
def _installed() -> dict[str, Method]:
    """Return the methods of installed packages; searched once."""
    installed: dict[str, Method] = {}
    for point in entry_points(group=GROUP):
        try:  # a broken package must not affect the other methods
            method = _loaded(point)
            if method.name in _OURS or method.name in installed:
                raise ConfigError(f"{point.value!r} has a second method {method.name!r}")
        except ConfigError as error:
            warnings.warn(f"an installed package's method is left out: {error}", stacklevel=2)
            continue
        installed[method.name] = method
    return installed


def _loaded(point: EntryPoint) -> Method:
    try:
        loaded = point.load()
    except Exception as error:  # a foreign import can raise any error
        raise ConfigError(f"{point.value!r} cannot be imported ({error!r}); update or uninstall the package") from error
    if not isinstance(loaded, Method):
        raise ConfigError(f"{point.value!r} must be a rrsis_zoo.methods.method.Method, got a {type(loaded).__name__}")
    return loaded
