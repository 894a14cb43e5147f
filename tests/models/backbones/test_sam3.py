"""Our parts of SAM 3 against transformers' own."""

import pytest
import torch
from transformers.models.sam3.modeling_sam3 import Sam3ViTEmbeddings, Sam3ViTLayer

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.backbones.sam3 import SAM3, DropPath, SAM3Config, _vit_config

SMALL = SAM3Config(
    image_size=40, patch_size=4, width=16, depth=3, heads=2, mlp_width=24, window=4, global_blocks=(1,),
    position_size=16, prompt_width=16, decoder_mlp_width=24, decoder_heads=2, iou_width=16, drop_path=0.5,
)  # fmt: skip


@pytest.mark.parametrize("block", [0, 1])
def test_a_block_is_transformers(block):
    """Local and global, with padding of the windows (10 cells in windows of 4)."""
    ours = SAM3(SMALL).trunk.eval()
    stock = Sam3ViTLayer(_vit_config(SMALL), window_size=4 if block == 0 else 0).eval()
    state = ours.layers[block].state_dict()
    for kind in ("weight", "bias"):
        fused = state.pop(f"attention.qkv.{kind}").chunk(3)
        state |= {f"attention.{part}_proj.{kind}": rows for part, rows in zip("qkv", fused, strict=True)}
    stock.load_state_dict(state)
    x = torch.randn(2, 10, 10, 16)
    torch.testing.assert_close(ours.layers[block](x), stock(x))
    assert stock.layer_norm1.eps == 1e-5


def test_positions_are_tiled_and_the_first_row_is_not_read():
    ours, stock = SAM3(SMALL).trunk.embeddings, Sam3ViTEmbeddings(_vit_config(SMALL))
    state = ours.state_dict()
    state["position_embeddings"] = state["position_embeddings"][:, 1:]
    stock.load_state_dict(state)
    image = torch.randn(1, 3, 40, 40)
    torch.testing.assert_close(ours(image), stock(image))


def test_encoding_runs_every_block_and_ends_in_three_levels():
    model = SAM3(SMALL).eval()
    image = torch.randn(2, 3, 40, 40)
    x = model.trunk.embed(image)
    for layer in model.trunk.layers:
        x = layer(x)
    levels = model.encode(image)
    assert [tuple(level.shape) for level in levels] == [(2, 16, side, side) for side in (40, 20, 10)]
    for a, b in zip(levels, model.pyramid(x.permute(0, 3, 1, 2)), strict=True):
        torch.testing.assert_close(a, b)


def test_drop_path_leaves_out_whole_samples_in_training_only():
    layer = torch.nn.Identity()
    layer.register_forward_hook(DropPath(0.5, parts=3))
    x = torch.ones(60, 2, 2)  # 20 samples of 3 windows
    y = layer.train()(x).reshape(20, 3, 4)
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert (y == y[:, :1, :1]).all()
    assert layer.eval()(x).equal(x)


def test_drop_path_of_the_trunk():
    trunk = SAM3(SMALL).trunk
    x = torch.randn(2, 10, 10, 16)
    assert trunk.layers[0].train()(x).equal(trunk.layers[0].eval()(x))  # the first block's rate is 0
    with_drops = torch.stack([trunk.layers[2].train()(x) for _ in range(6)])
    assert with_drops.std(0).max() > 0


def test_an_image_that_patches_do_not_fill():
    with pytest.raises(ConfigError, match="image_size 41 is not a multiple of patch_size 4"):
        SAM3Config(image_size=41, patch_size=4)
