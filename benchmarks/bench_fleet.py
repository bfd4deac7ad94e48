"""30 networks: trained as one fleet, one after another with `fit`, and one after another in a plain loop.

The plain loop is what a user would write: torch.optim.Adam as it comes, no checks. All three take the same steps.
"""

import itertools

import torch
import torch.nn.functional as F
from side_by_side import arguments, compare, finish
from torch import Tensor, nn

from cotrain import SharedTrunk, Task, fit, fit_fleet

NETWORKS, TASKS, STEPS = 30, 15, 40


def main() -> None:
    """Time the cases of the fleet's documentation."""
    chosen = arguments(__doc__)
    found = []
    for name, (trunk, width, shape, batch_size) in CASES.items():
        torch.manual_seed(0)
        n_samples = STEPS * batch_size
        inputs = torch.randn(n_samples, *shape)
        targets = (torch.rand(n_samples, TASKS) > 0.5).float()
        found += compare(name, _ways(trunk, width, (inputs, targets), batch_size), chosen.rounds)
    finish(found, chosen)


def _ways(trunk, width: int, train: tuple[Tensor, Tensor], batch_size: int):
    tasks = [Task(f"task-{number}", "binary") for number in range(TASKS)]
    rows = (torch.rand(NETWORKS, TASKS) > 0.5).float()
    rows[:, 0] = 1.0
    valid = tuple(part[:64] for part in train)

    def make_model() -> nn.Module:
        return SharedTrunk(trunk(), tasks, width)

    def as_fleet() -> None:
        fleet = fit_fleet(make_model, tasks, rows, train, valid, epochs=1, batch_size=batch_size)
        assert fleet.one_by_one is None, fleet.one_by_one

    def with_fit() -> None:
        for row in rows:
            fit(make_model(), tasks, train, valid, epochs=1, batch_size=batch_size, weights=row)

    def in_a_loop() -> None:
        for row in rows:
            _plain_training(make_model(), row, train, batch_size)

    return {"fit_fleet": as_fleet, "fit": with_fit, "a plain loop": in_a_loop}


def _plain_training(model: nn.Module, row: Tensor, train: tuple[Tensor, Tensor], batch_size: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for index in torch.randperm(len(train[0])).split(batch_size):
        losses = F.binary_cross_entropy_with_logits(model(train[0][index]), train[1][index], reduction="none").mean(0)
        optimizer.zero_grad()
        (losses * row).sum().backward()
        optimizer.step()


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers)


def _cnn(width: int = 64) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 49, width),
        nn.ReLU(),
    )


CASES = {
    "MLP 64-64, batch 64": (lambda: _mlp(64, 64, 64), 64, (64,), 64),
    "MLP 64-64, batch 256": (lambda: _mlp(64, 64, 64), 64, (64,), 256),
    "MLP 468-256, batch 64": (lambda: _mlp(468, 256), 256, (468,), 64),
    "MLP 468-256, batch 256": (lambda: _mlp(468, 256), 256, (468,), 256),
    "CNN 28x28, batch 64": (_cnn, 64, (1, 28, 28), 64),
    "CNN 28x28, batch 256": (_cnn, 64, (1, 28, 28), 256),
}

if __name__ == "__main__":
    main()
