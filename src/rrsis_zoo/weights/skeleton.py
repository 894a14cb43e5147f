"""Models without memory for their parameters, to be filled from a file at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook


@contextmanager
def without_weights() -> Iterator[None]:
    """Inside, every new module has its parameters on the meta device: no memory, no random numbers.

    Buffers stay real, also those that no file holds. `rrsis_zoo.weights.load.fill_module` fills the rest. The hook is
    torch's own and global: models that other threads build meanwhile are concerned too.
    """

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:  # already on meta: tied to another name, and to stay so
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    hook = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type] - its result is used
    try:
        yield
    finally:
        hook.remove()
