"""Models without memory for their parameters, to be filled from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

_DRAWN = frozenset({"kaiming_uniform_", "normal_", "uniform_"})
"""Functions that fill a tensor with random numbers."""
_ELEMENTWISE = frozenset({"mul", "log"})
"""Functions with which constructors compute buffers from one tensor; the result has its shape."""


class _NoNumbers(TorchFunctionMode):
    """In this context no values are computed for tensors on the meta device, which have none.

    Torch looks for the shapes of such results with parts of its compiler, whose import takes as long as that of torch
    itself. What is not named here is left to torch, and only costs that time.

    Args:
        everywhere: all new tensors are on the meta device.
    """

    def __init__(self, everywhere: bool) -> None:
        super().__init__()
        self.everywhere = everywhere

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Torch's hook: called instead of every function."""
        given, name = kwargs or {}, getattr(func, "__name__", "")
        if name in _DRAWN:
            tensor = args[0] if args else given.get("tensor")
            if isinstance(tensor, Tensor) and tensor.is_meta:
                return tensor
        if self.everywhere and func in (torch.rand, torch.randn):
            return torch.empty(*args, **given)
        if self.everywhere and name in _ELEMENTWISE and not given:
            tensors = [value for value in args if isinstance(value, Tensor)]
            if len(tensors) == 1 and tensors[0].is_meta:
                return torch.empty(tensors[0].shape, dtype=tensors[0].dtype, device="meta")
        return func(*args, **given)


@contextmanager
def on_meta() -> Iterator[None]:
    """In this context every new tensor is on the meta device: shapes alone, no memory, no random numbers."""
    with torch.device("meta"), _NoNumbers(everywhere=True):
        yield


@contextmanager
def without_weights() -> Iterator[None]:
    """In this context every new module has its parameters on the meta device: no memory, no random numbers.

    Buffers are real, including those that no file has. `rrsis_zoo.weights.load.fill_module` fills the rest. The hook is
    torch's own and global: it also affects models that other threads build meanwhile.
    """

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:  # already on meta: tied to another name, which must remain so
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    hook = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type] - its result is used
    try:
        with _NoNumbers(everywhere=False):
            yield
    finally:
        hook.remove()
