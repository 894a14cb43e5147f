"""The diagram on top of every method's page: `make figures`. Boxes, arrows and, from the configuration, their numbers.

A box names the parameters it stands for; whether they are frozen, adapted or trained is read from the model, built as
published but without memory. A test compares with a small model which step of the contract runs them, and the shapes of
the prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from drawing import Arrow, Band, Box, Diagram, Frame, Mask, Prompt, Sentence, State, View, draw
from rrsis_zoo.methods.control.model import Control
from rrsis_zoo.methods.evisam3.model import EviSAM3
from rrsis_zoo.methods.rs2sam2.model import RS2SAM2
from rrsis_zoo.methods.rsrefseg.model import RSRefSeg
from rrsis_zoo.methods.rsrefseg2.model import RSRefSeg2
from rrsis_zoo.models.base import ReferringSegmenter

OUT = Path(__file__).parent
INPUT, SMALL, FIRST = (10, 116), (30, 96), (140, 304)
"""Left and right edge of the inputs and of what reads them."""
DECODER, MASK = (476, 568), (600, 684)


SAM_ARROWS = (
    Arrow("dense", "mask_encoder"),
    Arrow("sparse", "decoder"),
    Arrow("large", "encoder"),
    Arrow("encoder", "decoder"),
    Arrow("mask_encoder", "decoder"),
    Arrow("decoder", "mask"),
)
"""What happens in the second band of methods that leave SAM's image encoder to itself."""


def sam_band(side: int, masks: int, encoder: Box, prompt_encoder: str, decoder: str) -> Band:
    """Return that band: SAM with the parts of its two small modules, from ``side`` pixels to ``masks`` cells."""
    return Band(
        (68, 112),
        [
            View("large", INPUT, 1, side),
            encoder,
            Box("mask_encoder", (340, 440), 0, "prompt\nencoder", "", prompt_encoder),
            Box("decoder", DECODER, (0, 1), "mask\ndecoder", "", decoder),
            Mask("mask", MASK, (0, 1), masks),
        ],
    )


