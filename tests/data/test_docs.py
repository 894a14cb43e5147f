"""The pages say what the code does: counts, sources, commands, options."""

import argparse
import inspect
import re
import shlex
from pathlib import Path

import pytest
import yaml

from rrsis_zoo.commands import data as command
from rrsis_zoo.data.cards import REFSEGRS, RISBENCH, RRSIS_D
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.layouts import LAYOUTS
from rrsis_zoo.data.sources import SOURCES
from rrsis_zoo.data.synthetic import CATEGORIES
from rrsis_zoo.data.transforms import AUGMENTATIONS

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs/datasets").glob("*.md")}


def test_a_page_for_every_dataset():
    assert set(PAGES) == {"README", *SOURCES}


CARDS = [source.card for source in SOURCES.values() if source.card is not None]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_page_has_what_the_card_has(card):
    page, index = PAGES[card.name], PAGES["README"]
    for number in card.counts.values():
        assert f"{number:,}" in page
    if card.counts:
        what = "images" if card.name == "earthreason" else "expressions"  # a question an image
        assert f"{sum(card.counts.values()):,} {what}" in page
        assert " / ".join(f"{number:,}" for number in card.counts.values()) in index
    for address in re.findall(r"(?:github\.com|huggingface\.co)/[\w/.-]+\w", card.source):
        assert address in page
    number = re.search(r"arXiv (\d+\.\d+)|(10\.\d+/[\w.]+)|(Remote Sensing [\d()]+)", card.paper)
    assert number is not None
    assert next(filter(None, number.groups())) in page
    assert f"rrsis data verify --dataset {card.name}" in page


@pytest.mark.parametrize("card", [card for card in CARDS if card not in (REFSEGRS, RRSIS_D, RISBENCH)])
def test_page_says_that_nobody_has_seen_the_files(card):
    page = " ".join(PAGES[card.name].split())
    assert "Nobody here has opened the published files" in page or "**The layout is unverified.**" in page
    assert ("layout unverified" in card.layout) == ("**The layout is unverified.**" in page)


def test_every_layout_is_named():
    assert set(LAYOUTS) == {name for name in SOURCES if name not in ("folder", "synthetic")}
    listed = PAGES["folder"][PAGES["folder"].index("--layout` takes") :]
    assert set(LAYOUTS) == set(
        re.findall(r"`([\w-]+)`", listed[len("--layout` takes") : listed.index("Images become")])
    )


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_understood(page):
    for block in re.findall(r"```sh\n(.*?)```", PAGES[page], flags=re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line)
            assert words[0] == "rrsis"
            if words[1] != "data":
                continue
            parser = argparse.ArgumentParser(exit_on_error=False)
            command._COMMANDS[words[2]][1](parser)
            parser.parse_args(words[3:])


def test_options_and_augmentations_are_the_real_ones():
    table = re.findall(r"^\|[^|]*\|[^|]*\| `(\w+)`: `", PAGES["README"], flags=re.MULTILINE)
    assert len(table) >= 7
    for name in table:
        assert name in inspect.signature(RRSISDataModule).parameters
    assert set(re.findall(r"^\* `(\w+)`(?:, `(\w+)`)?:", PAGES["README"], flags=re.MULTILINE)) == {
        ("random_boxes", ""),
        ("photometric", ""),
        ("crops", ""),
        ("flips", "rotations"),
    }
    assert {"random_boxes", "photometric", "crops", "flips", "rotations"} == set(AUGMENTATIONS)
    assert f"{len(CATEGORIES)}, labelled |" in PAGES["README"]


@pytest.mark.parametrize("dataset", SOURCES)
def test_overlay_sets_every_key_that_depends_on_the_dataset(dataset):
    overlay = yaml.safe_load((ROOT / f"configs/overlays/{dataset.replace('-', '_')}.yaml").read_text())["data"]
    keys = {"dataset", "root", "augment", *(name for source in SOURCES.values() for name in source.options)}
    assert set(overlay) == keys - {"drop_empty", "drop_no_target"}  # no dataset's, the user's choice
    assert overlay["dataset"] == dataset
    assert Path(overlay["root"]) == SOURCES[dataset].default_root
    RRSISDataModule(**overlay)
