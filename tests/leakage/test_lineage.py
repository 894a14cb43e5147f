"""The record of what a model is made from, and where it comes from."""

import json

import pytest

from rrsis_zoo.errors import MissingWeightsError, WeightsMismatchError
from rrsis_zoo.leakage.ledger import Part, shipped
from rrsis_zoo.leakage.lineage import Lineage, Start, Trained, finding, published_finding
from rrsis_zoo.leakage.text import made_from
from rrsis_zoo.methods.registry import card
from rrsis_zoo.pretrained.lineage import lineage_of, lineage_of_saved, public_name
from rrsis_zoo.weights.checkpoints import Saved
from rrsis_zoo.weights.training import lineage_of_record, trained_on


def level(lineage, dataset, split):
    return finding(shipped(), lineage, Part(dataset, split)).level


def test_a_training_from_foundation_models():
    weights = {"sam": "hub:facebook/sam2-hiera-large", "beit3": "local:/home/somebody/weights/beit3"}
    lineage = lineage_of(weights, card("rs2sam2")).then(trained_on("rrsis-d", "rrsis-d", "val"))
    assert "somebody" not in json.dumps(lineage.plain())
    assert [(start.source, start.base) for start in lineage.starts] == [
        ("hub:facebook/sam2-hiera-large", "sam2"),
        ("local:beit3", "beit3"),
    ]
    assert level(lineage, "rrsis-d", "train") == "targets"
    assert level(lineage, "RRSIS-D", "val") == "selection"
    assert level(lineage, "rrsis-d", "test") == "unknown"
    assert level(lineage, "risbench", "test") == "pool"
    assert Lineage.model_validate(lineage.plain()) == lineage
    assert lineage.then(trained_on("rrsis-d", "rrsis-d", "val")) == lineage  # resumed
    said = made_from(shipped(), lineage)
    assert said[1] == "starts from local:beit3: ImageNet-21k, pairs from the web, text (aerial images: not known)"
    assert said[2] == "trained on rrsis-d, split train; checkpoints are chosen on val"


def test_miniatures_on_scenes_drawn_here_are_clean():
    """Whatever their folder is called."""
    for weights in ({"sam": "mini:sam2", "siglip": "mini:siglip"}, None, "none", "mini:rsrefseg2"):
        lineage = lineage_of(weights, card("rsrefseg2")).then(trained_on("synthetic", "my harbours", "val"))
        assert level(lineage, "synthetic", "test") == "clean"
        assert level(lineage, "synthetic", "val") == "selection"
        assert level(lineage, "synthetic", "train") == "targets"
        assert level(lineage, "my harbours", "test") == "clean"  # scenes drawn here touch no other pictures
    assert level(Lineage(unrecorded=["anything"]), "synthetic", "test") == "clean"


def test_your_own_data():
    lineage = lineage_of({"backbone": "hub:timm/resnet34.a1_in1k"}, card("control"))
    lineage = lineage.then(trained_on("rrsis-d", "harbour", "val"))
    levels = {split: level(lineage, "harbour", split) for split in ("train", "val", "test")}
    assert levels == {"train": "targets", "val": "selection", "test": "unknown"}


def test_released_weights(tmp_path):
    facts = card("rsrefseg2")
    for name, released in (("rrsisd.pth", ["rsrefseg2/rrsisd"]), ("of_mine.pth", [])):
        import torch

        torch.save({"state_dict": {}}, tmp_path / name)
        lineage = lineage_of(f"local:{tmp_path / name}", facts)
        assert lineage.releases == released
        assert lineage.unrecorded == ([] if released else [f"local:{name}"])
        assert level(lineage, "rrsis-d", "test") == ("selection" if released else "unknown")
    with pytest.raises(MissingWeightsError):
        lineage_of(f"local:{tmp_path / 'lost.pth'}", facts)
    assert public_name("hub:a/b@c:d") == "hub:a/b@c:d"


def saved(training=None, **meta):
    return Saved("a model", {"model": "rsrefseg2", **meta}, dict, steady=True, training=training)


def test_a_model_in_a_folder():
    facts, source = card("rsrefseg2"), "local:/home/somebody/mine"
    whole = Lineage(starts=[Start(source="mini:sam2")], trainings=[Trained(dataset="x", split="train")])
    record = {"precision": "32-true", "step": 1, "lineage": whole.plain()}
    assert lineage_of_saved(saved(record), facts, source) == whole
    provenance = {"source": "hub:KyanChen/RSRefSeg2:risbench.pth", "release": None}
    assert lineage_of_saved(saved(provenance=provenance), facts, source).releases == ["rsrefseg2/risbench"]
    named = {"source": "a.pth", "release": "refsegrs"}
    assert lineage_of_saved(saved(provenance=named), facts, source).releases == ["rsrefseg2/refsegrs"]
    strange = {"source": "a.pth", "release": None}
    assert lineage_of_saved(saved(provenance=strange), facts, source).unrecorded == ["a.pth"]
    without = lineage_of_saved(saved(foundations={"sources": {"sam": "hub:facebook/sam2.1-hiera-tiny"}}), facts, source)
    assert (without.starts[0].base, without.unrecorded) == ("sam2", ["the training of local:mine"])
    assert lineage_of_saved(saved(), facts, source).unrecorded == ["the training of local:mine"]
    with pytest.raises(WeightsMismatchError, match="lineage"):
        lineage_of_saved(saved({**record, "lineage": {"starts": [{"source": 3}]}}), facts, source)


def test_records_of_earlier_versions():
    """They say what was trained on, and not what it started from."""
    record = {
        "data": {"name": "rrsis-d", "published": True, "train": 1, "val": 1},
        "settings": {"fit_eval_split": "train"},
    }
    lineage = lineage_of_record(record)
    assert lineage.trainings == [Trained(dataset="rrsis-d", split="train", selected_on="train")]
    assert level(lineage, "rrsis-d", "test") == "unknown"
    assert level(lineage, "risbench", "test") == "pool"
    assert lineage_of_record({"data": None}).trainings == []
    drawn = lineage_of_record({**record, "settings": {"dataset": "synthetic"}})
    assert drawn.trainings == [Trained(dataset="synthetic", split="train", selected_on="val")]
    assert level(drawn, "synthetic", "test") == "clean"


def test_published_results():
    def found(method, dataset, split):
        return published_finding(shipped(), method, dataset, split).level

    assert found("RSRefSeg 2", "RefSegRS", "test") == "selection"
    assert found("LGCE", "RefSegRS", "test") == "selection"
    assert found("RS2-SAM2", "RRSIS-D", "val") == found("RMSIN", "RRSIS-D", "val") == "selection"
    assert (
        found("RS2-SAM2", "RRSIS-D", "test")
        == found("RMSIN (re-run by FIANet authors)", "RRSIS-D", "test")
        == "unknown"
    )
