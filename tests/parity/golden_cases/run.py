"""Run a golden case: build the part with the usual builders, fill it by official names, compare everything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from golden_cases import evisam3, rmsin, rs2sam2, rsrefseg, rsrefseg2, sam3_zeroshot, think2seg
from golden_cases.adapter import Adapter, Part, Runnable
from golden_cases.case import Case
from golden_cases.lists import check_list
from golden_cases.metrics import check_metrics
from golden_cases.report import Report, Row, compare_lists, compare_names, compare_number, compare_tensor
from rrsis_zoo.errors import unknown_name
from rrsis_zoo.models.base import ParameterCount, ReferringSegmenter, count_parameters
from rrsis_zoo.pretrained.official import official_names

ADAPTERS: dict[str, Adapter] = {
    "rsrefseg": rsrefseg.ADAPTER,
    "rs2sam2": rs2sam2.ADAPTER,
    "rsrefseg2": rsrefseg2.ADAPTER,
    "evisam3": evisam3.ADAPTER,
    "lavt": rmsin.ADAPTER,
    "rmsin": rmsin.ADAPTER,
    "sam3_zeroshot": sam3_zeroshot.ADAPTER,
    "think2seg": think2seg.ADAPTER,
}
"""Adapters by the name of the model in a case."""


def check(folder: str | Path) -> Report:
    """Run the case in ``folder``, or the list of cases in a file, and return the report.

    Raises:
        MissingDataError: there is no case in the folder.
        DataFormatError: it cannot be read.
        ConfigError: the case has an unknown model or part.
    """
    if Path(folder).is_file():
        return check_list(Path(folder))
    case = Case(folder)
    if case.part == "metrics":  # a metric needs no model
        return Report(case.model, case.meta["case"], check_metrics(case))
    if case.model not in ADAPTERS:
        raise unknown_name("model", case.model, ADAPTERS)
    adapter = ADAPTERS[case.model]
    report = Report(case.model, case.meta["case"])
    if case.part in adapter.own:
        report.rows = adapter.own[case.part](case)
    elif case.part == "keys":
        report.rows = _check_names(case, adapter)
    elif case.part in adapter.parts:
        report.rows = _check_part(case, adapter)
    else:
        raise unknown_name(f"part of {case.model}", case.part, [*adapter.parts, "keys"])
    return report


class _Undrawn(TorchFunctionMode):
    """In this context what is made without values, as parameters are before they are drawn, takes no memory.

    To draw a billion random numbers takes a quarter of a minute, and to write so many zeros almost as long.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Torch's hook: called instead of every function."""
        return func(*args, **{**(kwargs or {}), **({"device": "meta"} if func is torch.empty else {})})


def _given_memory(model: nn.Module) -> None:
    """Let every parameter have memory, whatever is in it: the case has values for all of them."""
    for name, buffer in model.named_buffers():
        assert not buffer.is_meta, f"{name} is made without values, and a case may have none either"
    given: dict[nn.Parameter, nn.Parameter] = {}  # one that has two places stays one
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if parameter.is_meta:
                memory = torch.empty_like(parameter, device="cpu")
                given.setdefault(parameter, nn.Parameter(memory, parameter.requires_grad))
                setattr(module, name, given[parameter])


def _check_names(case: Case, adapter: Adapter) -> list[Row]:
    with torch.device("meta"):  # names and shapes need no memory
        model = adapter.build(case)
    assert isinstance(model, ReferringSegmenter)
    skipped = _skipped_rows(case, adapter)
    left_out = {row.name for row in skipped}
    rows = skipped + [row for row in compare_names(_shapes(model), case) if row.name not in left_out]
    return rows + _check_counts(case, adapter, count_parameters(model))


def _check_part(case: Case, adapter: Adapter) -> list[Row]:
    torch.manual_seed(0)
    with _Undrawn() if case.part == "model" else nullcontext():  # the case has every entry of a complete model
        model = adapter.build(case).eval()
    _given_memory(model)
    rows = fill_model(model, case, adapter)
    if not all(row.passed for row in rows):
        return rows  # results of an incompletely filled model are not worth comparing
    counted = None if isinstance(model, Part) and case.part != "model" else count_parameters(model)
    for name in model.inert_parameters():  # to check that they really get no gradient
        model.get_parameter(name).requires_grad_(True)
    has_gradients = bool(case.meta.get("gradients"))
    recorded = case.meta["gradients"]["values"] if has_gradients else {}
    differentiable = {n: b for n, b in _official_buffers(model).items() if n in adapter.buffers and n in recorded}
    for buffer in differentiable.values():
        buffer.requires_grad_(True)
    with torch.set_grad_enabled(has_gradients or bool(case.names("gradient"))):
        computed = adapter.parts[case.part](model, case)
    if computed.objective is not None and computed.objective.requires_grad:
        computed.objective.backward()
    tensors = computed.tensors | {name: leaf.grad for name, leaf in computed.leaves.items()}
    rows = [row for row in rows if row.kind == "skipped"] + [
        compare_tensor(case, name, tensors.get(name), adapter.flips)
        for role in ("output", "loss", "gradient")
        for name in case.names(role)
    ]
    t = case.tolerance
    for name, expected in _flat(case.meta.get("losses", {})).items():
        rows.append(compare_number("loss", name, computed.losses.get(name), expected, t.rtol, t.atol))
    if has_gradients and computed.objective is not None:
        rows += _check_gradients(case, adapter, _official_parameters(model) | differentiable)
    elif has_gradients:
        rows.append(Row("gradient", "all", None, None, None, False, "the part has no objective"))
    return rows if counted is None else rows + _check_counts(case, adapter, counted)


