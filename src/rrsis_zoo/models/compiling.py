"""torch.compile on the parts of a model that repeat, in place: names of parameters stay what they are.

Between the parts a method's own steps run as always, so that what depends on a batch (which images there are, how long
the sentences are) is decided on the host, and the parts see tensors only. Their numbers of images, expressions and
words are dynamic: one graph for one, one for several, whatever the number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError, unknown_name

Compile = Literal["off", "default", "max-autotune", "reduce-overhead"]
"""How parts are compiled: not at all; with inductor's defaults; trying out kernels for longer; with CUDA graphs, which
take the launching of kernels off the host."""

_MODES: dict[str, str | None] = {
    "default": None,
    "max-autotune": "max-autotune-no-cudagraphs",  # graphs are the other choice's
    "reduce-overhead": "reduce-overhead",
}


@dataclass(frozen=True)
class Part:
    """A module whose call is compiled.

    Attributes:
        module: called with tensors, and with dataclasses and sequences of them.
        words: which arguments have axes of words: place or name of the argument, with a dataclass's field after a dot
            (``"1.tokens"``) -> the axes. The first axis of every tensor counts images or expressions.
    """

    module: nn.Module
    words: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def check_compile(mode: str) -> None:
    """Refuse an unknown way to compile.

    Raises:
        ConfigError: it is none of `Compile`.
    """
    if mode not in get_args(Compile):
        raise unknown_name("compile", mode, get_args(Compile))


def compile_parts(parts: Mapping[str, Part], mode: Compile, name: str, **options: Any) -> None:
    """Compile modules in place; with ``off`` they are as before.

    Args:
        parts: name -> part.
        mode: how.
        name: of the model, for error messages.
        **options: of `torch.compile`, for tests: another backend, ``fullgraph``.

    Raises:
        ConfigError: an unknown mode, or no parts.
    """
    check_compile(mode)
    if mode != "off" and not parts:
        raise ConfigError(f"{name} has no parts that can be compiled: set compile off")
    for part in parts.values():
        if mode == "off":
            part.module._compiled_call_impl = None
            continue
        if "backend" not in options and _MODES[mode] is not None:
            options = {**options, "mode": _MODES[mode]}
        part.module._compiled_call_impl = _compiled(part, mode == "reduce-overhead", options)


def _compiled(part: Part, graphs: bool, options: dict[str, Any]) -> Callable[..., Any]:
    """Return the compiled call of a module.

    Args:
        part: the module.
        graphs: whether results lie in memory that the next call reuses.
        options: of `torch.compile`.
    """
    module, words = part.module, dict(part.words)

    def call(*args: Any, **named: Any) -> Any:
        return module._call_impl(*args, **named)

    # torch limits the graphs of a code object: each part gets one of its own, as if it were written out
    call.__code__ = call.__code__.replace(co_name=f"call_{type(module).__name__}")
    compiled = torch.compile(call, **options)

    def marked(*args: Any, **named: Any) -> Any:
        for i, value in enumerate(args):
            _mark(value, str(i), words)
        for key, value in named.items():
            _mark(value, key, words)
        result = compiled(*args, **named)
        return _copied(result) if graphs and not torch.is_grad_enabled() else result

    return marked


def _mark(value: Any, path: str, words: Mapping[str, tuple[int, ...]]) -> None:
    """Mark the axes of images, expressions and words of all tensors in an argument as dynamic."""
    if isinstance(value, Tensor):
        for axis in {0, *words.get(path, ())} if value.ndim else ():
            if value.shape[axis] > 1:  # 0 and 1 have graphs of their own in any case
                torch._dynamo.maybe_mark_dynamic(value, axis)
    elif is_dataclass(value):
        for f in fields(value):
            _mark(getattr(value, f.name), f"{path}.{f.name}", words)
    elif isinstance(value, list | tuple):
        for each in value:
            _mark(each, path, words)


def _copied(value: Any) -> Any:
    """Return a result in memory of its own."""
    if isinstance(value, Tensor):
        return value.clone()
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{f.name: _copied(getattr(value, f.name)) for f in fields(value)})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_copied, value))
    if isinstance(value, list | tuple):
        return type(value)(map(_copied, value))
    return value
