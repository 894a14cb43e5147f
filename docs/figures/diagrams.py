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
from rrsis_zoo.methods.lavt.model import LAVT
from rrsis_zoo.methods.rmsin.model import RMSIN
from rrsis_zoo.methods.rs2sam2.model import RS2SAM2
from rrsis_zoo.methods.rsrefseg.model import RSRefSeg
from rrsis_zoo.methods.rsrefseg2.model import RSRefSeg2
from rrsis_zoo.methods.sam3_zeroshot.model import SAM3ZeroShot
from rrsis_zoo.methods.think2seg.model import Think2Seg
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


def lavt(model: LAVT) -> Diagram:
    """Words and pixels meet behind every stage of a Swin (docs/methods/lavt.md §3); RMSIN adds to it."""
    config, (side, masks) = model.config, model.sides
    stages, added = range(4), isinstance(model, RMSIN)
    fusions = " ".join(f"backbone.stages.{i}.fusion" for i in stages)
    gates = " ".join(f"backbone.stages.{i}.gate" for i in range(3))
    merging = " ".join(f"backbone.stages.{i}.merging" for i in range(3))
    unread = " ".join(f"backbone.stages.{i}.position_weights backbone.stages.{i}.visual_gate" for i in range(3))
    blocks = " ".join(f"backbone.stages.{i}.blocks" for i in range(1, 4))
    swin = "and gates, also\nwithout words" if added else "and gates,\nwhich add what\nthe words say"
    return Diagram(
        title=f"{'RMSIN' if added else 'LAVT'}, from image and sentence to the mask",
        adapters="trained layers",
        localise=Band(
            (124, 82),
            [
                Sentence("sentence", INPUT, 1),
                View("image", INPUT, 0, side),
                Box("text", (140, 312), 1, "BERT", f"{config.max_length} tokens", "text_encoder"),
                Box(
                    "first",
                    (140, 312),
                    0,
                    "Swin stage 1",
                    "no words yet",
                    "backbone.patch_embed backbone.stages.0.blocks",
                    once=True,
                ),
                Box("fusion", (352, 500), 1, "pixel-word\nattention", "in 4 stages", f"{fusions} backbone.norms"),
                Box(
                    "swin",
                    (352, 500),
                    0,
                    "stages 2-4",
                    swin,
                    f"{blocks} {gates} {merging} {unread if added else ''}".strip(),
                ),
                Box(
                    "decoder",
                    (536, 684),
                    (0, 1),
                    "mixer and\ndecoder" if added else "decoder",
                    "with turned\nconvolutions" if added else "from coarse\nto fine",
                    "backbone.cross decoder" if added else "decoder",
                ),
            ],
        ),
        prompts=[
            Prompt("sparse", (190, 366), "sentence", (1, config.bert.width), "tokens"),
            Prompt("logits", (500, 684), "log-odds", (1, masks, masks), "features"),
        ],
        segment=Band((100,), [Mask("mask", MASK, 0, masks)]),
        arrows=[
            Arrow("sentence", "text"),
            Arrow("image", "first"),
            Arrow("text", "fusion"),
            Arrow("first", "swin"),
            Arrow("swin", "fusion", at=390),
            Arrow("fusion", "swin", at=460),
            Arrow("fusion", "decoder"),
            Arrow("text", "sparse"),
            Arrow("decoder", "logits"),
            Arrow("logits", "mask"),
        ],
    )


def sam3_zeroshot(model: SAM3ZeroShot) -> Diagram:
    """SAM 3's detector finds instances of what the sentence names (docs/methods/sam3_zeroshot.md §1)."""
    config, (side, masks) = model.config.sam, model.sides
    d, g = config.detector_width, config.grid
    return Diagram(
        title="Zero-shot SAM 3, from image and sentence to the mask",
        adapters="",
        localise=Band(
            (82, 104),
            [
                Sentence("sentence", INPUT, 0),
                View("image", INPUT, 1, side),
                Box("text", FIRST, 0, "CLIP text tower", "", "sam.text_encoder sam.text_projection"),
                Box("trunk", (140, 272), 1, "SAM 3 trunk", f"{g} × {g}\n+ 2 finer", "sam.vision_encoder", once=True),
                Box("geometry", (298, 394), 1, "“no box”\ntoken", "", "sam.geometry_encoder", once=True),
                Box(
                    "find",
                    (430, 684),
                    (0, 1),
                    "fusion encoder\nand decoder",
                    f"{config.queries} instances:\nscore, box, state;\nis there any?",
                    "sam.detr_encoder sam.detr_decoder sam.dot_product_scoring",
                ),
            ],
        ),
        prompts=[
            Prompt("words", (304, 474), "prompt", ("L", d), "words"),
            Prompt("sparse", (490, 684), "instances", (config.queries, d), "tokens"),
        ],
        segment=Band(
            (112,),
            [
                Box(
                    "decoder",
                    (170, 568),
                    0,
                    "mask head",
                    "a mask for every kept instance,\none mask by a rule",
                    "sam.mask_decoder",
                ),
                Mask("mask", MASK, 0, masks),
            ],
        ),
        arrows=[
            Arrow("sentence", "text"),
            Arrow("image", "trunk"),
            Arrow("trunk", "geometry"),
            Arrow("geometry", "find"),
            Arrow("text", "find"),
            Arrow("find", "words", at=452),
            Arrow("trunk", "decoder", at=200),
            Arrow("find", "sparse"),
            Arrow("words", "decoder"),
            Arrow("sparse", "decoder"),
            Arrow("decoder", "mask"),
        ],
    )


def think2seg(model: Think2Seg) -> Diagram:
    """A language model writes what SAM draws (docs/methods/think2seg.md §1)."""
    config, (side, frame) = model.config, model.sides
    g = config.sam.grid
    return Diagram(
        title="Think2Seg-RS, from image and sentence to the mask",
        adapters="",
        localise=Band(
            (82, 112),
            [
                Sentence("sentence", INPUT, 0),
                View("frame", INPUT, 1, frame),
                Box(
                    "writer",
                    (150, 330),
                    (0, 1),
                    "language model",
                    "thinks, then\nwrites boxes\nand points\nas JSON",
                    "",
                ),
                Box("reader", (366, 514), (0, 1), "reader", "of the text:\ninstances, none,\nor unreadable", ""),
            ],
        ),
        prompts=[Prompt("sparse", (516, 692), "box, points", ("L", config.sam.prompt_width), "words")],
        segment=Band(
            (112,),
            [
                View("large", INPUT, 0, side),
                Box(
                    "encoder",
                    FIRST,
                    0,
                    "SAM 2.1\nencoder",
                    f"{g} × {g}\n+ 2 finer levels",
                    "sam.image_encoder sam.no_mem_embed",
                    once=True,
                ),
                Box(
                    "decoder",
                    (400, 568),
                    0,
                    "mask decoder",
                    "once per target;\nthe union",
                    "sam.sam_mask_decoder sam.sam_prompt_encoder",
                ),
                Mask("mask", MASK, 0, frame),
            ],
        ),
        arrows=[
            Arrow("sentence", "writer"),
            Arrow("frame", "writer"),
            Arrow("writer", "reader"),
            Arrow("reader", "sparse"),
            Arrow("sparse", "decoder", at=542),
            Arrow("large", "encoder"),
            Arrow("encoder", "decoder"),
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
    LAVT: lavt,
    RMSIN: lavt,
    SAM3ZeroShot: sam3_zeroshot,
    Think2Seg: think2seg,
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
