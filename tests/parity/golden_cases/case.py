"""Golden cases, format 1: results of a published program with weights that both sides generate from names."""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from rrsis_zoo.errors import DataFormatError, MissingDataError


@dataclass(frozen=True)
class Tolerance:
    """Allowed difference: rtol · |expected| + atol + atol_in_std · std(expected); likewise for gradient norms."""

    rtol: float = 0.0
    atol: float = 0.0
    atol_in_std: float = 0.0
    grad_rtol: float = 0.0
    grad_atol: float = 0.0


class Case:
    """One case folder, read on demand.

    Args:
        folder: with ``meta.json`` and, if the part has weights or tensors, ``keys.json`` (or ``keys.json.gz``) and
            ``tensors.safetensors``.

    Raises:
        MissingDataError: there is no ``meta.json``.
        DataFormatError: it is not format 1.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "meta.json"
        if not path.is_file():
            raise MissingDataError(f"{folder} is not a golden case: it has no meta.json")
        try:
            self.meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataFormatError(f"{path} is not valid JSON: {error}") from error
        if self.meta.get("format") != 1:
            raise DataFormatError(f"{path} has format {self.meta.get('format')!r}; this version reads format 1")
        self.model: str = self.meta["model"]
        self.part: str = self.meta["part"]
        self.configuration: dict[str, Any] = self.meta.get("configuration", {})
        known = Tolerance.__dataclass_fields__
        self.tolerance = Tolerance(**{k: v for k, v in self.meta.get("tolerance", {}).items() if k in known})

    @cached_property
    def keys(self) -> dict[str, dict[str, Any]]:
        """Official name -> shape and dtype, for every parameter and buffer."""
        path = self.folder / "keys.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        packed = self.folder / "keys.json.gz"
        return json.loads(gzip.decompress(packed.read_bytes())) if packed.is_file() else {}

    @cached_property
    def stored(self) -> dict[str, Tensor]:
        """The recorded tensors in their stored form."""
        path = self.folder / "tensors.safetensors"
        if not path.is_file():
            return {}
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping

    def names(self, role: str) -> list[str]:
        """Return the names of the recorded tensors of a role: input, output, loss or gradient."""
        return [name for name, record in self.meta.get("tensors", {}).items() if record["role"] == role]

    def input(self, name: str) -> Tensor:
        """Return a complete input tensor, decoded.

        Raises:
            DataFormatError: the case does not record it, or stores only a part of it.
        """
        record = self.meta.get("tensors", {}).get(name)
        if record is None or name not in self.stored:
            raise DataFormatError(f"{self.folder} does not record the tensor {name!r}")
        tensor = self.stored[name]
        if record["stored"] == "packbits":
            bits = np.unpackbits(tensor.numpy(), count=math.prod(record["shape"]))
            tensor = torch.from_numpy(bits)
        elif record["stored"] != "full":
            raise DataFormatError(f"{self.folder}: the input {name!r} is stored only in part ({record['stored']})")
        tensor = tensor.reshape(record["shape"])
        decode = record.get("decode", {})
        if "scale" in decode:
            tensor = tensor.to(torch.float32) * decode["scale"]
        if repeat := decode.get("repeat"):
            tensor = tensor.repeat_interleave(repeat, -2).repeat_interleave(repeat, -1)
        return tensor

    def inputs(self, prefix: str) -> dict[str, Tensor]:
        """Return the inputs whose name starts with ``prefix``, by the rest of their name."""
        return {name.removeprefix(prefix): self.input(name) for name in self.names("input") if name.startswith(prefix)}

    def as_stored(self, name: str, tensor: Tensor) -> Tensor:
        """Convert a complete tensor to the case's stored form, for comparison."""
        record = self.meta["tensors"][name]
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if record["stored"] == "flat_stride":
            return flat[:: record["stride"]]
        if record["stored"] == "packbits":
            return torch.from_numpy(np.packbits(flat.to(torch.uint8).numpy()))
        return flat

    def weights(
        self, wanted: Callable[[str], bool], place: Callable[[str], Tensor | None] = lambda name: None
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the wanted official entries, each filled from its name (`fill`), overrides applied, aliases shared.

        Args:
            wanted: whether an entry of this name is.
            place: a tensor that is to hold an entry; where it fits, it is filled in place and yielded.
        """
        aliases = self.meta.get("aliases")
        aliases = aliases if isinstance(aliases, dict) else {}  # some cases describe them as text
        computed = self.meta.get("computed_buffers") or []
        for name, record in self.keys.items():
            if name not in computed and wanted(name):
                yield name, self._filled(aliases.get(name, name), record, place(name))

    def _filled(self, name: str, record: dict[str, Any], place: Tensor | None) -> Tensor:
        if "int" in record["dtype"]:
            return torch.zeros(record["shape"], dtype=torch.int64)
        shape = tuple(record["shape"])
        fits = place is not None and place.shape == shape and place.dtype == torch.float32 and place.is_contiguous()
        values = fill(name, shape, place.numpy() if fits and len(shape) > 1 else None)  # type: ignore[union-attr]
        for pattern, factor in self.meta.get("fill_overrides", []):
            if re.search(pattern, name):
                values *= np.float32(factor)
        return torch.from_numpy(np.ascontiguousarray(values)).reshape(record["shape"])  # numpy gives a scalar one axis


def fill(name: str, shape: tuple[int, ...], out: np.ndarray | None = None) -> np.ndarray:
    """Return the float32 array for an official tensor name.

    Standard normal noise seeded with the crc32 of the name, scaled so that a network filled with it stays tame:
    variances and single numbers around 1, norm weights around 1, other vectors small, matrices by their fan-in. With
    ``out`` a matrix is written there: full-size cases have gigabytes of them.
    """
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32, out=out)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.float32)
    if name.endswith("running_var"):
        return (1 + 0.1 * np.abs(noise)).astype(np.float32)
    around_one = math.prod(shape) == 1 or (len(shape) == 1 and name.endswith(("weight", "gamma")))
    if around_one:
        return (1 + 0.1 * noise).astype(np.float32)
    if len(shape) == 1:
        return (0.1 * noise).astype(np.float32)
    noise /= math.sqrt(math.prod(shape[1:]))
    return noise
