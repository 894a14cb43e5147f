"""Models without memory for their parameters, to be filled from a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook


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
        yield
    finally:
        hook.remove()
