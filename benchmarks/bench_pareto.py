"""What a Pareto manifold costs: steps in plain steps, memory, looking at a front, exporting a point.

Both sides use fused Adam. Peak memory is that of a process of its own that holds inputs of Census-Income's size (as
random numbers) and trains for 20 steps on a batch, and how much of it came with the training.
Use: python benchmarks/bench_pareto.py [--json FILE] [--rounds 21] [--cases census lenet lora front export memory]
"""

import argparse
import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from pareto_census import Network
from pareto_multifashion import LeNet
from side_by_side import Comparison, arguments, compare, finish
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset

from cotrain import Batch, Task, TaskSet, evaluate
from cotrain.optimizers import adam
from cotrain.pareto import ParetoManifold, ParetoObjective

BATCH = 256
CENSUS_ROWS, CENSUS_COLUMNS = 159_616, 468
STEPS_OF_MEMORY = 20
POINTS = 11


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    chosen = arguments(__doc__, parser)
    found = [comparison for case in chosen.cases for comparison in CASES[case](chosen.rounds)]
    finish(found, chosen)


def _census(rounds: int) -> list[Comparison]:
    return compare(
        "Census, step",
        {
            "a plain step": _plain_step(*_census_setting()),
            "4 rays, split": _manifold_step(*_census_setting()),
            "4 rays, split, losses not balanced": _manifold_step(*_census_setting(), balance="none"),
            "4 rays, split, and a mean of the weights": _manifold_step(*_census_setting(), averaged=True),
        },
        rounds,
    ) + compare(
        "Census, forward and backward",
        {
            "two plain passes": _passes(*_census_setting(), 2),
            "2 rays in full": _manifold_pass(*_census_setting(), rays=2, split=False),
            "4 rays, split": _manifold_pass(*_census_setting()),
        },
        rounds,
    )


def _lenet(rounds: int) -> list[Comparison]:
    tasks, batch = _classes(2, 10), _batch((1, 28, 28), 2, 10)
    return compare(
        "LeNet on MultiFashion, step",
        {
            "a plain step": _plain_step(LeNet(1), tasks, batch),
            "4 rays, split": _manifold_step(LeNet(1), tasks, batch, members="^trunk"),
            "4 rays in full": _manifold_step(LeNet(1), tasks, batch, members="^trunk", split=False),
        },
        rounds,
    )


def _lora(rounds: int) -> list[Comparison]:
    plain, tasks, _ = _many_tasks_setting()
    manifold = ParetoManifold(plain, tasks, "lora", rank=4, members="^[02]")
    sizes = [sum(value.numel() for value in model.parameters()) for model in (plain, manifold)]
    print(f"parameters: {sizes[0]:,} and {sizes[1]:,} with 40 members of rank 4: {sizes[1] / sizes[0]:.2f}x")
    return compare(
        "40 tasks, rank 4, step",
        {
            "a plain step": _plain_step(*_many_tasks_setting()),
            "4 rays, split": _manifold_step(*_many_tasks_setting(), form="lora", members="^[02]"),
        },
        rounds,
    )


