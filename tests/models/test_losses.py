import math

import torch
import torch.nn.functional as F

from rrsis_zoo.models.losses import (
    batch_contrastive,
    binary_cross_entropy,
    gather_rows,
    multiple_instance,
    squared_cosine,
    squared_dice,
)


def test_ignored_pixels_count_in_the_denominator_only():
    logits = torch.tensor([[[[2.0, -1.0], [0.5, 3.0]]]])
    target = torch.tensor([[[[1, 0], [255, 255]]]], dtype=torch.uint8)
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 4
    assert math.isclose(binary_cross_entropy(logits, target).item(), expected, rel_tol=1e-6)


def test_logits_go_to_the_targets_size():
    logits, target = torch.randn(2, 1, 4, 4), torch.randint(0, 2, (2, 1, 9, 9), dtype=torch.uint8)
    big = F.interpolate(logits, size=(9, 9), mode="bilinear", align_corners=False)
    expected = F.binary_cross_entropy_with_logits(big, target.float())
    torch.testing.assert_close(binary_cross_entropy(logits, target), expected)


def test_squared_dice():
    logits = torch.tensor([[[[2.0, -1.0]]], [[[0.0, 4.0]]]])
    target = torch.tensor([[[[1, 0]]], [[[1, 1]]]], dtype=torch.uint8)
    p = logits.sigmoid()
    first = 1 - 2 * p[0, 0, 0, 0] / (p[0].square().sum() + 1 + 2e-3)
    second = 1 - 2 * p[1].sum() / (p[1].square().sum() + 2 + 2e-3)
    torch.testing.assert_close(squared_dice(logits, target), (first + second) / 2)


def test_two_faces_of_an_ignored_pixel_in_dice():
    logits = torch.tensor([[[[2.0, -1.0]]]])
    target = torch.tensor([[[[1, 255]]]], dtype=torch.uint8)
    torch.testing.assert_close(squared_dice(logits, target), squared_dice(logits[..., :1], target[..., :1]))
    p = logits.sigmoid()[0, 0, 0]
    published = 1 - 2 * (p[0] + 255 * p[1]) / (p.square().sum() + 1 + 255**2 + 2e-3)
    torch.testing.assert_close(squared_dice(logits, target, ignored_as_value=True), published)


def test_squared_cosine():
    a = torch.tensor([[1.0, 0.0], [1.0, 1.0], [3.0, 0.0]])
    b = torch.tensor([[0.0, 2.0], [-1.0, -1.0], [1.0, 1.0]])
    torch.testing.assert_close(squared_cosine(a, b), torch.tensor((0 + 1 + 0.5) / 3))


def test_multiple_instance():
    logits = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[5.0, 1.0], [2.0, 3.0]]]])
    inside = torch.tensor([[[[True, True], [False, False]]], [[[False, False], [False, False]]]])
    share = (math.e + 1) / (math.e + 3)
    assert math.isclose(multiple_instance(logits, inside).item(), -math.log(share), rel_tol=1e-6)
    assert multiple_instance(logits, torch.zeros_like(inside)).item() == 0


def test_batch_contrastive():
    """Against the two cross entropies written out; a row of zeros (no referent) is allowed."""
    v, t = F.normalize(torch.randn(4, 6)), F.normalize(torch.randn(4, 6))
    v[2] = 0
    scale, bias = torch.tensor(1.3), torch.tensor(-0.7)
    logits = [[math.exp(1.3) * float(v[i] @ t[j]) for j in range(4)] for i in range(4)]
    expected = 0.0
    for i in range(4):
        row, column = logits[i], [logits[j][i] for j in range(4)]
        expected += math.log(sum(map(math.exp, row))) - row[i] + math.log(sum(map(math.exp, column))) - column[i]
    torch.testing.assert_close(batch_contrastive(v, t, scale, bias, "published"), torch.tensor(expected / 8))


def test_one_process_gathers_its_own_rows():
    rows = torch.randn(3, 4)
    assert gather_rows(rows, "published") is rows
    assert gather_rows(rows, "exact") is rows


# -- two processes -----------------------------------------------------------------------------------------------------


class Encoder(torch.nn.Module):
    """What lies before the gathered vectors, and the scalars behind them."""

    def __init__(self, gather):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = torch.nn.Linear(5, 6), torch.nn.Linear(7, 6)
        self.scale, self.bias = torch.nn.Parameter(torch.tensor(1.0)), torch.nn.Parameter(torch.tensor(0.2))
        self.gather = gather

    def forward(self, x, y):
        return batch_contrastive(
            F.normalize(self.image(x)), F.normalize(self.text(y)), self.scale, self.bias, self.gather
        )


def inputs():
    rng = torch.Generator().manual_seed(1)
    return torch.randn(6, 5, generator=rng), torch.randn(6, 7, generator=rng)


ROWS = ([3, 3], [4, 2], [0, 6])
"""Rows of each process: those of expressions with a referent."""


def one_of_two(rank, store, folder):
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    result = {}
    for gather in ("published", "exact"):
        for rows in ROWS:
            x, y = (part.split(rows)[rank] for part in inputs())
            model = DistributedDataParallel(Encoder(gather))
            loss = model(x, y)
            loss.backward()
            gradients = {name: p.grad for name, p in model.module.named_parameters()}
            result[f"{gather} {rows}"] = {"loss": loss.detach(), **gradients}
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_gathering_on_two_processes(tmp_path):
    """Under DDP, which averages: `exact` is the joint gradient; `published` is half of it before the vectors."""
    joint = Encoder("published")
    loss = joint(*inputs())
    loss.backward()
    places = (str(tmp_path / "store"), str(tmp_path))
    torch.multiprocessing.start_processes(one_of_two, places, nprocs=2, start_method="fork")
    for rank in range(2):
        got = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for gather, share in (
            (f"{kind} {rows}", s) for kind, s in (("published", 0.5), ("exact", 1.0)) for rows in ROWS
        ):
            torch.testing.assert_close(got[gather]["loss"], loss.detach())
            for name, parameter in joint.named_parameters():
                before = name.startswith(("image", "text"))
                expected = parameter.grad * share if before else parameter.grad
                torch.testing.assert_close(got[gather][name], expected, rtol=1e-4, atol=1e-7, msg=f"{gather} {name}")
    assert joint.image.weight.grad.abs().max() > 1e-3
    assert joint.scale.grad.abs() > 1e-3