def rsrefseg(model: RSRefSeg) -> Diagram:
    """SigLIP's similarities filter its own patches (docs/methods/rsrefseg.md §4)."""
    config, (side, masks) = model.config, model.sides
    sam, vl = names(model, "sam", "siglip")
    cells, D, g = [config.siglip.grid], config.sam.prompt_width, config.sam.grid
    for _ in range(config.down_spatial_times):
        cells.append((cells[-1] + 1) // 2)  # a 3 × 3 convolution with stride 2
    what = "similarity of\nevery patch\nwith every word\nand with the\nsentence"
    shrink = f"convolutions\nshrink the\nfiltered patches\n{cells[0]}² → {cells[-1]}²"
    return Diagram(
        title="RSRefSeg, from image and sentence to the mask",
        adapters=f"LoRA, rank {config.sam_lora.rank}",
        localise=Band(
            (82, 82),
            [
                View("small", SMALL, 0, config.siglip.image_size),
                Sentence("sentence", INPUT, 1),
                Box("vision", FIRST, 0, f"{vl}\nvision tower", patches(cells[0]), "siglip.vision_model", once=True),
                Box("text", FIRST, 1, f"{vl}\ntext tower", "words, sentence", "siglip.text_model"),
                Box("filter", (350, 496), (0, 1), "filters", what, "siglip.logit_scale siglip.logit_bias"),
                Box("prompter", (540, 684), (0, 1), "prompter", shrink, "prompter"),
            ],
        ),
        prompts=[
            Prompt("dense", (304, 486), "dense", (1, masks, masks), "map", cells[0]),
            Prompt("sparse", (498, 640), "sparse", (cells[-1] ** 2, D), "tokens"),
        ],
        segment=sam_band(
            side,
            masks,
            Box("encoder", FIRST, 1, f"{sam}\nimage encoder", f"{g} × {g} × {D}", "sam.image_encoder", once=True),
            "sam.prompt_encoder",
            "sam.mask_decoder",
        ),
        arrows=[
            Arrow("small", "vision"),
            Arrow("sentence", "text"),
            Arrow("vision", "filter", "V"),
            Arrow("text", "filter", "T, g"),
            Arrow("filter", "prompter"),
            Arrow("filter", "dense", "sentence’s map"),
            Arrow("prompter", "sparse"),
            *SAM_ARROWS,
        ],
    )


def rsrefseg2(model: RSRefSeg2) -> Diagram:
    """Two query sets edit the image one after the other (docs/methods/rsrefseg2.md §5)."""
    config, (side, masks) = model.config, model.sides
    sam, vl = names(model, "sam", "siglip")
    prompter, h, D, g = config.prompter, config.siglip.grid, config.sam2.prompt_width, config.sam2.grid
    sets = f"2 query sets of {prompter.queries}\nread the words\nand each other"
    second = f"image reads\nquery set 2;\n{prompter.prompts} prompt tokens\nread both"
    first_parts = "prompter.first_order prompter.image_code"
    second_parts = "prompter.second_order prompter.P prompter.pP prompter.sparse_mlp"
    dense_parts = "prompter.dense siglip.logit_scale siglip.logit_bias"
    finer = f"{g} × {g} × {D}\n+ 2 finer levels"
    return Diagram(
        title="RSRefSeg 2, from image and sentence to the mask",
        adapters=f"LoRA, rank {config.lora_rank}",
        localise=Band(
            (82, 96, 68),
            [
                View("small", SMALL, 0, config.siglip.image_size),
                Sentence("sentence", INPUT, 1),
                Box("vision", FIRST, 0, f"{vl}\nvision tower", patches(h), "siglip.vision_model", once=True),
                Box("text", FIRST, (1, 2), f"{vl}\ntext tower", "words,\nsentence", "siglip.text_model"),
                Box("first", (346, 494), 0, "first order", "image reads\nquery set 1", first_parts),
                Box("queries", (346, 494), 1, "decomposition", sets, "prompter.decomposition prompter.p1 prompter.p2"),
                Box("second", (536, 684), (0, 1), "second order", second, second_parts),
                Box("correlate", (346, 566), 2, "dense prompt", "sentence × edited image", dense_parts),
            ],
        ),
        prompts=[
            Prompt("dense", (304, 486), "dense", (1, masks, masks), "map", h),
            Prompt("sparse", (498, 640), "sparse", (prompter.prompts, D), "tokens"),
        ],
        segment=sam_band(
            side,
            masks,
            Box("encoder", FIRST, 1, f"{sam}\nimage encoder", finer, "sam.image_encoder", once=True),
            "sam.sam_prompt_encoder",
            "sam.sam_mask_decoder sam.no_mem_embed",
        ),
        arrows=[
            Arrow("small", "vision"),
            Arrow("sentence", "text"),
            Arrow("vision", "first", "V"),
            Arrow("text", "queries", "T"),
            Arrow("text", "correlate", "g"),
            Arrow("queries", "first", "q1"),
            Arrow("queries", "second", "q2"),
            Arrow("first", "second", "I1"),
            Arrow("second", "correlate", "I2"),
            Arrow("second", "sparse", at=606),
            Arrow("correlate", "dense"),
            *SAM_ARROWS,
        ],
    )


def rs2sam2(model: RS2SAM2) -> Diagram:
    """A union encoder points, and SAM 2 reads the words in every block (docs/methods/rs2sam2.md §4-9)."""
    config, (side, masks) = model.config, model.sides
    (sam,) = names(model, "sam")
    D, grid, blocks = config.sam.prompt_width, config.union.grid, sum(config.sam.stages)
    union = f"BEiT-3,\n{config.union.depth} layers,\nreads image\nand sentence\ntogether"
    pseudo_mask = f"pseudo-mask\n{grid} × {grid}"
    trunk = f"Hiera: each of\n{blocks} blocks\nfuses image\nand words"
    return Diagram(
        title="RS2-SAM2, from image and sentence to the mask",
        adapters="fusion and adapters",
        localise=Band(
            (56, 92, 56),
            [
                View("small", SMALL, (0, 1), config.union.image_size),
                Sentence("sentence", INPUT, 2),
                Box("union", (140, 282), (0, 2), "union encoder", union, "union"),
                Box("sparse_head", (572, 684), 0, "MLP", "", "sparse_head"),
                Box("generator", (404, 560), 1, "mask prompt\ngenerator", pseudo_mask, "mask_prompt"),
                Box("word_head", (340, 404), 2, "linear", "", "word_head"),
            ],
        ),
        prompts=[
            Prompt("words", (140, 376), "words T", ("L", D), "words"),
            Prompt("dense", (384, 562), "dense", (1, masks, masks), "map", grid),
            Prompt("sparse", (570, 692), "sparse", (1, D), "tokens"),
        ],
        segment=Band(
            (68, 92, 26),
            [
                View("large", INPUT, (0, 2), side),
                Box("trunk", (140, 268), (0, 2), f"{sam}\ntrunk", trunk, "sam.image_encoder.trunk"),
                Box("neck", (286, 338), (1, 2), "neck", "", "sam.image_encoder.neck"),
                Box("fusion", (356, 452), 1, "× cross-\nattention", "to the\nwords", "post_fusion"),
                Box("mask_encoder", (430, 530), 0, "prompt\nencoder", "", "sam.sam_prompt_encoder"),
                Box("decoder", (470, 598), (1, 2), "mask\ndecoder", "", "sam.sam_mask_decoder sam.no_mem_embed"),
                Mask("mask", (616, 688), (1, 2), masks),
            ],
        ),
        arrows=[
            Arrow("small", "union"),
            Arrow("sentence", "union"),
            Arrow("union", "sparse_head", "cls"),
            Arrow("union", "generator", "cls, patches"),
            Arrow("union", "word_head", "words"),
            Arrow("sparse_head", "sparse"),
            Arrow("generator", "dense"),
            Arrow("word_head", "words"),
            Arrow("words", "trunk"),
            Arrow("words", "fusion"),
            Arrow("dense", "mask_encoder"),
            Arrow("sparse", "decoder"),
            Arrow("large", "trunk"),
            Arrow("trunk", "neck"),
            Arrow("neck", "fusion"),
            Arrow("neck", "decoder", "2 finer levels", at=131),
            Arrow("fusion", "decoder"),
            Arrow("mask_encoder", "decoder"),
            Arrow("decoder", "mask"),
        ],
    )


def evisam3(model: EviSAM3) -> Diagram:
    """Evidence from SAM 3's trunk corrects the prior's prompts (docs/methods/evisam3.md §4-9)."""
    config, (side, masks) = model.config, model.sides
    P, grid, h = config.sam.prompt_width, config.union.grid, config.sam.grid
    tokens = 1 + config.extra_tokens
    union = "BEiT-3,\nreads image\nand sentence\ntogether"
    experts = "correct\nthe map,\nadd a token;\nthe evidence\nweights them"
    adapter = f"read words T, keep\n{config.evidence_tokens} evidence tokens"
    return Diagram(
        title="EviSAM3, from image and sentence to the mask",
        adapters="",
        localise=Band(
            (82, 63, 4, 104),
            [
                View("small", SMALL, 0, config.union.image_size),
                Sentence("sentence", INPUT, 1),
                Box("union", (140, 282), (0, 1), "union encoder", union, "union"),
                Box("prior", (356, 500), (0, 1), "prior", f"map {grid} × {grid},\none token,\nwords T", "prior"),
                Box("experts", (548, 684), (0, 3), f"{len(model.experts.experts)} experts", experts, "experts"),
                View("large", INPUT, (2, 3), side),
                Frame("trunk", (140, 518), (2, 3), f"SAM 3 trunk, each of {config.sam.depth} blocks"),
                Box("generator", (148, 248), 3, "prompt\ngenerator", "high-pass\nimage", "prompt_generator"),
                Box("block", (266, 324), 3, "block", "", "sam.trunk"),
                Box("adapters", (342, 510), 3, "evidence and\nMLP adapters", adapter, "evidence_adapters mlp_adapters"),
            ],
        ),
        prompts=[
            Prompt("x", (140, 334), "trunk’s map", (config.sam.width, h, h), "features"),
            Prompt("dense", (392, 561), "dense", (1, grid, grid), "map", grid),
            Prompt("sparse", (570, 692), "sparse", (tokens, P), "tokens"),
        ],
        segment=Band(
            (68, 68),
            [
                Box("neck", (140, 310), 1, "neck", f"{h} × {h}\n+ 2 finer levels", "sam.neck"),
                Box("projection", (370, 476), 0, "dense\nprojection", "", "dense_projection no_mask_embed"),
                Box("decoder", (506, 598), (0, 1), "mask\ndecoder", "", "sam.mask_decoder"),
                Mask("mask", (616, 688), (0, 1), masks),
            ],
        ),
        arrows=[
            Arrow("small", "union"),
            Arrow("sentence", "union"),
            Arrow("union", "prior"),
            Arrow("prior", "experts"),
            Arrow("prior", "adapters", at=490),
            Arrow("large", "trunk"),
            Arrow("generator", "block"),
            Arrow("block", "adapters"),
            Arrow("adapters", "experts", "e"),
            Arrow("trunk", "x"),
            Arrow("experts", "sparse"),
            Arrow("experts", "dense"),
            Arrow("x", "neck"),
            Arrow("dense", "projection"),
            Arrow("sparse", "decoder"),
            Arrow("neck", "decoder"),
            Arrow("projection", "decoder"),
            Arrow("decoder", "mask"),
        ],
    )


def control(model: Control) -> Diagram:
    """A text-conditioned U-Net, cut after its deepest level (src/rrsis_zoo/methods/control/model.py)."""
    config, (side, masks) = model.config, model.sides
    D, backbone = config.sentence_width, f"{config.backbone},\n{len(config.widths)} levels"
    decoder = f"{len(model.decoder)} FiLM blocks, from coarse to fine"
    deepest = side // model.backbone.feature_info.reduction()[-1]
    return Diagram(
        title="The control, from image and sentence to the mask",
        adapters="",
        localise=Band(
            (82, 112),
            [
                Sentence("sentence", INPUT, 0),
                View("image", INPUT, 1, side),
                Box("text", FIRST, 0, "sentence\nencoder", "recurrent", "text"),
                Box("backbone", FIRST, 1, "timm backbone", backbone, "backbone", once=True),
                Box("deepest", (350, 486), 1, f"{len(model.deepest)} FiLM blocks", "on the deepest\nlevel", "deepest"),
                Box("heat", (530, 630), 1, "heat map", f"{deepest} × {deepest}", "heat"),
            ],
        ),
        prompts=[
            Prompt("fused", (304, 486), "fused", (config.widths[-1], deepest, deepest), "features"),
            Prompt("sparse", (506, 684), "sentence", (1, D), "tokens"),
        ],
        segment=Band(
            (112,),
            [
                Box("decoder", (140, 568), 0, "U-Net decoder", decoder, "decoder mask"),
                Mask("mask", MASK, 0, masks),
            ],
        ),
        arrows=[
            Arrow("sentence", "text"),
            Arrow("image", "backbone"),
            Arrow("backbone", "deepest"),
            Arrow("text", "deepest"),
            Arrow("text", "sparse", at=660),
            Arrow("deepest", "heat"),
            Arrow("deepest", "fused"),
            Arrow("backbone", "decoder", "finer levels", at=176),
            Arrow("fused", "decoder"),
            Arrow("sparse", "decoder"),
            Arrow("decoder", "mask"),
        ],
    )


def names(model: ReferringSegmenter, *roles: str) -> list[str]:
    """Return what the card calls the foundation models of these roles."""
    return [model.card.foundations[role].title for role in roles]


def patches(grid: int) -> str:
    """Say how many patches there are."""
    return f"{grid} × {grid} patches"


DESCRIBED: dict[type[ReferringSegmenter], Callable[..., Diagram]] = {
    RSRefSeg: rsrefseg,
    RSRefSeg2: rsrefseg2,
    RS2SAM2: rs2sam2,
    EviSAM3: evisam3,
    Control: control,
}
"""Method -> its diagram, for a model of any size."""


def published(method: type[ReferringSegmenter]) -> ReferringSegmenter:
    """Return a method as published, without memory."""
    with torch.device("meta"):
        return method(method.presets[method.card.default_preset])


def states(model: ReferringSegmenter, diagram: Diagram) -> dict[str, State]:
    """Return for each box what training does with its parameters; those that never get a gradient do not count.

    Raises:
        ValueError: a box with a part of which the model has no parameter.
    """
    inert = model.inert_parameters()
    grows = {name: p.requires_grad for name, p in model.named_parameters() if name not in inert}
    found: dict[str, State] = {}
    for box in diagram.boxes:
        here = set()
        for part in box.parts.split():
            own = {grows[name] for name in grows if f"{name}.".startswith(f"{part}.")}
            if not own:
                raise ValueError(f"{diagram.title}: {box.name} stands for {part}, of which the model has no parameter")
            here |= own
        found[box.name] = "adapted" if len(here) > 1 else "trained" if True in here else "frozen"
    return found


def svg(method: type[ReferringSegmenter]) -> str:
    """Return the diagram of a method as published."""
    model = published(method)
    diagram = DESCRIBED[method](model)
    return draw(diagram, states(model, diagram))


def main() -> None:
    """Write all diagrams."""
    for method in DESCRIBED:
        (OUT / f"{method.name}.svg").write_text(svg(method), encoding="utf-8")


if __name__ == "__main__":
    main()
