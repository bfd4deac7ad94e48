import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cotrain import Task, TaskSet
from cotrain.kernels import NO_CLASS


def absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.sum(1) - targets).abs()


def focal(outputs: Tensor, targets: Tensor) -> Tensor:
    probability = torch.sigmoid(outputs.squeeze(1))
    return -((1 - probability) ** 2) * torch.where(targets > 0, probability.log(), (1 - probability).log())


def class_distance(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.softmax(1) * (torch.arange(outputs.shape[1]) - targets.unsqueeze(1)) ** 2).sum(1)


FORMS = ("binary", "multiclass", "regression", "wide regression", "custom", "own binary", "own multiclass")


def make_task(name: str, form: str, width: int) -> Task:
    units = {"location": 3.0 + width, "scale": 0.5 * width}
    return {
        "binary": Task(name, "binary"),
        "multiclass": Task(name, "multiclass", width + 1),
        "regression": Task(name, "regression", **units),
        "wide regression": Task(name, "regression", width + 1, **units),
        "custom": Task(name, "custom", width, loss=absolute),
        "own binary": Task(name, "binary", loss=focal),
        "own multiclass": Task(name, "multiclass", width + 1, loss=class_distance),
    }[form]


def make_target(task: Task, n: int, generator: torch.Generator) -> Tensor:
    if task.kind == "binary":
        target = torch.randint(0, 2, (n,), generator=generator).double()
    elif task.kind == "multiclass":
        target = torch.randint(0, task.n_outputs, (n,), generator=generator).double()
    else:
        shape = (n, task.n_outputs) if task.kind == "regression" and task.n_outputs > 1 else (n,)
        target = 3 * torch.randn(shape, generator=generator).double()
    share = float(torch.rand((), generator=generator))
    missing = torch.rand(target.shape, generator=generator) < share
    if task.kind in ("binary", "multiclass") and share > 0.5:
        return target.masked_fill(missing, NO_CLASS)
    return target.masked_fill(missing, torch.nan)


@st.composite
def problems(draw) -> tuple[TaskSet, dict[str, Tensor], dict[str, Tensor]]:
    """Tasks of mixed kinds with outputs and targets by name, in double precision."""
    forms = draw(st.lists(st.tuples(st.sampled_from(FORMS), st.integers(1, 3)), min_size=1, max_size=7))
    n = draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    tasks = TaskSet(make_task(f"t{number}", *form) for number, form in enumerate(forms))
    outputs = {task.name: 2 * torch.randn(n, task.n_outputs, generator=generator).double() for task in tasks}
    return tasks, outputs, {task.name: make_target(task, n, generator) for task in tasks}