def _front(rounds: int) -> list[Comparison]:
    found = []
    for name, shape, module, samples in (
        ("Census MLP, tensors", (CENSUS_COLUMNS,), Network(CENSUS_COLUMNS), _samples((CENSUS_COLUMNS,), 20_000, 2)),
        (
            "Census MLP, a dataset",
            (CENSUS_COLUMNS,),
            Network(CENSUS_COLUMNS),
            _Bytes(*_samples((CENSUS_COLUMNS,), 20_000, 2)),
        ),
        ("LeNet, tensors", (1, 28, 28), LeNet(1), _samples((1, 28, 28), 4_000, 10)),
        ("LeNet, a dataset", (1, 28, 28), LeNet(1), _Bytes(*_samples((1, 28, 28), 4_000, 10))),
    ):
        tasks = _classes(2, 10 if len(shape) > 1 else 2)
        manifold = ParetoManifold(module, tasks).eval()
        points = torch.stack([torch.linspace(1, 0, POINTS), torch.linspace(0, 1, POINTS)], dim=1)

        def separate(manifold: ParetoManifold = manifold, points: Tensor = points, samples=samples) -> None:
            for point in points:
                evaluate(manifold.export(point), manifold.tasks, samples)

        found += compare(
            f"Front of {POINTS} points, {name}",
            {
                "front": lambda manifold=manifold, samples=samples: manifold.front(samples, POINTS),
                "export and evaluate each": separate,
            },
            max(rounds // 3, 3),
        )
    return found


def _export(rounds: int) -> list[Comparison]:
    module = nn.Sequential(nn.Linear(2000, 2500), nn.ReLU(), nn.Linear(2500, 2000), nn.ReLU(), nn.Linear(2000, 4))
    manifold = ParetoManifold(module, _classes(2, 2), members="all")
    copies = {name: value.clone() for name, value in module.state_dict().items()}
    found = compare(
        "A point of 10 million parameters",
        {
            "export": lambda: manifold.export([0.3, 0.7]),
            "copying the weights": lambda: {name: value.clone() for name, value in copies.items()},
        },
        rounds,
    )
    print(f"    one export takes {1000 * found[0].seconds:.0f} ms")
    return found


def _memory(rounds: int) -> list[Comparison]:
    del rounds
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for kind in STEPS_IN_MEMORY:
            file = Path(folder) / kind
            process = context.Process(target=_peak, args=(kind, file))
            process.start()
            process.join()
            total, before = (int(word) for word in file.read_text().split())
            print(f"{kind}: peak {total / 2**20:.2f} GiB, {(total - before) / 2**10:.0f} MiB of it training")
    return []


def _peak(kind: str, file: Path) -> None:
    torch.set_num_threads(1)
    inputs = torch.rand(CENSUS_ROWS, CENSUS_COLUMNS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = STEPS_IN_MEMORY[kind]()
    for _ in range(STEPS_OF_MEMORY):
        step()
    del inputs
    file.write_text(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss} {before}")


def _census_setting() -> tuple[nn.Module, TaskSet, Batch]:
    return Network(CENSUS_COLUMNS), _classes(2, 2), _batch((CENSUS_COLUMNS,), 2, 2)


def _many_tasks_setting(count: int = 40) -> tuple[nn.Module, TaskSet, Batch]:
    tasks = TaskSet([Task(f"t{number}", "binary") for number in range(count)])
    return _million(500, count), tasks, _batch((500,), count, 2)


def _plain_step(model: nn.Module, tasks: TaskSet, batch: Batch) -> Callable[[], None]:
    optimizer = adam()(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        tasks.losses(model(batch.inputs), batch.targets).sum().backward()
        optimizer.step()

    return step


def _passes(model: nn.Module, tasks: TaskSet, batch: Batch, number: int) -> Callable[[], None]:
    def passes() -> None:
        model.zero_grad()
        for _ in range(number):
            tasks.losses(model(batch.inputs), batch.targets).sum().backward()

    return passes


def _manifold_step(
    module: nn.Module, tasks: TaskSet, batch: Batch, *, averaged: bool = False, **options
) -> Callable[[], None]:
    manifold, backward = _manifold_and_pass(module, tasks, batch, options)
    optimizer = adam()(manifold.parameters())
    mean = AveragedModel(manifold, multi_avg_fn=get_ema_multi_avg_fn(0.999)) if averaged else None

    def step() -> None:
        optimizer.zero_grad()
        backward()
        optimizer.step()
        if mean is not None:
            mean.update_parameters(manifold)

    return step


def _manifold_pass(module: nn.Module, tasks: TaskSet, batch: Batch, **options) -> Callable[[], None]:
    manifold, backward = _manifold_and_pass(module, tasks, batch, options)

    def passes() -> None:
        manifold.zero_grad()
        backward()

    return passes


def _manifold_and_pass(
    module: nn.Module, tasks: TaskSet, batch: Batch, options: dict
) -> tuple[ParetoManifold, Callable[[], object]]:
    shape = {name: options.pop(name) for name in ("form", "members", "rank") if name in options}
    manifold = ParetoManifold(module, tasks, **shape)
    objective = ParetoObjective(manifold, **options)
    return manifold, lambda: objective.backward(batch)


def _million(n_inputs: int, n_outputs: int) -> nn.Module:
    """About a million parameters."""
    return nn.Sequential(nn.Linear(n_inputs, 800), nn.ReLU(), nn.Linear(800, 720), nn.ReLU(), nn.Linear(720, n_outputs))


def _classes(count: int, n_classes: int) -> TaskSet:
    return TaskSet([Task(f"task {number}", "multiclass", n_classes) for number in range(count)])


def _samples(shape: tuple[int, ...], number: int, n_classes: int, n_tasks: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(number, *shape, generator=generator)
    return inputs, torch.randint(0, n_classes, (number, n_tasks), generator=generator).float()


def _batch(shape: tuple[int, ...], n_tasks: int, n_classes: int) -> Batch:
    return Batch(torch.arange(BATCH), *_samples(shape, BATCH, n_classes, n_tasks))


class _Bytes(Dataset):
    """Samples that are decoded one by one when they are asked for, as those of a folder of images are."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = (255 * inputs).byte(), targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index].float() / 255, self.targets[index]


STEPS_IN_MEMORY: dict[str, Callable[[], Callable[[], None]]] = {
    "Census, plain": lambda: _plain_step(*_census_setting()),
    "Census, manifold": lambda: _manifold_step(*_census_setting()),
    "40 tasks, plain": lambda: _plain_step(*_many_tasks_setting()),
    "40 tasks, rank 4": lambda: _manifold_step(*_many_tasks_setting(), form="lora", members="^[02]"),
}

CASES: dict[str, Callable[[int], list[Comparison]]] = {
    "census": _census, "lenet": _lenet, "lora": _lora, "front": _front, "export": _export, "memory": _memory,
}  # fmt: skip

if __name__ == "__main__":
    main()
