"""The trained miniatures that the package ships."""

import json
from collections import defaultdict
from hashlib import sha256

import numpy as np
import pytest
import yaml

import rrsis_zoo
from kinds import MINIATURES
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.synthetic import make_synthetic
from rrsis_zoo.methods.registry import card
from rrsis_zoo.weights.sources import MiniSource, trained_miniatures

SCENES = 20  # whose score the card has


def entries(name):
    return json.loads((MiniSource(name).folder / "card.json").read_text())


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """The first scenes of the embedded suite's test split: scene -> its records."""
    root = tmp_path_factory.mktemp("scenes") / "set"
    make_synthetic(root, scenes=SCENES + 2, splits=(1, 1, SCENES), processes=1)
    scenes = defaultdict(list)
    for record in RRSISDataModule("synthetic", root=str(root)).records("test"):
        scenes[record.scene_id].append(record)
    assert len(scenes) == SCENES
    return scenes


def test_every_method_has_one():
    assert list(trained_miniatures()) == sorted(MINIATURES)
    files = [path for name in MINIATURES for path in MiniSource(name).folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 12e6


@pytest.mark.parametrize("name", MINIATURES)
def test_a_card_is_about_its_file(name, root):
    card_ = entries(name)
    assert card_["sha256"] == sha256((MiniSource(name).folder / "model.safetensors").read_bytes()).hexdigest()
    assert card_["parameters"] == card(name).presets["mini"].parameters
    assert {"made_by", "seed", "licence", "code", "training"} <= card_.keys()
    suite = yaml.safe_load((root / card_["suite"]).read_text(encoding="utf-8"))
    assert card_["seed"] in suite["seeds"]
    assert card_["job"] == f"{name}--synthetic--seed{card_['seed']}"
    low, high = card_["scores"]["miou_interval"]
    assert low < card_["scores"]["miou"] < high
    assert abs(card_["scores"]["miou"] - card_["suite_miou"]) < 0.2  # what float16 costs


@pytest.mark.parametrize("name", MINIATURES)
def test_it_scores_what_its_card_says(name, unseen):
    model = rrsis_zoo.load_model(f"mini:{name}")
    ious = []
    for records in unseen.values():
        result = rrsis_zoo.segment(model, records[0].image_path, [record.expression for record in records])
        for mask, record in zip(result.masks, records, strict=True):
            truth = record.mask.decode()
            ious.append((mask & truth).sum() / (mask | truth).sum())
    # other processors round otherwise: a pixel here and there
    assert 100 * np.mean(ious) == pytest.approx(entries(name)["scores"][f"miou_of_{SCENES}_scenes"], abs=0.2)