def plain_loss(task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
    """One task, sample by sample, as one would write it down."""
    values = []
    for output, target in zip(outputs, targets, strict=True):
        is_class = task.kind in ("binary", "multiclass")
        if bool(torch.isnan(target).any()) or (is_class and float(target) == NO_CLASS):
            continue
        if task.loss is not None:
            values.append(task.loss(output.unsqueeze(0), target.unsqueeze(0)).squeeze(0))
        elif task.kind == "binary":
            values.append(-torch.log(torch.sigmoid(output[0] if target == 1 else -output[0])))
        elif task.kind == "multiclass":
            values.append(output.exp().sum().log() - output[int(target)])
        else:
            values.append(((output - (target - task.location) / task.scale) ** 2).mean())
    return torch.stack(values).mean() if values else 0 * outputs.sum()


def loss_and_gradient(tasks: TaskSet, outputs: Mapping[str, Tensor], targets, weights: Tensor) -> tuple[Tensor, Tensor]:
    leaves = {name: value.clone().requires_grad_() for name, value in outputs.items()}
    losses = tasks.losses(leaves, targets)
    gradients = torch.autograd.grad(losses @ weights, list(leaves.values()), allow_unused=True)
    return losses.detach(), torch.cat([g.flatten() for g in gradients])


@given(problems())
def test_losses_and_gradients_are_those_of_a_plain_loop(problem):
    tasks, outputs, targets = problem
    weights = torch.arange(1, len(tasks) + 1).double()
    losses, gradient = loss_and_gradient(tasks, outputs, targets, weights)
    leaves = {name: value.clone().requires_grad_() for name, value in outputs.items()}
    plain = torch.stack([plain_loss(task, leaves[task.name], targets[task.name]) for task in tasks])
    plain_gradients = torch.autograd.grad(plain @ weights, list(leaves.values()))
    torch.testing.assert_close(losses, plain.detach())
    torch.testing.assert_close(gradient, torch.cat([g.flatten() for g in plain_gradients]))


@given(problems())
def test_packed_outputs_and_target_columns_say_the_same(problem):
    tasks, outputs, targets = problem
    losses = tasks.losses(outputs, targets)
    packed = torch.cat([outputs[name] for name in tasks.names], dim=1)
    assert torch.equal(tasks.losses(packed, targets), losses)
    if all(target.dim() == 1 for target in targets.values()):
        columns = torch.stack([targets[name] for name in tasks.names], dim=1)
        assert torch.equal(tasks.losses(packed, columns), losses)
        assert torch.equal(tasks.losses(outputs, columns), losses)


@given(problems(), st.randoms(use_true_random=False))
def test_permuting_tasks_permutes_losses(problem, random):
    tasks, outputs, targets = problem
    order = list(range(len(tasks)))
    random.shuffle(order)
    permuted = TaskSet(tasks[number] for number in order)
    torch.testing.assert_close(permuted.losses(outputs, targets), tasks.losses(outputs, targets)[order])


@given(problems())
def test_a_sample_without_a_label_neither_counts_nor_gets_a_gradient(problem):
    tasks, outputs, targets = problem
    leaves = {name: value.clone().requires_grad_() for name, value in outputs.items()}
    values, labelled = tasks.sample_losses(leaves, targets)
    gradients = torch.autograd.grad(values.sum(), list(leaves.values()))
    assert bool((values[~labelled] == 0).all())
    for number, gradient in enumerate(gradients):
        assert bool((gradient[~labelled[:, number]] == 0).all())


@pytest.mark.parametrize("form", FORMS)
def test_a_task_without_labels_has_loss_zero_and_no_gradient(form):
    task = make_task("t", form, 2)
    outputs = torch.full((5, task.n_outputs), 1e4, requires_grad=True)
    shape = (5, task.n_outputs) if form == "wide regression" else (5,)
    losses = TaskSet([task]).losses(outputs, {"t": torch.full(shape, torch.nan)})
    losses.sum().backward()
    assert losses.tolist() == [0.0]
    assert bool((outputs.grad == 0).all())


def test_an_own_loss_with_infinite_slope_at_the_stand_in_target_gives_no_nan_gradient():
    def relative(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(1) - targets).abs() / targets

    outputs = torch.ones(3, 1, requires_grad=True)
    tasks = TaskSet([Task("t", "custom", loss=relative)])
    losses = tasks.losses(outputs, torch.tensor([[2.0], [math.nan], [4.0]]))
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([(0.5 + 0.75) / 2])
    assert outputs.grad.flatten().tolist() == [-0.25, 0.0, -0.125]


def test_a_wide_target_counts_only_if_every_dimension_is_labelled():
    tasks = TaskSet([Task("t", "regression", 2)])
    targets = {"t": torch.tensor([[1.0, 3.0], [5.0, math.nan]])}
    values, labelled = tasks.sample_losses(torch.zeros(2, 2), targets)
    assert values.flatten().tolist() == [5.0, 0.0]
    assert labelled.flatten().tolist() == [True, False]


def test_class_numbers_may_be_integers():
    tasks = TaskSet([Task("a", "binary"), Task("b", "multiclass", 3), Task("c", "multiclass", 2, loss=class_distance)])
    outputs = torch.randn(4, 6)
    whole = {name: torch.tensor([0, 1, NO_CLASS, 1]) for name in tasks.names}
    floats = {name: target.float().masked_fill(target == NO_CLASS, math.nan) for name, target in whole.items()}
    assert torch.equal(tasks.losses(outputs, whole), tasks.losses(outputs, floats))


@given(problems(), st.integers(1, 4))
def test_losses_work_under_vmap(problem, n_networks):
    tasks, outputs, targets = problem
    packed = torch.cat([outputs[name] for name in tasks.names], dim=1)
    many = torch.stack([packed + number for number in range(n_networks)])
    together = torch.vmap(lambda one: tasks.losses(one, targets))(many)
    torch.testing.assert_close(together, torch.stack([tasks.losses(one, targets) for one in many]))


def test_losses_that_were_first_asked_for_inside_a_transformation_stay_usable():
    targets = torch.tensor([[0.0, 1.0, 2.0]])
    for first in (torch.inference_mode, torch.no_grad):
        tasks = TaskSet([Task("a", "binary"), Task("b", "multiclass", 2), Task("c", "regression")])
        with first():
            tasks.losses(torch.zeros(1, 4), targets)
        outputs = torch.zeros(1, 4, requires_grad=True)
        tasks.losses(outputs, targets).sum().backward()
        assert bool((outputs.grad != 0).all())
    tasks = TaskSet(tasks)
    torch.vmap(torch.func.grad(lambda one: tasks.losses(one, targets).sum()))(torch.zeros(2, 1, 4))
    torch.testing.assert_close(tasks.losses(torch.zeros(1, 4), targets), torch.tensor([math.log(2), math.log(2), 4.0]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_losses_are_at_least_float32(dtype):
    tasks = TaskSet(make_task(form, form, 2) for form in FORMS)
    generator = torch.Generator().manual_seed(0)
    targets = {task.name: make_target(task, 8, generator).float() for task in tasks}
    outputs = torch.randn(8, tasks.n_outputs, generator=generator).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        inside = tasks.losses(outputs, targets)
    outside = tasks.losses(outputs, targets)
    assert inside.dtype == outside.dtype == torch.float32
    torch.testing.assert_close(inside, outside)
    torch.testing.assert_close(outside, tasks.losses(outputs.float(), targets))


class CountOperations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += 1
        return func(*args, **(kwargs or {}))


def n_operations(n_tasks: int) -> int:
    kinds = ("binary", "multiclass", "regression")
    tasks = TaskSet(
        Task(f"t{number}", kinds[number % 3], 2 + number % 4 if number % 3 == 1 else 1) for number in range(n_tasks)
    )
    outputs = torch.randn(4, tasks.n_outputs, requires_grad=True)
    targets = torch.ones(4, n_tasks)
    tasks.losses(outputs, targets)  # the layout is made once
    with CountOperations() as count:
        tasks.losses(outputs, targets).sum().backward()
    return count.number


def test_the_number_of_kernels_does_not_grow_with_the_number_of_tasks():
    assert n_operations(10) == n_operations(1000) > 0


def test_a_target_per_task_is_asked_for():
    tasks = TaskSet([Task("a", "binary"), Task("b", "regression")])
    with pytest.raises(ValueError, match=r"no targets for task 'b'. Got targets for \['a'\]"):
        tasks.losses(torch.zeros(2, 2), {"a": torch.zeros(2)})


@pytest.mark.parametrize("shape", [(2,), (2, 3), (1, 2), (2, 2, 1)])
@pytest.mark.parametrize("loss", [None, absolute])
def test_target_columns_must_fit(shape, loss):
    tasks = TaskSet([Task("a", "regression", loss=loss), Task("b", "regression", loss=loss)])
    with pytest.raises(ValueError, match=r"Targets must have the shape \[2, 2\]"):
        tasks.losses(torch.zeros(2, 2), torch.zeros(shape))


def test_a_wide_target_does_not_fit_into_a_column():
    with pytest.raises(ValueError, match=r"Tasks \['a'\] have several dimensions: give targets as"):
        TaskSet([Task("a", "regression", 2)]).losses(torch.zeros(3, 2), torch.zeros(3, 1))


def test_an_own_loss_must_give_one_value_per_sample():
    tasks = TaskSet([Task("a", "custom", loss=lambda outputs, targets: (outputs.squeeze(1) - targets).mean())])
    with pytest.raises(ValueError, match=r"task 'a' must return one value per sample, \[3\]. Got \[\]"):
        tasks.losses(torch.zeros(3, 1), torch.zeros(3, 1))
