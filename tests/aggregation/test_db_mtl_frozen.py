"""DB-MTL remembers a gradient per parameter, and parameters come and go."""

import torch

from cotrain import Batch, Task, TaskSet
from cotrain.aggregation import DBMTL


class _Three(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.heads = torch.nn.Linear(4, 6), torch.nn.Linear(6, 5), torch.nn.Linear(5, 3)

    def forward(self, inputs):
        return self.heads(torch.tanh(self.second(torch.tanh(self.first(inputs)))))


def test_db_mtl_when_a_layer_is_frozen_and_unfrozen():
    """What it remembers of the other layers is kept; with a layer that joins it starts anew."""
    tasks, generator = TaskSet(Task(name, "binary") for name in "abc"), torch.Generator().manual_seed(0)
    batches = [
        Batch(
            torch.arange(16), torch.randn(16, 4, generator=generator), torch.ones(16, 3).bernoulli_(generator=generator)
        )
        for _ in range(3)
    ]

    def direction(aggregation, model, batch):
        model.zero_grad()
        aggregation.backward(model, tasks, batch)
        return [None if value.grad is None else value.grad.clone() for value in model.parameters()]

    model, aggregation, frozen_early = _Three(), DBMTL(), DBMTL()
    direction(aggregation, model, batches[0])
    model.first.requires_grad_(False)
    direction(frozen_early, model, batches[0])
    torch.testing.assert_close(direction(aggregation, model, batches[1]), direction(frozen_early, model, batches[1]))
    resumed = DBMTL()
    resumed.load_state_dict({**aggregation.state_dict(), "shared": None})  # what is shared is found again
    model.first.requires_grad_(True)
    torch.testing.assert_close(direction(resumed, model, batches[2]), direction(DBMTL(), model, batches[2]))
