import pytest
import torch
from small_transference import MIXED, mixed_batch
from torch import nn

from cotrain import SharedTrunk, shared_parameters
from cotrain.affinity import last_module
from cotrain.affinity.estimators import Place
from cotrain.affinity.last_module import last_module_gradients
from cotrain.affinity.loss_derivatives import LossDerivatives
from cotrain.lookahead import task_gradients


class NoBatchingRule(torch.autograd.Function):
    @staticmethod
    def forward(context, inputs):
        return inputs * 2

    @staticmethod
    def backward(context, gradient):
        return torch.from_numpy(gradient.numpy() * 2)


class Unbatched(nn.Module):
    def forward(self, inputs):
        return NoBatchingRule.apply(inputs)


TRUNKS = {
    "linear": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()),
    "norm": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Dropout(0.3)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3, padding=1), nn.Tanh(), nn.Conv1d(2, 2, 3), nn.Flatten()
    ),
    "no rule for batches": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), Unbatched()),
}


@pytest.mark.parametrize("elements", [1, 500, 2**22])
@pytest.mark.parametrize("name", TRUNKS)
def test_gradients_are_those_of_one_backward_pass_per_task(name, elements, monkeypatch):
    """In chunks of any size, with missing labels; a task without one has 0."""
    monkeypatch.setattr(last_module, "CHUNK_ELEMENTS", elements)
    torch.manual_seed(0)
    model, batch = SharedTrunk(TRUNKS[name](), MIXED, 8), mixed_batch()
    batch.targets[:, 1] = torch.nan
    place = Place(model, MIXED, batch, shared_parameters(model, MIXED, batch), 0.1, 3)
    names = list(place.parameters)[-2:]
    _, _, expected = task_gradients(model, MIXED, batch, place.parameters, seed=3)
    found = last_module_gradients(LossDerivatives.at(place, graph=True), names)
    for gradient, which in zip(found, names, strict=True):
        torch.testing.assert_close(gradient, expected[which], rtol=1e-5, atol=1e-7)
        assert gradient[1].eq(0).all()
    assert all(value.grad is None for value in model.parameters())
