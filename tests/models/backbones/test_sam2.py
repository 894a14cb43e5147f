"""Our SAM 2 against the package's own parts: same sizes, same numbers; checkpointing changes nothing."""

from dataclasses import replace
from functools import partial
from importlib.resources import files
from typing import Any

import pytest
import torch
import yaml
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.backbones.sam2 import SAM2, SAM2_B_PLUS, SAM2_L, SAM2_S, SAM2_T, SAM2Config
from rrsis_zoo.models.recomputing import recompute

TINY = SAM2Config(
    image_size=96, width=16, heads=1, stages=(1, 2, 3, 1), windows=(8, 4, 5, 3), global_blocks=(4,),
    prompt_width=32, decoder_mlp_width=48, decoder_heads=4, iou_width=24,
)  # fmt: skip


def randomised(config):
    torch.manual_seed(0)
    sam = SAM2(config)
    for p in sam.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return sam.eval()


@pytest.mark.parametrize(
    ("config", "file"),
    [
        (SAM2_L, "sam2.1/sam2.1_hiera_l.yaml"),
        (SAM2_L, "sam2/sam2_hiera_l.yaml"),
        (SAM2_B_PLUS, "sam2.1/sam2.1_hiera_b+.yaml"),
        (SAM2_S, "sam2.1/sam2.1_hiera_s.yaml"),
        (SAM2_T, "sam2.1/sam2.1_hiera_t.yaml"),
        (SAM2_T, "sam2/sam2_hiera_t.yaml"),
    ],
)
def test_sizes_are_those_of_the_packages_files(config, file, monkeypatch):
    """Names, shapes and windows of trunk and neck equal what the package's YAML gives."""
    given = yaml.safe_load(files("sam2").joinpath("configs", *file.split("/")).read_text())["model"]["image_encoder"]
    trunk: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in given["trunk"].items() if k != "_target_"}
    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))  # Hiera reads its numbers
    with torch.device("meta"):
        ours, stock = SAM2(config).image_encoder, Hiera(**trunk)
    blocks: Any = zip(ours.trunk.blocks, stock.blocks, strict=True)
    assert {k: v.shape for k, v in ours.trunk.state_dict().items()} == {
        k: v.shape for k, v in stock.state_dict().items()
    }
    for a, b in blocks:
        assert (a.window_size, a.q_stride, a.attn.num_heads) == (b.window_size, b.q_stride, b.attn.num_heads)
    assert ours.neck.backbone_channel_list == given["neck"]["backbone_channel_list"]
    assert ours.neck.fpn_top_down_levels == given["neck"]["fpn_top_down_levels"]
    assert ours.neck.fpn_interp_model == given["neck"]["fpn_interp_model"]


def test_published_counts():
    with torch.device("meta"):
        encoder = SAM2(SAM2_L).image_encoder
    assert sum(p.numel() for p in encoder.trunk.parameters()) == 212_149_296
    assert sum(p.numel() for p in encoder.neck.parameters()) == 553_984


def test_image_encoder_equals_the_packages():
    sam = randomised(TINY)
    stock = ImageEncoder(
        trunk=Hiera(16, 1, stages=(1, 2, 3, 1), global_att_blocks=(4,), window_spec=(8, 4, 5, 3),
                    window_pos_embed_bkg_spatial_size=(7, 7)),
        neck=FpnNeck(PositionEmbeddingSine(32), 32, [128, 64, 32, 16], fpn_interp_model="nearest",
                     fpn_top_down_levels=[2, 3]),
        scalp=1,
    ).eval()  # fmt: skip
    stock.load_state_dict(sam.image_encoder.state_dict())
    image = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        levels, pyramid = stock(image)["backbone_fpn"], sam.encode(image)
        ours = sam.image_encoder(image)
    for a, b in zip(ours, levels, strict=True):
        torch.testing.assert_close(a, b)
    assert [tuple(x.shape) for x in pyramid] == [(2, 32, 6, 6), (2, 8, 12, 12), (2, 4, 24, 24)]
    torch.testing.assert_close(pyramid.embedding, levels[2] + sam.no_mem_embed.reshape(1, 32, 1, 1))


def test_decoder_equals_the_packages():
    """All masks, the single mask, and the fallback for unstable masks."""
    sam = randomised(TINY)
    pyramid = sam.encode(torch.randn(3, 3, 96, 96))
    sparse, mask = torch.randn(3, 5, 32), torch.randn(3, 1, 24, 24)
    dense, stock = sam.encode_mask(mask), sam.sam_mask_decoder
    torch.testing.assert_close(dense, sam.sam_prompt_encoder(None, None, mask)[1])
    torch.testing.assert_close(sam.no_mask(3), sam.sam_prompt_encoder(None, None, None)[1].expand(3, -1, -1, -1))
    decoded = sam.decode(pyramid, sparse, dense)
    arguments = (pyramid.embedding, sam.sam_prompt_encoder.get_dense_pe(), sparse, dense)
    high = [pyramid.s0, pyramid.s1]
    several = stock(*arguments, multimask_output=True, repeat_image=False, high_res_features=high)
    single = stock(*arguments, multimask_output=False, repeat_image=False, high_res_features=high)
    torch.testing.assert_close(decoded.masks, torch.cat([single[0], several[0]], 1))
    torch.testing.assert_close(decoded.iou, torch.cat([single[1], several[1]], 1))
    torch.testing.assert_close(decoded.object_score, single[3])
    stock.dynamic_multimask_via_stability = True
    fallback = stock(*arguments, multimask_output=False, repeat_image=False, high_res_features=high)[0]
    torch.testing.assert_close(sam.stable_mask(decoded), fallback)
    assert not fallback.equal(single[0]), "the case must have an unstable mask"


def test_checkpointing_changes_no_gradient():
    sam, image = randomised(TINY), torch.randn(1, 3, 96, 96)
    gradients = []
    for on in (False, True):
        for block in sam.image_encoder.trunk.blocks:
            recompute(block, on)
        sam.zero_grad()
        torch.stack([level.square().mean() for level in sam.encode(image)]).sum().backward()
        gradients.append({n: p.grad.clone() for n, p in sam.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(gradients[1][n].equal(g) for n, g in gradients[0].items())


def test_finer_patches_give_finer_masks():
    config = replace(TINY, image_size=64, patch_stride=2)
    sam = randomised(config)
    pyramid = sam.encode(torch.randn(1, 3, 64, 64))
    assert pyramid.embedding.shape[-1] == config.grid == 8
    masks = sam.decode(pyramid, torch.randn(1, 1, 32), sam.no_mask(1)).masks
    assert masks.shape == (1, 4, config.mask_size, config.mask_size) == (1, 4, 32, 32)


def test_image_size_that_does_not_fit():
    with pytest.raises(ConfigError, match="multiple of 32, got 240"):
        SAM2(replace(TINY, image_size=240))
