"""Our SAM against the package's own: same numbers, less memory in between."""

from dataclasses import replace

import pytest
import torch
from segment_anything.modeling.image_encoder import Attention

from rrsis_zoo.models.backbones.sam import SAM, RelPosAttention, SAMConfig

TINY = SAMConfig(
    image_size=64, patch_size=8, width=32, depth=2, heads=4, mlp_width=48, window=3, global_blocks=(1,),
    prompt_width=32, decoder_mlp_width=48, decoder_heads=4, iou_width=24,
)  # fmt: skip


def randomise(module):
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return module


@pytest.mark.parametrize(("height", "width"), [(8, 8), (17, 17)])
@pytest.mark.parametrize("grad", [False, True])
def test_attention_equals_the_packages(height, width, grad):
    stock = randomise(Attention(32, num_heads=4, use_rel_pos=True, input_size=(height, width)))
    ours = RelPosAttention(32, num_heads=4, use_rel_pos=True, input_size=(height, width))
    ours.load_state_dict(stock.state_dict())
    ours.query_chunk = 50  # does not divide the number of queries
    x = torch.randn(2, height, width, 32)
    with torch.set_grad_enabled(grad):
        a, b = stock(x), ours(x)
        torch.testing.assert_close(b, a, rtol=1e-5, atol=2e-5)
    if grad:
        weight = torch.randn_like(a)
        (a * weight).sum().backward()
        (b * weight).sum().backward()
        for (name, p), q in zip(stock.named_parameters(), ours.parameters(), strict=True):
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-4, msg=name)


def test_decoder_takes_an_image_a_prompt_set():
    """A batch of images with a prompt set each equals the package's decoder, one image at a time."""
    from segment_anything.modeling import MaskDecoder

    sam = randomise(SAM(TINY)).eval()
    stock = MaskDecoder(transformer_dim=32, transformer=sam.mask_decoder.transformer, iou_head_hidden_dim=24).eval()
    stock.load_state_dict(sam.mask_decoder.state_dict())
    image, sparse, dense = torch.randn(3, 32, 8, 8), torch.randn(3, 5, 32), torch.randn(3, 32, 8, 8)
    code = sam.code(8)
    with torch.no_grad():
        masks, iou = sam.mask_decoder(image, code, sparse, dense)
        for i in range(3):
            one, quality = stock.predict_masks(image[i : i + 1], code, sparse[i : i + 1], dense[i : i + 1])
            torch.testing.assert_close(masks[i : i + 1], one, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(iou[i : i + 1], quality, rtol=1e-4, atol=1e-4)


def test_two_way_transformer_has_transformers_eps():
    sam = SAM(TINY)
    layers = [m.eps for m in sam.mask_decoder.transformer.layers.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert layers == [1e-6] * 8
    assert sam.mask_decoder.transformer.norm_final_attn.eps == 1e-5


def test_position_code_is_xy_at_cell_centres():
    sam = SAM(TINY)
    matrix = sam.position_code.positional_encoding_gaussian_matrix
    code = sam.code(4)[0]
    row, column = 1, 3
    point = torch.tensor([(column + 0.5) / 4, (row + 0.5) / 4])
    angle = 2 * torch.pi * ((2 * point - 1) @ matrix)
    torch.testing.assert_close(code[:, row, column], torch.cat([angle.sin(), angle.cos()]), rtol=1e-5, atol=1e-5)


def test_no_mask_embedding_is_repeated():
    sam = randomise(SAM(replace(TINY, prompt_width=32)))
    assert sam.no_mask(3).shape == (3, 32, 8, 8)
    assert sam.no_mask(2)[1, :, 5, 2].equal(sam.prompt_encoder.no_mask_embed.weight[0])
