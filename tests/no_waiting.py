"""A device that must not be waited for: torch's ``meta``, whose tensors have no values that anybody could ask for."""

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = "meta"

aten = torch.ops.aten
ASKING = {
    aten._local_scalar_dense.default,  # item, tolist, bool(), int(), float()
    aten.is_nonzero.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.unique_dim.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class Waited(AssertionError):
    """The program would have stopped until the device has done its work."""


class NoWaiting(TorchDispatchMode):
    """Fails on everything that waits for a GPU.

    That is: a question about values, a size that depends on them, a copy to the host, and a copy from the host that
    is not queued from page-locked memory (``torch.tensor(…, device=…)``, ``.to(device)``).
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        there = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.device.type == DEVICE]
        if there and func in ASKING:
            raise Waited(f"{func} asks for values")
        if (
            func in INDEXING
            and there
            and any(
                i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1] if isinstance(i, torch.Tensor)
            )
        ):
            raise Waited(f"{func} by a mask: its size depends on values")
        if func is aten.lift_fresh.default and there:
            raise Waited("numbers of the host are copied to the device: torch.tensor(…, device=…)")
        if func in (aten._to_copy.default, aten.copy_.default):
            to_there = kwargs.get("device") if func is aten._to_copy.default else args[0].device
            source = args[0] if func is aten._to_copy.default else args[1]
            if to_there is not None and torch.device(to_there).type != source.device.type:
                queued = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
                if source.device.type == DEVICE:
                    raise Waited("values are copied to the host")
                if not queued:
                    raise Waited("a copy from the host is waited for: .to(…, non_blocking=True)")
        return func(*args, **kwargs)


@contextlib.contextmanager
def without_autocast():
    """Let torch answer for this device what it knows of others: there is no autocast."""
    enabled, autocast = torch.is_autocast_enabled, torch.autocast

    def is_enabled(device_type=None):
        return False if device_type == DEVICE else enabled(*(() if device_type is None else (device_type,)))

    def context(device_type, *args, **named):
        return contextlib.nullcontext() if device_type == DEVICE else autocast(device_type, *args, **named)

    torch.is_autocast_enabled, torch.autocast = is_enabled, context
    try:
        yield
    finally:
        torch.is_autocast_enabled, torch.autocast = enabled, autocast
