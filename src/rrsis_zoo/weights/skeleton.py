"""Models without memory for their parameters, to be filled from a file at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils._python_dispatch import TorchDispatchMode

_PARAMETERS = 20_000  # the largest method has 3,000


class TooLarge(Exception):
    """A configuration that asks for more than is plausible."""


@contextmanager
def without_weights(numbers: int | None = None) -> Iterator[None]:
    """Inside, every new module has its parameters on the meta device: no memory, no random numbers.

    Buffers stay real, also those that no file holds. `rrsis_zoo.weights.load.load_into` fills the rest. The hook is
    torch's own and global: models that other threads build meanwhile are concerned too.

    Args:
        numbers: how many numbers the modules may ask memory for while they are built, all together; None for any
            number. For configurations of strangers: a small file may describe a model that no machine holds.

    Raises:
        TooLarge: more were asked for, before they were given; or a model of more parameters than any has.
    """
    registered = 0

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        nonlocal registered
        registered += 1
        if numbers is not None and registered > _PARAMETERS:
            raise TooLarge(f"more than {_PARAMETERS} parameters")
        if parameter is None or parameter.is_meta:  # already on meta: tied to another name, and to stay so
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    hook = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type] - its result is used
    try:
        if numbers is None:
            yield
        else:
            with _Allowance(numbers):
                yield
    finally:
        hook.remove()


class _Allowance(TorchDispatchMode):
    """Counts the numbers that new tensors are made for, before there is memory for them."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.left = numbers

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one of torch's operations."""
        size = args[0] if args else None
        if isinstance(size, list | tuple) and size and all(isinstance(side, int) for side in size):  # empty, zeros, …
            asked = math.prod(size)
        elif isinstance(size, int | float) and all(isinstance(a, int | float) for a in args):  # arange, linspace, eye
            asked = int(max(map(abs, args)))
        else:
            asked = 0
        self.left -= asked
        if self.left < 0:
            raise TooLarge(f"tensors of {asked:,} numbers and others")
        return func(*args, **(kwargs or {}))
