"""A desk with two models of random weights: what they find is noise, but must be the same noise everywhere."""

import pytest
import torch
from asked import TEXTS, counted

import rrsis_zoo
from rrsis_zoo.demo.answers import Desk


@pytest.fixture(scope="package")
def folders(tmp_path_factory):
    """Two saved models, as a user has them."""
    places = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        model = rrsis_zoo.load_model("control", preset="tiny", weights="none")
        model.fit_tokenizer(TEXTS * 10)
        places.append(str(tmp_path_factory.mktemp("model") / f"control{seed}"))
        model.save_pretrained(places[-1])
    return places


@pytest.fixture
def desk(folders):
    return Desk(folders)


@pytest.fixture
def encodings(desk, folders):
    """The models of all pictures that were encoded, in order."""
    return counted(desk, folders)
