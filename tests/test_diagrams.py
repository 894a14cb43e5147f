"""The diagrams of the methods are what the code draws, agree with the models, and can be read."""

import re
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from PIL import ImageFont

import diagrams
import drawing
from pictures import coarse_map, picture, smaller
from rrsis_zoo.data.synthetic import make_sample
from rrsis_zoo.methods.registry import list_models

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "figures"
METHODS = pytest.mark.parametrize("method", diagrams.DESCRIBED, ids=lambda method: method.name)

READ_BY_LOSSES_ONLY = {
    "rs2sam2": ("boundary_head.",),
    "rsrefseg2": ("logit_scale2", "logit_bias2"),
}


@cache
def published(method):
    model = diagrams.published(method)
    return model, diagrams.DESCRIBED[method](model)


def parts_of(box):
    return tuple(f"{part}." for part in box.parts.split())


# -- files -------------------------------------------------------------------------------------------------------------


def test_every_method_has_a_diagram_on_its_page():
    assert {method.name for method in diagrams.DESCRIBED} == set(list_models())
    for name in list_models():
        page = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
        assert re.match(rf"# .*\n\n!\[.{{40,}}\]\(\.\./figures/{name}\.svg\)\n\n\*[^*]+\.\*\n\n", page), name


@METHODS
def test_files_are_what_the_code_draws(method):
    model, diagram = published(method)
    drawn = drawing.draw(diagram, diagrams.states(model, diagram))
    assert (FOLDER / f"{method.name}.svg").read_text(encoding="utf-8") == drawn, "`make figures` draws them anew"


@METHODS
def test_files_are_small_and_need_no_other(method):
    text = (FOLDER / f"{method.name}.svg").read_text(encoding="utf-8")
    assert len(text) < 150_000
    assert text.replace('xmlns="http://www.w3.org/2000/svg"', "").count("://") == 0
    assert "data:" not in text
    root = ElementTree.fromstring(text)
    here = {element.get("id") for element in root.iter()}
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        assert tag in ["svg", "title", "defs", "pattern", "marker", "g", "use", "rect", "path", "text", "tspan"]
        for name, value in element.attrib.items():
            if name.rpartition("}")[2] == "href" or "url(" in value:
                (target,) = re.findall(r"^(?:url\()?#(\w+)\)?$", value)
                assert target in here
    sizes = {element.get("font-size") for element in root.iter()} - {None}
    assert sizes == {f"{drawing.FONT}"}


# -- the models --------------------------------------------------------------------------------------------------------


@METHODS
def test_every_trained_parameter_is_in_one_box(method):
    model, diagram = published(method)
    for name, parameter in model.named_parameters():
        boxes = [box.name for box in diagram.boxes if f"{name}.".startswith(parts_of(box))]
        if parameter.requires_grad and not name.startswith(READ_BY_LOSSES_ONLY.get(method.name, ())):
            assert len(boxes) == 1, f"{name}: {boxes}"
        assert len(boxes) <= 1, f"{name}: {boxes}"


def test_colours():
    found = {method.name: diagrams.states(*published(method)) for method in diagrams.DESCRIBED}
    assert found["rsrefseg"] == {
        "vision": "adapted",
        "text": "adapted",
        "filter": "frozen",
        "prompter": "trained",
        "encoder": "adapted",
        "mask_encoder": "trained",
        "decoder": "trained",
    }
    assert {name for name, state in found["evisam3"].items() if state == "frozen"} == {"block", "neck"}
    assert {name for name, state in found["rs2sam2"].items() if state != "trained"} == {"trunk", "neck"}
    assert found["rs2sam2"]["trunk"] == "adapted"
    assert set(found["control"].values()) == {"trained"}


def test_a_box_without_parameters_is_refused():
    model, _ = published(next(iter(diagrams.DESCRIBED)))
    wrong = drawing.Box("box", (0, 1), 0, "box", "", "prompter_of_another_method")
    with pytest.raises(ValueError, match="prompter_of_another_method, of which the model has no parameter"):
        diagrams.states(model, drawing.Diagram("", "", drawing.Band((1,), [wrong]), (), drawing.Band((1,), ()), ()))


@METHODS
def test_small_models_run_as_drawn(method):
    """Every box runs in its band, what is drawn as once per image in `encode` alone, and all shapes are right."""
    torch.manual_seed(0)
    model = method.from_preset("mini" if "mini" in method.presets else "tiny").eval()
    diagram, sample = diagrams.DESCRIBED[method](model), make_sample("test", 0)
    sentences = [expression.text for expression in sample.expressions]
    model.fit_tokenizer(sentences)

    ran, step = {}, "encode"
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: ran.setdefault(f"{name}.", set()).add(step))
    with torch.no_grad():
        images = [torch.from_numpy(sample.scene.image).permute(2, 0, 1)]
        state = model.encode_image(images)
        step = "localise"
        index = torch.zeros(len(sentences), dtype=torch.int64)
        prompts = model.localise(state, model.tokenize(sentences, "independent"), index)
        step = "segment"
        logits = model.segment(state, prompts, index)

    for step_of, band in (("localise", diagram.localise), ("segment", diagram.segment)):
        for box in band.nodes:
            if isinstance(box, drawing.Box):
                steps = set().union(*(ran[name] for name in ran if name.startswith(parts_of(box))))
                if box.once:
                    assert steps == {"encode"}, box.name
                elif box.name != "filter" and box.parts:  # two numbers, or nothing of the model's: no module
                    assert step_of in steps, box.name
                    assert steps <= {"encode", step_of}, box.name

    tensors = {
        "sparse": prompts.sparse,
        "dense": prompts.dense,
        "words": prompts.words,
        "fused": prompts.aux.get("fused"),
        "x": prompts.aux.get("trunk"),
        "logits": prompts.aux.get("logits"),
    }
    for prompt in diagram.prompts:
        tensor = tensors.pop(prompt.name)
        expected = tuple(size for size in prompt.shape if size != "L")
        assert tuple(tensor.shape)[-len(expected) :] == expected, prompt.name
        assert tensor.ndim == 1 + len(prompt.shape), prompt.name
        if prompt.icon == "map":
            assert prompts.heatmap.shape[-1] == prompt.cells
    assert all(tensor is None for tensor in tensors.values())

    views = model.prepare(images)
    if "small" not in views and hasattr(model, "siglip_input"):
        views["small"] = model.siglip_input(views["image"])
    for node in diagram.nodes:
        if isinstance(node, drawing.View):
            assert node.side == views[node.name if node.name in views else "image"].shape[-1]
        if isinstance(node, drawing.Mask):
            assert node.side == logits.shape[-1]


