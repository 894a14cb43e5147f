import numpy as np
import pytest
import torch
from PIL import Image

import rrsis_zoo
from rrsis_zoo.errors import ConfigError, DataFormatError
from rrsis_zoo.methods.registry import list_models

TEXTS = ["the red square", "the large storage tank in the upper right corner of the image"]


def image(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=list_models())
def model(request):
    torch.manual_seed(0)
    model = rrsis_zoo.load_model(request.param, preset="tiny", weights="none")
    model.fit_tokenizer(TEXTS * 10)
    return model


def test_every_form_of_an_image_gives_the_same(model, tmp_path):
    array = image(70, 90)
    Image.fromarray(array).save(tmp_path / "image.png")
    forms = [
        array,
        str(tmp_path / "image.png"),
        tmp_path / "image.png",
        Image.fromarray(array),
        torch.from_numpy(array).permute(2, 0, 1),
        Image.fromarray(np.dstack([array, np.full(array.shape[:2], 9, np.uint8)])),
    ]
    results = [rrsis_zoo.segment(model, form, TEXTS) for form in forms]
    first = results[0]
    assert first.masks.shape == first.probabilities.shape == (2, 70, 90)
    assert first.masks.dtype == np.bool_
    assert first.heatmaps.ndim == 3
    assert np.array_equal(first.masks, first.probabilities > 0.5)
    for other in results[1:]:
        assert np.array_equal(first.probabilities, other.probabilities)


def test_sentences_do_not_see_each_other_and_the_image_is_encoded_once(model, monkeypatch):
    array = image(64, 64)
    together = rrsis_zoo.segment(model, array, TEXTS)
    for i, text in enumerate(TEXTS):
        alone = rrsis_zoo.segment(model, array, text)
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[i], atol=1e-4)
    calls = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda views, sizes: (calls.append(len(sizes)), encode(views, sizes))[1])
    rrsis_zoo.segment(model, array, TEXTS * 3)
    assert calls == [1]


def test_what_is_no_image_is_named(model, tmp_path):
    for wrong, said in [
        (np.full((8, 8, 3), np.nan), r"float64 \(8, 8, 3\)"),
        (np.zeros((8, 8, 4), np.uint8), r"uint8 \(8, 8, 4\)"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"uint8 \(8, 8, 3\)"),
        (5, "got int"),
    ]:
        with pytest.raises(ConfigError, match=said):
            rrsis_zoo.segment(model, wrong, "ship")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataFormatError, match="8 bits per channel"):
        rrsis_zoo.segment(model, tmp_path / "deep.png", "ship")
    with pytest.raises(DataFormatError, match="missing"):
        rrsis_zoo.segment(model, tmp_path / "gone.png", "ship")
    with pytest.raises(ConfigError, match="texts is empty"):
        rrsis_zoo.segment(model, image(8, 8), [])


def test_grey_is_repeated(model):
    grey = image(40, 30)[..., 0]
    a = rrsis_zoo.segment(model, grey, "ship")
    b = rrsis_zoo.segment(model, np.repeat(grey[..., None], 3, 2), "ship")
    assert np.array_equal(a.probabilities, b.probabilities)


def test_a_result_says_what_it_is_of(model):
    array = image(70, 90)
    result = rrsis_zoo.segment(model, array, TEXTS)
    assert result.texts == tuple(TEXTS)
    assert np.array_equal(result.image, array)
    assert result.presence is None
    for mask, probabilities, score in zip(result.masks, result.probabilities, result.scores, strict=True):
        if mask.any():
            assert score == pytest.approx(probabilities[mask].mean(dtype=np.float64))
        else:
            assert np.isnan(score)


def test_a_threshold(model):
    array = image(40, 30)
    plain = rrsis_zoo.segment(model, array, TEXTS)
    middle = float(np.median(plain.probabilities))
    other = rrsis_zoo.segment(model, array, TEXTS, threshold=middle)
    assert np.array_equal(other.probabilities, plain.probabilities)
    assert np.array_equal(other.masks, plain.probabilities > middle)
    assert other.masks.any()
    assert not other.masks.all()
    for wrong in (0, 1, -0.5, float("nan")):
        with pytest.raises(ConfigError, match="threshold must be between 0 and 1"):
            rrsis_zoo.segment(model, array, TEXTS, threshold=wrong)
