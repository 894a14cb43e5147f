"""Options that a suite or a sweep must not set: those of its runner, and those without a complete result. No torch.

An option has many spellings (``ckpt_path``, ``--ckpt_path``, ``ckpt_path=x``, ``model.protocol`` for
``model.init_args.protocol``, ``trainer: {logger: …}``, a section as text); all of them are treated alike here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

SUITE = {
    "seed_everything": "seeds",
    "data.seed": "seeds",
    "data.root": "`--root NAME=FOLDER` of the runner: paths of data are not part of a suite",
    "model.protocol": "protocol",
    "trainer.logger": "nothing: every job has its own folder",
    "trainer.default_root_dir": "nothing: every job has its own folder",
    "trainer.enable_progress_bar": "nothing: a job writes to its log",
    "config": "configs",
}
"""Settings that a suite must not make, without ``init_args`` in their names -> what makes them."""

SWEEP = {
    "trainer.logger": "nothing: every run has its own folder",
    "trainer.default_root_dir": "nothing: every run has its own folder",
    "trainer.enable_progress_bar": "nothing: a run writes to its log",
}
"""The same for a sweep."""

_RUN = {
    "ckpt_path": "nothing: earlier training is not part of a result, and a job resumes by itself",
    "resume": "nothing: a job resumes by itself",
    "untrained": "nothing: a result is that of a trained model",
}
_SECTIONS = ("trainer", "model", "data")
_SAVED = ("resume_point", "weights_only")
"""Further settings in the configuration saved by a training; they have no effect in a job."""
_SHARES = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches")
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_][\w-]*)*")


def option_fault(name: str, value: Any, reserved: Mapping[str, str], allowed: Collection[str] = ()) -> str:
    """Return why an option is refused; empty if it is not.

    Args:
        name: as in ``rrsis fit --NAME VALUE``, in any of its spellings.
        value: plain; a text is in the form for the command line, and may be YAML.
        reserved: `SUITE` or `SWEEP`.
        allowed: settings of the trainer that are accepted although they reduce the training.
    """
    bare = name.removesuffix("+")
    if not _NAME.fullmatch(bare):
        return f"{name!r} is not the name of an option: write it without dashes and value, like trainer.max_epochs"
    if isinstance(value, str) and value.startswith("--"):
        return f"{name} has the value {value!r}, which a command line takes for another option"
    trainer: dict[str, Any] = {}
    for part, one in _flat(bare, value):
        for known, setter in {**_RUN, **reserved}.items():
            if part == known or part.startswith(f"{known}."):
                where = name if _flattened(bare) == part else f"{part} (in {name})"
                return f"{where} cannot be set here; what sets it is {setter}"
        section, _, rest = part.partition(".")
        if section not in _SECTIONS and section not in ("seed_everything", "config"):
            return f"{name} cannot be set here: it is not a setting of trainer, model or data"
        if part in _SECTIONS and not (part == "model" and isinstance(one, str) and re.fullmatch(r"(\w+\.)*\w+", one)):
            return f"{name} must be NAME: VALUE pairs, got {one!r}"
        if section == "trainer":
            trainer[rest] = one
    return settings_fault({n: v for n, v in trainer.items() if n not in allowed})


def settings_fault(trainer: Mapping[str, Any]) -> str:
    """Return the trainer's setting that prevents training or scores only a part; empty if there is none."""
    for name, bad in (
        ("fast_dev_run", bool),
        ("barebones", bool),
        ("overfit_batches", bool),
        ("enable_checkpointing", lambda value: value is False),
        ("max_epochs", _is_zero),
        ("max_steps", _is_zero),
        *((share, _is_part) for share in _SHARES),
    ):
        if name in trainer and bad(trainer[name]):
            return f"trainer.{name} {trainer[name]!r} gives no result of a complete training and test: leave it out"
    return ""


def file_fault(path: Path, content: Any) -> str:
    """Return what a configuration file sets besides trainer, model, data and seed; empty if nothing.

    Args:
        path: of the file, for the message.
        content: its values.
    """
    if not isinstance(content, dict):
        return ""
    for name, value in content.items():
        if name not in (*_SECTIONS, "seed_everything", *_SAVED) and value not in (None, False):
            setter = f"; what sets it is {_RUN[name]}" if name in _RUN else ""
            return f"{path} sets {name}, which cannot be set here{setter}"
    return ""


def options_of(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield name and value of the options on a command line, both ``--name=value`` and ``--name value``."""
    for i, word in enumerate(words):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            follows = words[i + 1] if i + 1 < len(words) and not words[i + 1].startswith("--") else ""
            yield name, value if equals else follows


def _flat(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    """Yield all settings that an option makes, in the shortest spelling of their names."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from _flat(f"{name}.{key}", one)
    else:
        yield _flattened(name), value


def _flattened(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in ("init_args", "dict_kwargs"))


def _parsed(text: str) -> Any:
    """Return the value of a text on a command line."""
    if len(text) > 10_000 or "*" in text:  # neither is a setting; an alias could expand to much more
        return text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def _is_zero(value: Any) -> bool:
    return value == 0 and not isinstance(value, bool)


def _is_part(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and value == 1.0)
