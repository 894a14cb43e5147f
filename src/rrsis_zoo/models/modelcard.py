"""The card of a saved model: method, licences, origin of the weights, published results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from rrsis_zoo.escape import markdown, markdown_block, markdown_code
from rrsis_zoo.leakage.ledger import Part, shipped
from rrsis_zoo.leakage.lineage import Lineage, finding, published_finding
from rrsis_zoo.leakage.text import evidence_text, made_from, seen
from rrsis_zoo.models.card import MethodCard, Score
from rrsis_zoo.weights.training import MADE_SCENES, lineage_of_record

_COLUMNS = ("pr@0.5", "pr@0.6", "pr@0.7", "pr@0.8", "pr@0.9", "oiou", "miou")
_TITLES = ("Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9", "oIoU", "mIoU")


def model_card(
    card: MethodCard,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any] | None,
    training: Mapping[str, Any] | None = None,
) -> str:
    """Return the card as Markdown with the hub's metadata.

    Published results stand only in the card of the authors' own weights: they say nothing about any others.

    Args:
        card: of the method.
        config: its configuration as plain values.
        provenance: record of a conversion (`rrsis_zoo.pretrained.official.convert`); None for your own.
        training: record of the training (`rrsis_zoo.weights.training`); None if it is not known.
    """
    data = ModelCardData(
        library_name="rrsis-zoo",
        pipeline_tag="image-segmentation",
        tags=["referring-segmentation", "remote-sensing", card.name],
        language="en",
    )
    release = next((r for r in card.releases if provenance and r.name == provenance.get("release")), None)
    authors = provenance is not None and not provenance.get("saved_again")
    scores = [s for s in card.published if authors and (release is None or s.dataset == release.dataset)]
    lines = [
        f"---\n{data.to_yaml()}\n---",
        f"# {card.title}",
        f"Method `{card.name}` of [rrsis-zoo](https://github.com/rrsis-zoo/rrsis-zoo). Published in: {card.paper}.",
        "```python\nimport rrsis_zoo\n\n"
        'model = rrsis_zoo.load_model("local:PATH_OF_THIS_FOLDER")  # or hub:ORG/REPO\n```',
        "## Licences",
        f"* code of the authors: {card.code_licence}{f' ({card.code})' if card.code else ''}\n"
        f"* weights: {card.weights_licence}",
        "## Weights",
        _origin(provenance, training),
    ]
    if release is not None:
        lines.append(
            f"The authors' release `{release.name}`, trained on {release.dataset}; licence: {release.licence}."
        )
        lines.append(_seen(f"{card.name}/{release.name}"))
    elif provenance is None and training is not None:
        made = made_from(shipped(), lineage_of_record(training))
        lines.append("\n".join(["What the weights are made from:", "", *(f"* {markdown(line)}" for line in made)]))
    lines += ["## Configuration", markdown_block(json.dumps(config, indent=1), "json")]
    if scores:
        lines += ["## Published results", _table(card, scores)]
    elif training is not None and (measured := _measured(training)):
        lines += ["## Results", measured]
    return "\n\n".join(lines) + "\n"


def _origin(provenance: Mapping[str, Any] | None, training: Mapping[str, Any] | None) -> str:
    if provenance is None and training is not None:
        return _trained(training)
    if provenance is None:
        return "Trained or adapted by whoever shares them, with rrsis-zoo."
    # the folder, and so this record, may come from anyone
    hashes = "\n".join(
        f"* {markdown_code(str(name))}: sha256 {markdown_code(str(digest))}"
        for name, digest in provenance["sha256"].items()
    )
    dtypes = markdown(", ".join(map(str, provenance["dtypes"])))
    converter, source = markdown(str(provenance["converted_by"])), markdown_code(str(provenance["source"]))
    how = f"Converted by {converter} from the authors' file {source}"
    if provenance.get("saved_again"):
        how += ", loaded, and saved again: what was changed in between is for whoever shares this to say."
    else:
        how += f", bit for bit ({dtypes})."
    return f"{how}\n\n{hashes}\n\n{markdown_block(str(provenance['report']))}"


def _seen(weights: str) -> str:
    """Return what the ledger says that released weights have seen."""
    found = [f for f in seen(shipped(), weights) if f.level != "unknown"]
    lines = [f"* {markdown(str(f.test))}: **{f.level}**. {markdown(evidence_text(f))}" for f in found]
    return "\n".join(["What they have seen; nothing is known of any other split:", "", *lines])


def _trained(training: Mapping[str, Any]) -> str:
    """Return what was trained on, and for how long."""
    step = training["step"]
    steps = f"{step:,} optimiser step{'' if step == 1 else 's'} in precision {markdown(training['precision'])}"
    data = training.get("data")
    if data is None:
        return f"Trained with rrsis-zoo, {steps}."
    settings = training.get("settings") or {}
    layout = str(settings.get("dataset", "rrsis-d"))
    what = f"{data['train']:,} training and {data['val']:,} validation samples"
    kind = "as published" if data["published"] else f"in the layout {markdown_code(layout)}; not a published dataset"
    if layout == "synthetic":
        kind = "synthetic scenes: its scores are not comparable with any on real images"
    return f"Trained with rrsis-zoo on {markdown(data['name'])} ({what}; {kind}), {steps}."


def _measured(training: Mapping[str, Any]) -> str:
    """Return a table of the scores that belong to these weights; empty if none is known."""
    data, validation = training.get("data") or {}, training.get("validation")
    rows = [(t["dataset"], t["split"], t["protocol"], t["n"], t["metrics"]) for t in training.get("tests") or ()]
    note = ""
    if validation is not None:
        scores = validation["scores"]
        rows.insert(0, (data.get("name", "?"), validation["split"], validation["protocol"], scores.get("n"), scores))
        note = " Checkpoints are chosen on the validation split, so that its scores are too high."
    if not rows:
        return ""
    head = (
        f"| data set | split | protocol | N | {' | '.join(_TITLES)} | seen |\n"
        f"|---|---|---|---:|{'---:|' * len(_TITLES)}---|"
    )
    lineage, made = lineage_of_record(training), (training.get("settings") or {}).get("dataset") == MADE_SCENES
    lines = []
    for dataset, split, protocol, n, scores in rows:
        values = ("–" if (value := scores.get(name)) is None else f"{value:.2f}" for name in _COLUMNS)
        said = " | ".join(markdown(str(text)) for text in (dataset, split, protocol))
        level = _level(lineage, MADE_SCENES if made and dataset == data.get("name") else str(dataset), str(split))
        lines.append(f"| {said} | {'–' if n is None else f'{int(n):,}'} | {' | '.join(values)} | {level} |")
    return "\n".join([head, *lines]) + f"\n\nIn percent, measured with rrsis-zoo.{note} {_READING}"


_PAGE = "https://github.com/rrsis-zoo/rrsis-zoo/blob/main/docs/leakage.md"
_READING = f"Seen: what the weights have seen of the split, [explained here]({_PAGE})."


def _level(lineage: Lineage, dataset: str, split: str) -> str:
    return finding(shipped(), lineage, Part(dataset, split)).level


def _table(card: MethodCard, scores: list[Score]) -> str:
    head = f"| data set | split | {' | '.join(_TITLES)} | seen |\n|---|---|{'---:|' * len(_TITLES)}---|"
    rows, notes = [], []
    for score in scores:
        values = (f"{score.values[name]:.2f}" if name in score.values else "–" for name in _COLUMNS)
        found = published_finding(shipped(), card.title.partition(":")[0], score.dataset, score.split)
        rows.append(f"| {score.dataset} | {score.split} | {' | '.join(values)} | {found.level} |")
        notes.append(f"* {score.dataset}, {score.split}: {score.source}. Protocol: {score.protocol}.")
    return "\n".join([head, *rows, "", *notes, "", f"Printed elsewhere, not measured with this folder. {_READING}"])
