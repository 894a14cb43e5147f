"""Comparison of our results with a case's record, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golden_cases.case import Case, Tolerance


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        kind: tensor, loss, gradient, name, count or skipped.
        name: what was compared.
        shape: of the complete tensor; None for other kinds.
        difference: largest absolute difference; None if there is no number.
        allowed: tolerance at the element that comes closest to it or exceeds it most.
        passed: whether every element is within its tolerance.
        note: why a row failed or was skipped.
    """

    kind: str
    name: str
    shape: tuple[int, ...] | None
    difference: float | None
    allowed: float | None
    passed: bool
    note: str = ""


@dataclass
class Report:
    """All rows of a case."""

    model: str
    case: str
    rows: list[Row] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether there is at least one row and all have passed."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"model": self.model, "case": self.case, "passed": self.passed, "rows": [asdict(r) for r in self.rows]}

    def text(self) -> str:
        """Return a table: one line per row, then a summary."""
        width = max((len(row.name) for row in self.rows), default=0)
        lines = [f"{self.model} / {self.case}"]
        for row in self.rows:
            shape = "×".join(map(str, row.shape)) if row.shape is not None else ""
            numbers = "" if row.difference is None else f"{row.difference:.2e} of {row.allowed:.2e}"
            verdict = "skip" if row.kind == "skipped" else "pass" if row.passed else "FAIL"
            line = f"  {row.kind:<8} {row.name:<{width}}  {shape:<16} {numbers:<21} {verdict}"
            lines.append(f"{line}  {row.note}" if row.note else line)
        failed = sum(not row.passed for row in self.rows)
        lines.append(f"{len(self.rows) - failed} of {len(self.rows)} passed" + (f", {failed} FAILED" if failed else ""))
        return "\n".join(lines)


def compare_tensor(case: Case, name: str, ours: Tensor | None, flips: int = 0) -> Row:
    """Compare a computed tensor with the recorded one, in its stored form.

    Args:
        case: with the record.
        name: of the tensor.
        ours: the computed one; None if there is none.
        flips: pixels that may differ in a mask (stored as bits).
    """
    record, expected = case.meta["tensors"][name], case.stored[name].reshape(-1)
    kind = {"loss": "loss", "gradient": "gradient"}.get(record["role"], "tensor")
    shape = tuple(record["shape"])
    if ours is None:
        return Row(kind, name, shape, None, None, False, "not computed")
    if tuple(ours.shape) != shape:
        return Row(kind, name, shape, None, None, False, f"our shape is {tuple(ours.shape)}")
    if flips and record["stored"] == "packbits":
        return compare_mask(name, ours, expected, flips)
    std = record.get("std")
    if std is None:
        std = expected.to(torch.float64).std(correction=0).item() if expected.numel() else 0.0
    tolerance = case.tolerance
    if (
        record["role"] == "gradient"
    ):  # like the gradients' norms: sums over many paths have larger rounding errors than outputs
        looser = {"rtol": max(tolerance.rtol, tolerance.grad_rtol), "atol": max(tolerance.atol, tolerance.grad_atol)}
        tolerance = replace(tolerance, **looser)
    difference, allowed, passed = _within(case.as_stored(name, ours), expected, tolerance, std)
    return Row(kind, name, shape, difference, allowed, passed)


def compare_mask(name: str, ours: Tensor, packed: Tensor, flips: int) -> Row:
    """Compare a mask, or several (…, H, W), with one stored as bits."""
    expected = torch.from_numpy(np.unpackbits(packed.numpy(), count=ours.numel())).bool().reshape(ours.shape)
    wrong = (
        int((ours.bool().cpu() != expected).flatten(0, -3).flatten(1).sum(1).max())
        if ours.ndim > 2
        else int((ours.bool().cpu() != expected).sum())
    )
    return Row("tensor", name, tuple(ours.shape), float(wrong), float(flips), wrong <= flips)


def compare_number(kind: str, name: str, ours: float | None, expected: float | None, rtol: float, atol: float) -> Row:
    """Compare two numbers; None means that there is none (no gradient, or NaN in JSON)."""
    if ours is None or expected is None:
        same = ours is None and expected is None
        actual = "none" if ours is None else f"{ours:.6g}"
        wanted = "none" if expected is None else f"{expected:.6g}"
        return Row(kind, name, None, None, None, same, "" if same else f"ours is {actual}, expected {wanted}")
    allowed = rtol * abs(expected) + atol
    difference = abs(ours - expected)
    return Row(kind, name, None, difference, allowed, difference <= allowed)


def compare_names(ours: Mapping[str, tuple[int, ...]], case: Case) -> list[Row]:
    """Compare names and shapes in both directions; ``ours`` has official names."""
    rows = []
    for name, record in case.keys.items():
        shape = tuple(record["shape"])
        shape_here = ours.get(name)
        note = "missing in ours" if shape_here is None else f"our shape is {shape_here}" if shape_here != shape else ""
        rows.append(Row("name", name, shape, None, None, not note, note))
    rows += [
        Row("name", name, shape, None, None, False, "not in the case")
        for name, shape in ours.items()
        if name not in case.keys
    ]
    return rows


def compare_lists(name: str, ours: Iterable[str], expected: Iterable[str]) -> Row:
    """Compare two sets of names."""
    ours, expected = set(ours), set(expected)
    extra, missing = sorted(ours - expected), sorted(expected - ours)
    parts = [f"{label}: {', '.join(names[:4])}" for label, names in (("extra", extra), ("missing", missing)) if names]
    return Row("names", f"{name} ({len(expected)})", None, None, None, not parts, "; ".join(parts))


def _within(ours: Tensor, expected: Tensor, tolerance: Tolerance, std: float) -> tuple[float, float, bool]:
    """Return the largest difference, the tolerance at the worst element, and whether all elements are within theirs."""
    if not expected.numel():
        return 0.0, 0.0, True
    ours, expected = ours.to(torch.float64), expected.to(torch.float64)
    allowed = tolerance.rtol * expected.abs() + tolerance.atol + tolerance.atol_in_std * std
    difference = (ours - expected).abs()
    difference[(ours == expected) | (ours.isnan() & expected.isnan())] = 0
    difference = difference.nan_to_num(nan=float("inf"))
    worst = int((difference - allowed).argmax())
    return float(difference.max()), float(allowed[worst]), bool((difference <= allowed).all())