# -- readable ----------------------------------------------------------------------------------------------------------

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@cache
def font(bold):
    """The widest of the usual fonts: what fits with it fits with Arial, Helvetica and Roboto."""
    return ImageFont.truetype(str(FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), drawing.FONT)


def width(text, bold=False):
    return font(bold).getlength(text)


@METHODS
def test_text_fits_its_box(method):
    _, diagram = published(method)
    places = drawing.layout(diagram).places
    for box in diagram.boxes:
        place, lines = places[box.name], [*box.title.split("\n"), *box.says.split("\n")]
        assert drawing.LINE * len([line for line in lines if line]) <= place.y1 - place.y0, box.name
        for text, bold in ((box.title, True), (box.says, False)):
            assert all(width(line, bold) <= place.x1 - place.x0 - 3 for line in text.split("\n")), box
    for prompt in diagram.prompts:
        room = prompt.x[1] - prompt.x[0] - drawing.ICON - 16
        assert width(prompt.title, bold=True) <= room, prompt
        assert width(" × ".join(map(str, prompt.shape))) <= room, prompt
    for node in diagram.nodes:
        if isinstance(node, drawing.Frame):
            assert width(node.title, bold=True) <= node.x[1] - node.x[0] - 10, node


def overlap(a, b):
    return a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1


def solid(diagram):
    """The places that nothing may run across."""
    places = drawing.layout(diagram).places
    frames = [node.name for node in diagram.nodes if isinstance(node, drawing.Frame)]
    return {name: place for name, place in places.items() if name not in frames}


@METHODS
def test_nothing_overlaps(method):
    _, diagram = published(method)
    for (one, a), (other, b) in combinations(solid(diagram).items(), 2):
        assert not overlap(a, b), f"{one} and {other}"
    assert all(0 < place.x0 < place.x1 < drawing.WIDTH for place in solid(diagram).values())


@METHODS
def test_arrows_cross_nothing(method):
    _, diagram = published(method)
    everywhere, places = solid(diagram), drawing.layout(diagram).places
    segments = []
    for arrow in diagram.arrows:
        points, _ = drawing.route(places[arrow.source], places[arrow.target], arrow.at)
        for (x0, y0), (x1, y1) in pairwise(points):
            segment = drawing.Rect(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
            assert segment.x0 == segment.x1 or segment.y0 == segment.y1
            hit = [name for name, place in everywhere.items() if overlap(segment, place)]
            assert not hit, f"{arrow} runs across {hit}"
            segments.append((arrow, segment))
    for (one, a), (other, b) in combinations(segments, 2):
        if one.source != other.source:
            assert not overlap(a, b), f"{one} crosses {other}"
    assert len(segments) > 8


@METHODS
def test_labels_lie_on_nothing(method):
    _, diagram = published(method)
    everywhere, places = solid(diagram), drawing.layout(diagram).places
    for arrow in diagram.arrows:
        _, (x, y, anchor) = drawing.route(places[arrow.source], places[arrow.target], arrow.at)
        long = width(arrow.label)
        left = x - long / 2 if anchor == "middle" else x
        label = drawing.Rect(left, y - 12, left + long, y)
        hit = [name for name, place in everywhere.items() if arrow.label and overlap(label, place)]
        assert not hit, f"{arrow} is written over {hit}"


# -- drawing -----------------------------------------------------------------------------------------------------------


def test_an_arrow_to_nothing_is_refused():
    band = drawing.Band((40,), [drawing.Sentence("sentence", (0, 50), 0)])
    diagram = drawing.Diagram("", "", band, (), drawing.Band((40,), ()), [drawing.Arrow("sentence", "decoder")])
    with pytest.raises(ValueError, match="from sentence to decoder, but there is no decoder"):
        drawing.draw(diagram, {})


def test_pictures():
    assert smaller(np.arange(16).reshape(4, 4), 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]
    third = smaller(np.array([[0, 1], [0, 1]]), 3)  # the middle cells see half of either pixel
    np.testing.assert_allclose(third, [[0, 0.5, 1]] * 3)
    mask = np.array([[True, False], [False, False]])
    assert coarse_map(mask, 2, (0, 0, 0), (255, 0, 0)) == (
        '<path fill="#000000" d="M0 0h2v2h-2z"/><path fill="#ff0000" d="M0 0h1v1h-1z"/>'
    )
    image = np.full((4, 4, 3), 203, np.uint8)
    image[2:, 1:] = 0
    assert picture(image, 4) == (
        '<path fill="#c8c8c8" d="M0 0h4v4h-4z"/><path fill="#000000" d="M1 2h3v1h-3zM1 3h3v1h-3z"/>'
    )