def fill_model(model: Runnable, case: Case, adapter: Adapter) -> list[Row]:
    """Set the model's tensors from the case's official entries; return a row for every name without a counterpart.

    Entries are generated one at a time: a full-size case has gigabytes of them.

    A case of a part may lack entries of the rest of the model; a case of the complete model may not.
    """
    names = _names(model)
    state = model.state_dict()
    rows = []
    by_official = {official: ours for ours, official in names.items()}
    filled = set()
    places = {theirs: state[ours] for theirs, ours in by_official.items()}
    for official, values in case.weights(lambda name: not adapter.is_skipped(name), places.get):
        filled.add(official)
        ours = by_official.get(official)
        if ours is None:
            rows.append(Row("name", official, tuple(values.shape), None, None, False, "missing in ours"))
        elif state[ours].shape != values.shape:
            note = f"our shape is {tuple(state[ours].shape)}"
            rows.append(Row("name", official, tuple(values.shape), None, None, False, note))
        else:
            if state[ours].data_ptr() != values.data_ptr():
                state[ours].copy_(values)
    if case.part == "model":
        for ours, official in names.items():
            if official not in filled:
                rows.append(Row("name", official, tuple(state[ours].shape), None, None, False, "not in the case"))
    return rows + _skipped_rows(case, adapter)


def _skipped_rows(case: Case, adapter: Adapter) -> list[Row]:
    return [
        Row("skipped", name, tuple(record["shape"]), None, None, True, f"has no place in ours: {reason}")
        for name, record in case.keys.items()
        if (reason := adapter.why_skipped(name)) is not None
    ]


def _check_gradients(case: Case, adapter: Adapter, tensors: Mapping[str, Tensor]) -> list[Row]:
    recorded, tolerance = case.meta["gradients"], case.tolerance
    measure = {"l2": lambda g: g.norm(), "abs_sum": lambda g: g.abs().sum()}[recorded["norm"]]
    ours: dict[str, float | None] = {}
    for name, tensor in tensors.items():
        if tensor.requires_grad:
            gradient = tensor.grad
            ours[name] = None if gradient is None else float(measure(gradient.to(torch.float64)))
    rows = [
        compare_number("gradient", name, ours.get(name), expected, tolerance.grad_rtol, tolerance.grad_atol)
        for name, expected in recorded["values"].items()
    ]
    got = {name for name, value in ours.items() if value is not None}
    rows.append(compare_lists("that get a gradient", got, {n for n, v in recorded["values"].items() if v is not None}))
    if "trainable_without_gradient" in case.meta:
        listed = set(case.meta["trainable_without_gradient"]) - set(adapter.buffers)
        rows.append(compare_lists("trainable without gradient", set(ours) - got, listed))
    if "trainable_with_zero_gradient" in case.meta:
        zero = {name for name, value in ours.items() if value == 0}
        rows.append(compare_lists("trainable with zero gradient", zero, case.meta["trainable_with_zero_gradient"]))
    return rows


def _check_counts(case: Case, adapter: Adapter, counted: ParameterCount) -> list[Row]:
    expected = case.meta.get("parameters") or {}
    listed = [name for name in adapter.buffers if name in case.keys]
    rows = [
        Row("skipped", name, tuple(case.keys[name]["shape"]), None, None, True, "a buffer of ours: not counted")
        for name in listed
        if expected
    ]
    sizes = {name: int(torch.Size(case.keys[name]["shape"]).numel()) for name in listed}
    trainable = sum(n for name, n in sizes.items() if adapter.buffers[name])
    unused = sum(
        math.prod(record["shape"])
        for name, record in case.keys.items()
        if adapter.is_skipped(name) and not adapter.is_alias(name)
    )
    for name, ours, less in (
        ("total", counted.total, sum(sizes.values()) + unused),
        ("trainable", counted.trainable, trainable + unused),
    ):
        if expected.get(name) is not None:
            rows.append(compare_number("count", f"{name} parameters", ours, expected[name] - less, 0, 0))
    return rows


def _names(model: Runnable) -> dict[str, str]:
    """Return our name -> official name."""
    if isinstance(model, Part):
        return {name: model.official(name) for name in model.state_dict()}
    return official_names(model)


def _shapes(model: Runnable) -> dict[str, tuple[int, ...]]:
    state = model.state_dict()
    return {official: tuple(state[ours].shape) for ours, official in _names(model).items()}


def _official_parameters(model: Runnable) -> dict[str, nn.Parameter]:
    names = _names(model)
    return {names[name]: parameter for name, parameter in model.named_parameters()}


def _official_buffers(model: Runnable) -> dict[str, Tensor]:
    names = _names(model)
    return {names[name]: buffer for name, buffer in model.named_buffers() if name in names}


def _flat(losses: Mapping[str, Any]) -> dict[str, float | None]:
    """Return numbers by name; those of a group by ``group.name``."""
    out: dict[str, float | None] = {}
    for name, value in losses.items():
        out |= {f"{name}.{inner}": v for inner, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return out
