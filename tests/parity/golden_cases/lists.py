"""Files with a list of cases of a function of texts: one row for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from golden_cases.report import Report, Row
from rrsis_zoo.errors import DataFormatError, MissingWeightsError
from rrsis_zoo.methods.sam3_zeroshot.card import CARD as SAM3_ZEROSHOT
from rrsis_zoo.methods.sam3_zeroshot.phrases import head_noun, noun_phrase
from rrsis_zoo.methods.think2seg.replies import Instance, Unreadable, instances_of, read_objects, scaled, tidied
from rrsis_zoo.methods.think2seg.writers import DIALECTS
from rrsis_zoo.models.tokenizers import CLIPTokenizer
from rrsis_zoo.weights.sources import parse_source, resolve


def check_list(path: Path) -> Report:
    """Run all cases in a file.

    Raises:
        DataFormatError: not a file of such cases.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataFormatError(f"{path} is not valid JSON: {error}") from error
    kind = next((k for k in _KINDS if isinstance(content, Mapping) and _is(content, k)), None)
    if kind is None:
        raise DataFormatError(f"{path} has no cases of the kinds {', '.join(_KINDS)}")
    model, rows = _KINDS[kind]
    return Report(model, path.stem, rows(content))


def _is(content: Mapping[str, Any], kind: str) -> bool:
    cases = content.get("cases") or [content]
    return isinstance(cases[0], Mapping) and kind in cases[0]


def same(name: str, ours: Any, expected: Any) -> Row:
    """Compare plain values."""
    passed = ours == expected
    return Row("text", name, None, None, None, passed, "" if passed else f"ours is {ours!r}, expected {expected!r}")


def _phrases(content: Mapping[str, Any]) -> list[Row]:
    return [
        same(f"{kind} of {case['text']!r}", rule(case["text"]), case[kind])
        for case in content["cases"]
        for kind, rule in (("noun_phrase", noun_phrase), ("head_noun", head_noun))
        if kind in case
    ]


def _ids(content: Mapping[str, Any]) -> list[Row]:
    """Compare with the published vocabulary, if it is on this machine."""
    role = SAM3_ZEROSHOT.foundations["clip"]
    source = parse_source(SAM3_ZEROSHOT.presets["base"].weights["clip"])
    try:
        path = resolve(source, role.weights, role.title)
    except MissingWeightsError as error:
        return [Row("skipped", repr(c["text"]), None, None, None, True, str(error)) for c in content["cases"]]
    tokenizer = CLIPTokenizer.from_file(path, SAM3_ZEROSHOT.text.tokens if SAM3_ZEROSHOT.text else 32)
    rows = []
    for case in content["cases"]:
        ids = tokenizer.encode(case["text"])
        rows.append(same(repr(case["text"]), ids + [0] * (len(case["ids"]) - len(ids)), case["ids"]))
        if "n_untruncated" in case:
            rows.append(
                same(f"length of {case['text']!r}", tokenizer.lengths([case["text"]])[0], case["n_untruncated"])
            )
    return rows


def _replies(content: Mapping[str, Any]) -> list[Row]:
    width, height = content["frame"]
    rows = []
    for case in content["cases"]:
        name, said = case["name"], case["evaluation"]
        try:
            objects: list[dict[str, Any]] | None = read_objects(case["text"])
            instances = instances_of(objects or [])
        except Unreadable:
            objects, instances = None, []
        rows.append(same(f"{name}: objects", objects, said["instances"]))
        rows.append(same(f"{name}: failed", objects is None, case["failed"]))
        rows.append(same(f"{name}: no target", objects == [], case["no_target"]))
        if native := case.get("native"):
            h, w = native["size"]
            found = scaled(instances, w / width, h / height)
            rows.append(same(f"{name}: published", _plain(found), _filled(native["published"])))
            rows.append(same(f"{name}: tidy", _plain(tidied(found, w, h)), _filled(native["tidy"])))
    return rows


def _plain(instances: Sequence[Instance]) -> list[dict[str, Any]]:
    return [
        {
            "box": None if one.box is None else [round(v, 4) for v in one.box],
            "points": [[round(v, 4) for v in point] for point in one.points],
        }
        for one in instances
    ]


def _filled(instances: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"box": one.get("box"), "points": one.get("points") or []} for one in instances]


def _prompt(content: Mapping[str, Any]) -> list[Row]:
    dialect, example = DIALECTS["think2seg"], content["example"]
    asked = dialect.asked(f"{example['expression']}." if example["data_set"] == "RRSIS-D" else example["expression"])
    return [
        same("system", dialect.system, content["system"]),
        same("user", dialect.user, content["user_template"]),
        same("example", asked, example["user"]),
        same("sha256", hashlib.sha256(asked.encode()).hexdigest(), example["sha256"]),
    ]


_KINDS: dict[str, tuple[str, Callable[[Mapping[str, Any]], list[Row]]]] = {
    "noun_phrase": ("sam3_zeroshot", _phrases),
    "ids": ("sam3_zeroshot", _ids),
    "evaluation": ("think2seg", _replies),
    "user_template": ("think2seg", _prompt),
}
"""A field of the first case -> model, and function that runs the file."""
