"""``rrsis models``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rrsis_zoo.commands.arguments import Arguments
from rrsis_zoo.commands.fetch import Download, fetch, hub_download, wanted
from rrsis_zoo.commands.plugin_options import add_plugin
from rrsis_zoo.leakage.ledger import shipped
from rrsis_zoo.leakage.text import base_text, evidence_text, seen
from rrsis_zoo.methods.registry import methods
from rrsis_zoo.models.card import MethodCard
from rrsis_zoo.weights.catalogue import REPOSITORIES, size_text
from rrsis_zoo.weights.sources import HubSource, parse_source


def run_models(arguments: Sequence[str], download: Download = hub_download) -> int:
    """List the methods, or download what one needs; imports no torch."""
    parser = Arguments("rrsis models", description="List methods with their sizes, licences and weight sources.")
    parser.add_argument("--json", action="store_true", help="print the cards as JSON")
    commands = parser.add_subparsers(dest="command", metavar="")
    one = commands.add_parser("fetch", help="download what a method, a release or a config needs")
    one.add_argument("name", help="METHOD, METHOD/RELEASE (the authors' trained weights) or a config file")
    one.add_argument("--preset", help="with a method: its preset; default: the paper's")
    for known in (parser, one):
        add_plugin(known)
    options = parser.parse_args(arguments)
    if options.command == "fetch":
        return _fetch(options.name, options.preset, download)
    if options.json:
        print(json.dumps({name: _plain(known.card) for name, known in methods().items()}, indent=1))
    else:
        print("\n\n".join(card_text(known.card) for known in methods().values()))
    return 0


def _plain(card: MethodCard) -> dict[str, Any]:
    """Return a card as plain values, with what each release has seen."""
    ledger = shipped()
    leakage = {
        release.name: [
            {
                "dataset": found.test.dataset,
                "split": found.test.split,
                "level": found.level,
                "certainty": found.certainty,
                "evidence": evidence_text(found),
            }
            for found in seen(ledger, f"{card.name}/{release.name}")
        ]
        for release in card.releases
    }
    return {**asdict(card), "leakage": leakage}


def card_text(card: MethodCard) -> str:
    """Return a card for the terminal."""
    lines = [card.title, f"paper: {card.paper}", f"code: {card.code_licence}{f', {card.code}' if card.code else ''}"]
    lines.append(f"weights: {card.weights_licence}")
    for name, preset in card.presets.items():
        trained = "" if preset.trained == preset.parameters else f" ({preset.trained / 1e6:,.1f} M trained)"
        lines.append(
            f"preset {name}: {preset.parameters / 1e6:,.1f} M parameters{trained}{_starts_from(card, preset.weights)}"
        )
    for release in card.releases:
        source = parse_source(release.source)
        known = REPOSITORIES.get(source.repo) if isinstance(source, HubSource) else None
        size = f", {size_text(known.bytes)}" if known else ""
        place = f"{release.source}:{release.files[0]}"
        lines.append(
            f"release {release.name}: {release.dataset}, preset {release.preset}{size}, {place}, "
            f"licence: {release.licence}\n  has seen: {_has_seen(f'{card.name}/{release.name}')}"
        )
    return "\n".join([card.name, *(textwrap.indent(line, "  ") for line in lines)])


def _has_seen(weights: str) -> str:
    """Return what released weights have seen, in one line; docs/leakage.md has the evidence."""
    found = [f"{f.test} ({f.level})" for f in seen(shipped(), weights)]
    return ", ".join([*found, "any other split: unknown"])


def _starts_from(card: MethodCard, weights: object) -> str:
    assert isinstance(weights, dict)
    ledger = shipped()
    if not weights:
        return ", random weights, no download"
    parts = []
    for role, text in weights.items():
        source = parse_source(text)
        known = REPOSITORIES.get(source.repo) if isinstance(source, HubSource) else None
        said_to_be = card.foundations[role].base if role in card.foundations else ""
        base = ledger.bases.get(ledger.named(text) or said_to_be)
        parts.append(
            f"\n  {role}: {text}{f' ({known.what}, {size_text(known.bytes)}, {known.licence})' if known else ''}"
            f"{f', saw {base_text(base)}' if base else ''}"
        )
    return "".join(parts)


def _fetch(name: str, preset: str | None, download: Download) -> int:
    needs = wanted(name, preset)
    for need in needs:
        size = f" ({size_text(need.bytes)}); {need.known.terms}" if need.bytes and need.known else ""
        print(f"{need.what}: {need.place}{size}", flush=True)
        for path in fetch([need], download):
            print(f"  {path}", flush=True)
    if not needs:
        print(f"{name} needs nothing from the hub")
    return 0
