import numpy as np
import pytest
import torch

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.synthetic.write import make_synthetic
from rrsis_zoo.diagnosis.collect import Plan, collect
from rrsis_zoo.diagnosis.known import contents_of
from rrsis_zoo.diagnosis.probes import PROBES
from rrsis_zoo.diagnosis.stock import open_stock
from rrsis_zoo.loading import load_model


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "synthetic"
    make_synthetic(root, scenes=12, splits=(1, 3, 8), processes=1)
    return root


@pytest.fixture(scope="session")
def data(scenes):
    data = RRSISDataModule("synthetic", str(scenes), num_workers=0)
    data.setup("test")
    return data


@pytest.fixture(scope="session")
def model():
    return load_model("mini:rsrefseg")


@pytest.fixture(scope="session")
def collected(model, data):
    """The whole diagnosis of eight scenes by the miniature of RSRefSeg."""
    records = data.records("test")
    plan = Plan(probes=tuple(PROBES), stock=open_stock("mini:sam", torch.device("cpu")), best=2)
    return collect(model, data.batches(records), records, contents_of(data, "test"), plan)


class PerfectStock:
    """Returns the box that it is prompted with, the pixel, or the sign of the map."""

    source = "a stub"

    def encode(self, image):
        return (image[None].float(),)

    def by_boxes(self, image, boxes, size):
        masks = [torch.zeros(size, dtype=torch.bool) for _ in boxes]
        for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
            mask[top:bottom, left:right] = True
        return masks

    def by_points(self, image, points, size):
        return self.by_boxes(image, [(y, x, y + 1, x + 1) for y, x in points], size)

    def by_masks(self, image, logits, size):
        return [one > 0 for one in logits]


@pytest.fixture(scope="session")
def perfect_stock():
    return PerfectStock()


@pytest.fixture
def rng():
    return np.random.default_rng(0)
