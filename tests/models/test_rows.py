"""One seed repeats a training, with several threads too."""

import contract
import pytest
import torch

from kinds import TRAINED
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.models.layers.rows import rows


def test_rows_are_those_of_an_index():
    x = torch.randn(4, 5, 3, dtype=torch.float64).transpose(1, 2).requires_grad_()
    index = torch.tensor([2, 0, 2, 2, 3])
    out = rows(x, index)
    assert out.equal(x[index])
    assert out.stride() == x[index].stride()
    weight = torch.randn_like(out)
    ours = torch.autograd.grad((rows(x, index) * weight).sum(), x)[0]
    theirs = torch.autograd.grad((x[index] * weight).sum(), x)[0]
    torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradcheck(lambda given: rows(given, index), (x,))
    with torch.no_grad():
        assert rows(x, index).grad_fn is None


def test_the_gradient_is_the_same_every_time():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        x = torch.randn(2, 50_000, requires_grad=True)
        index = torch.randint(0, 2, (64,))
        gradient = torch.randn(64, 50_000)
        first = torch.autograd.grad(rows(x, index), x, gradient)[0]
        for _ in range(10):
            assert torch.autograd.grad(rows(x, index), x, gradient)[0].equal(first)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("method", TRAINED)
def test_no_loss_goes_through_an_index(method):
    """Its gradient is added up in whatever order the threads come."""
    model, batch = contract.build(lambda: method_named(method).model().from_preset("tiny")).train(), contract.batch()
    ahead, seen = [model.loss(model(batch, "published"), batch)["loss"].grad_fn], set()
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [following for following, _ in node.next_functions]
    names = {type(node).__name__ for node in seen}
    assert len(names) > 10
    assert not {name for name in names if name.startswith(("IndexBackward", "IndexPut", "ScatterAdd"))}
