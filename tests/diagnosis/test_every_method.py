"""The ladder of every method, on tiny random models and a stock segmenter that echoes its prompt."""

import numpy as np
import pytest
import torch

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.synthetic import make_synthetic
from rrsis_zoo.data.synthetic.contents import read_contents
from rrsis_zoo.diagnosis.collect import Plan, collect
from rrsis_zoo.diagnosis.probes import PROBES
from rrsis_zoo.methods.registry import list_models, method_named


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "synthetic"
    make_synthetic(root, scenes=8, size=64, splits=(1, 1, 6), processes=1)
    module = RRSISDataModule(dataset="synthetic", root=str(root), eval_batch_size=6, num_workers=0)
    module.setup("test")
    return module, read_contents(root)


@pytest.fixture(scope="module", params=list_models())
def diagnosed(request, data, perfect_stock):
    module, contents = data
    torch.manual_seed(0)
    model = method_named(request.param).model().from_preset("tiny").eval()
    records = module.records("test")
    model.fit_tokenizer([record.expression for record in records])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    plan = Plan(probes=tuple(PROBES), stock=perfect_stock, best=6)
    found = collect(model, module.test_dataloader(), records, contents, plan)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert trained == [name for name, p in model.named_parameters() if p.requires_grad]
    return request.param, found, {record.sample_id: record for record in records}


def test_the_truths_box_scores_what_the_box_scores(diagnosed):
    _, found, records = diagnosed
    for line in found.lines:
        truth = records[line.sample_id].mask.decode()
        rows, columns = np.nonzero(truth)
        area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert line.rungs["truth_box"].iou(line.truth) == pytest.approx(truth.sum() / area, abs=1e-12)
        point = line.rungs["truth_point"]
        assert (point.intersection, point.predicted) == (1, 1)  # the innermost pixel is one of its own


def test_best_prompts_are_never_below_the_own(diagnosed):
    name, found, _ = diagnosed
    asked = [line for line in found.lines if "best_prompts" in line.rungs]
    if method_named(name).model().seam.best:
        assert not asked
        assert "best_prompts" in found.missing
        return
    assert len(asked) == 6  # one sentence a scene, of different lengths
    for line in asked:
        assert line.rungs["best_prompts"].iou(line.truth) >= line.iou
        assert (line.best_step == 0) == (line.rungs["best_prompts"] == line.rungs["own"])
    assert any(line.rungs["best_prompts"].iou(line.truth) > line.iou for line in asked)


def test_a_rung_is_there_or_has_a_reason(diagnosed):
    name, found, _ = diagnosed
    wanted = {"own", "mask_box", "truth_box", "truth_point"}
    seam = {"heat_point", "heat_box", "heat_mask", "truth_dense"}
    for line in found.lines:
        assert wanted <= line.rungs.keys()
        assert line.rungs.keys() & seam == seam - found.missing.keys()
    assert all(found.missing.values())
    assert (seam <= found.missing.keys()) == bool(method_named(name).model().seam.heat)


def test_changed_sentences_have_what_the_oracle_says(diagnosed):
    _, found, _ = diagnosed
    probes = [probe for line in found.lines for probe in line.probes]
    assert {"shuffle", "blind"} <= {probe.probe for probe in probes}
    for probe in probes:
        assert (probe.object is not None) == (probe.meant in ("one", "same"))
        assert (probe.truth == 0) == (probe.meant == "none")
