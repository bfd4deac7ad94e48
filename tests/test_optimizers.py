from functools import partial

import pytest
import torch
from torch import Tensor

from cotrain.optimizers import adam, is_elementwise, keep_members

FACTORIES = {
    "default": adam(0.05),
    "SGD": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": partial(torch.optim.Adam, lr=0.1, amsgrad=True),
    "AdamW": partial(torch.optim.AdamW, lr=0.1, weight_decay=0.5),
    "NAdam": partial(torch.optim.NAdam, lr=0.1),
    "RAdam": partial(torch.optim.RAdam, lr=0.1),
    "Adamax": partial(torch.optim.Adamax, lr=0.1),
    "RMSprop": partial(torch.optim.RMSprop, lr=0.1, momentum=0.5, centered=True),
    "Adagrad": partial(torch.optim.Adagrad, lr=0.1),
    "Adadelta": partial(torch.optim.Adadelta, lr=0.5),
}


class NormalisedStep(torch.optim.Optimizer):
    """One step of unit length per tensor: would mix stacked networks."""

    def __init__(self, params) -> None:
        super().__init__(params, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for value in group["params"]:
                value -= group["lr"] * value.grad / value.grad.norm()


class Renamed(torch.optim.SGD):
    """A subclass, whose step may be anything."""


def run(factory, values: list[Tensor], gradients: list[list[Tensor]], keep: Tensor | None = None) -> list[Tensor]:
    """Six steps; after the third, only the kept members go on."""
    values = [value.clone().requires_grad_() for value in values]
    optimizer = factory(values)
    for number, step in enumerate(gradients):
        if number == 3 and keep is not None:
            values = keep_members(optimizer, keep)
        for value, gradient in zip(values, step, strict=True):
            value.grad = gradient if keep is None or number < 3 else gradient[keep]
        optimizer.step()
    return [value.detach() for value in values]


@pytest.mark.parametrize("name", FACTORIES)
def test_a_step_on_stacked_weights_is_a_step_on_each_of_them(name):
    factory = FACTORIES[name]
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3, 2), (4, 5), (4,))
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    gradients = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(6)]
    assert is_elementwise(factory([torch.zeros(1, requires_grad=True)]))
    together = run(factory, values, gradients)
    members = torch.tensor([3, 1])
    kept = run(factory, values, gradients, keep=members)
    for number in range(4):
        alone = run(factory, [v[number] for v in values], [[g[number] for g in step] for step in gradients])
        for one, all_of_them in zip(alone, together, strict=True):
            torch.testing.assert_close(all_of_them[number], one)
        if number in members:
            for one, some in zip(alone, kept, strict=True):
                torch.testing.assert_close(some[members.tolist().index(number)], one)


def test_optimizers_that_may_mix_weights_are_told():
    weight = [torch.zeros(2, requires_grad=True)]
    for optimizer in (NormalisedStep(weight), Renamed(weight, lr=0.1), torch.optim.LBFGS(weight)):
        assert not is_elementwise(optimizer)


def test_keeping_members_before_the_first_step_keeps_groups():
    first, second = torch.arange(6.0).view(3, 2).requires_grad_(), torch.arange(3.0).requires_grad_()
    optimizer = torch.optim.SGD([{"params": [second], "lr": 1.0}, {"params": [first], "lr": 2.0}])
    kept = keep_members(optimizer, torch.tensor([2, 0]))
    assert [value.tolist() for value in kept] == [[2.0, 0.0], [[4.0, 5.0], [0.0, 1.0]]]
    assert all(value.requires_grad and value.is_leaf for value in kept)
    assert [group["params"][0] is value for group, value in zip(optimizer.param_groups, kept, strict=True)] == [
        True
    ] * 2
