"""projected_gradients with 64 directions, batch 256, 15 and 100 tasks, against forward mode and three in reverse.

The networks are CNNs on images of 28 x 28: one with two strided 3 x 3 convolutions and a layer of 24 (20,088 shared
parameters), one with two 5 x 5 convolutions, pooling and a layer of 64 (19,872). The loop of published code runs the
batch forward and then takes one backward pass per sample and task through the graph of the whole batch, projecting
each gradient. A careful loop runs every sample forward alone, so that its backward passes are short. Both are timed
on 8 samples of the batch, and their times for all 256 are extrapolated. vmap over samples of reverse mode takes all
tasks' gradients, in chunks of 64 samples (all at once they would be 2 GB for 100 tasks). Forward mode, a pass per
direction, is what projected_gradients falls back to. The ways' values are compared, too, on those 8 samples.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from bench_fleet import _cnn
from side_by_side import Comparison, arguments, compare, finish
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from cotrain import Batch, SharedTrunk, Task, TaskSet
from cotrain.affinity.directional import directional_derivatives
from cotrain.affinity.projected_gradients import projected_gradients
from cotrain.affinity.sample_outputs import SampleOutputs
from cotrain.affinity.sign_directions import SignDirections
from cotrain.model import shared_parameters

BATCH, FEW, CHUNK, DIRECTIONS = 256, 8, 64, 64
PROJECTED, FORWARD, VMAP = "projected_gradients", "forward mode, parameters named", "vmap of reverse mode"
LOOP, CAREFUL = f"the published loop over {FEW} samples", f"a careful loop over {FEW} samples"


def main() -> None:
    """Time 15 and 100 tasks."""
    chosen = arguments(__doc__)
    found: list[Comparison] = []
    for (name, (trunk, width)), n_tasks in itertools.product(CASES.items(), (15, 100)):
        case = f"{name}, {n_tasks} tasks"
        ways = _ways(trunk(), width, n_tasks)
        loop = ways[LOOP]()
        for way in (PROJECTED, FORWARD, VMAP, CAREFUL):
            difference = (ways[way]()[:, :FEW] - loop).abs().max() / loop.abs().max()
            print(f"{case}, {way}: largest difference from the loop, relative to the scale: {difference:.1e}")
        found += [_extrapolated(pair) for pair in compare(case, ways, chosen.rounds)]
    finish(found, chosen)


def _extrapolated(pair: Comparison) -> Comparison:
    if pair.against not in (LOOP, CAREFUL):
        return pair
    factor = BATCH / FEW
    whole = replace(
        pair,
        against=f"{pair.against}, extrapolated to {BATCH}",
        ratio=pair.ratio * factor,
        low=pair.low * factor,
        high=pair.high * factor,
    )
    print(whole, flush=True)
    return whole


def _ways(trunk: nn.Module, width: int, n_tasks: int) -> dict[str, Callable[[], Tensor]]:
    torch.manual_seed(0)
    tasks = [Task(f"task-{number}", "binary") for number in range(n_tasks)]
    model = SharedTrunk(trunk, tasks, width)
    targets = (torch.rand(BATCH, n_tasks) > 0.5).float()
    batch = Batch(torch.arange(BATCH), torch.randn(BATCH, 1, 28, 28), targets)
    shared = shared_parameters(model, tasks, batch)
    print(f"{n_tasks} tasks, {sum(value.numel() for value in shared.values())} shared parameters")
    return {
        PROJECTED: lambda: projected_gradients(model, tasks, batch, directions=DIRECTIONS),
        "the same, parameters named": lambda: projected_gradients(
            model, tasks, batch, directions=DIRECTIONS, parameters=shared
        ),
        FORWARD: lambda: _forward_mode(model, tasks, batch, shared),
        VMAP: lambda: _vmapped(model, batch.inputs, shared),
        LOOP: lambda: _looped(model(batch.inputs)[:FEW], shared),
        CAREFUL: lambda: _looped([model(sample[None])[0] for sample in batch.inputs[:FEW]], shared),
    }


def _forward_mode(model: nn.Module, tasks: list[Task], batch: Batch, shared: dict[str, nn.Parameter]) -> Tensor:
    numbers = SampleOutputs(TaskSet(tasks), batch.targets)

    def of_parameters(values: Mapping[str, Tensor]) -> Tensor:
        outputs: Tensor = functional_call(model, dict(values), (batch.inputs,))
        return numbers(outputs)

    directions = SignDirections(0, DIRECTIONS, shared)
    found = directional_derivatives(of_parameters, shared, directions, numbers.labelled)
    return found.permute(2, 1, 0) / DIRECTIONS**0.5


def _vmapped(model: nn.Module, inputs: Tensor, shared: dict[str, nn.Parameter]) -> Tensor:
    values = {name: value.detach() for name, value in shared.items()}
    projection = _projection(shared)

    def outputs(point: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(model, point, (sample[None],))[0]

    parts = []
    with torch.no_grad():
        for samples in inputs.split(CHUNK):
            gradients = vmap(jacrev(outputs), in_dims=(None, 0))(values, samples)
            parts.append(sum(gradients[name].flatten(2) @ projection[name] for name in projection))
    return torch.cat(parts).transpose(0, 1)


def _looped(outputs: Sequence[Tensor] | Tensor, shared: dict[str, nn.Parameter]) -> Tensor:
    projection = torch.cat(list(_projection(shared).values()))
    rows = []
    for output in (output for of_sample in outputs for output in of_sample):
        gradients = torch.autograd.grad(output, list(shared.values()), retain_graph=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]) @ projection)
    return torch.stack(rows).view(len(outputs), -1, DIRECTIONS).transpose(0, 1)


def _projection(shared: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """P by parameter, [number of entries, directions]."""
    parts = [part for _, part in SignDirections(0, DIRECTIONS, shared).chunks(16)]
    return {name: torch.cat([part[name] for part in parts]).flatten(1).T / DIRECTIONS**0.5 for name in shared}


def _pooled() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.ReLU(),
    )


CASES = {"strided CNN": (partial(_cnn, 24), 24), "pooled CNN": (_pooled, 64)}

if __name__ == "__main__":
    main()
