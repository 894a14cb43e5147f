"""The loading benchmark compares two ways to the same tensors; that they are the same is checked here."""

import importlib.util

import pytest

from rrsis_zoo.data.datamodule import RRSISDataModule


@pytest.fixture(scope="module")
def loading(request):
    path = request.config.rootpath / "benchmarks/loading.py"
    spec = importlib.util.spec_from_file_location("loading", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dataset", ["rrsis-d", "refsegrs", "risbench"])
def test_both_ways_end_at_the_same_inputs(loading, dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(loading.SETS, dataset, (loading.SETS[dataset][0], 2))
    loading.write(dataset, tmp_path / "data", 1)
    data = RRSISDataModule(dataset, str(tmp_path / "data"), num_workers=0)
    assert loading.largest_difference(data) < 1.01  # one grey level: rounding
    (inputs,) = loading.ours(data)
    assert [[tuple(view.shape) for view in views] for views in inputs] == [[(3, 1024, 1024), (3, 224, 224)]] * 2
    assert len(data.records("test")) == sum(len(one) for one in loading.published(data.records("test"))) == 2
