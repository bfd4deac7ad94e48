"""What a step would do: hypothetical steps of any optimizer and the losses after them, nothing disturbed."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from cotrain.model import pure_forward, random_state_kept
from cotrain.task import Batch, TaskSet

__all__ = [
    "Rule",
    "describe",
    "displacements",
    "groups_by_parameter",
    "has_closed_form",
    "loss_slopes",
    "losses_at",
    "seeded",
    "task_gradients",
    "update",
]

Rule: TypeAlias = Optimizer | float
"""How a gradient becomes a step: an optimizer in its present state, or the rate of a plain gradient step."""


def update(parameters: Mapping[str, nn.Parameter], gradients: Mapping[str, Tensor], rule: Rule) -> dict[str, Tensor]:
    """The parameters after one step, as a pure function: the optimizer's state is read and never written.

    Args:
        parameters: By name; with an optimizer, the very objects that it holds.
        gradients: By the same names, each of its parameter's shape or [n, *shape] for n steps at once.
        rule: An optimizer, or the rate of a plain gradient step.

    Returns:
        New values in the shape of the gradients, equal to those of `optimizer.step()` up to rounding.

    Raises:
        ValueError: If the optimizer's step needs a closure.
    """
    moves = displacements(parameters, gradients, rule)
    return {name: (value.detach() + moves[name]).to(value.dtype) for name, value in parameters.items()}


def displacements(
    parameters: Mapping[str, nn.Parameter], gradients: Mapping[str, Tensor], rule: Rule
) -> dict[str, Tensor]:
    """What one step would add to the parameters.

    A closed form for SGD (momentum, dampening, Nesterov, weight decay), Adam and AdamW; another optimizer, a
    subclass, `maximize` or `amsgrad` steps on a deep copy of optimizer and parameters, once per gradient.
    A parameter that the optimizer does not hold stays where it is. With momentum, weight decay or Adam a zero
    gradient moves the parameters as well: the drift.

    Args:
        parameters: By name; with an optimizer, the very objects that it holds.
        gradients: By the same names, each of its parameter's shape or [n, *shape] for n steps at once.
        rule: An optimizer, or the rate of a plain gradient step.

    Raises:
        ValueError: If the optimizer's step needs a closure.
    """
    if not isinstance(rule, Optimizer):
        return {name: gradient * -rule for name, gradient in gradients.items()}
    if not has_closed_form(rule):
        return _steps_of_a_copy(parameters, gradients, rule)
    closed_form = _CLOSED_FORMS[type(rule)]
    groups = groups_by_parameter(rule)
    return {
        name: closed_form(value.detach(), gradients[name], groups[id(value)], rule.state.get(value, {}))
        if id(value) in groups
        else torch.zeros_like(gradients[name])
        for name, value in parameters.items()
    }


def groups_by_parameter(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """The group of every parameter, by its id: an optimizer knows its parameters by identity, not by name."""
    return {id(value): group for group in optimizer.param_groups for value in group["params"]}


def has_closed_form(optimizer: Optimizer) -> bool:
    """Whether its step is computed here, and not by a copy of it."""
    if type(optimizer) not in _CLOSED_FORMS:
        return False
    return not any(group["maximize"] or group.get("amsgrad") for group in optimizer.param_groups)


def losses_at(
    model: nn.Module, tasks: TaskSet, batch: Batch, parameters: Mapping[str, Tensor], *, seed: int
) -> tuple[Tensor, Tensor]:
    """All tasks' losses at other parameters; the module, its buffers and the random state stay as they are.

    The module is in whatever mode it is in. In training mode BatchNorm uses the batch's statistics, and dropout
    the masks that belong to the seed, so that two calls differ by their parameters only.

    Args:
        model: Any module.
        tasks: The tasks, in the order of the model's packed outputs.
        batch: The samples.
        parameters: Values by name; parameters that are not named are the module's own.
        seed: Of everything random in the forward pass.

    Returns:
        Mean losses [T] over the labelled samples, summed in float64 (0 for a task without labels), and whether
        the task has a label here, [T] booleans. With a graph where autograd is on.
    """
    values, labelled = tasks.sample_losses(_outputs(model, tasks, batch, parameters, seed), batch.targets)
    return _means(values, labelled), labelled.any(0)


def task_gradients(
    model: nn.Module, tasks: TaskSet, batch: Batch, parameters: Mapping[str, nn.Parameter], *, seed: int
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Every task's loss and its gradient: one forward pass and one backward pass per task; `.grad` stays as it is.

    The losses are differentiated by the outputs all at once, and every task's outputs by the parameters alone, so
    that a NaN in one task's loss does not reach the others (as 0 times NaN would through their common graph).
    A batched backward pass (`is_grads_batched`) is no substitute for the loop on a CPU: with 100 tasks it takes 0.9
    to 1.3 times as long through MLPs, and up to four times as long through convolutions.

    Args:
        model: Any module, in whatever mode it is in.
        tasks: The tasks, in the order of the model's packed outputs.
        batch: The samples.
        parameters: What to differentiate by, by name; the module's own.
        seed: Of everything random in the forward pass.

    Returns:
        Losses [T] and labels [T] as from `losses_at`, and by name the gradients [T, *shape] in float32 or better:
        0 for a task without labels or with a loss that is not finite.
    """
    with torch.enable_grad():
        outputs = _outputs(model, tasks, batch, parameters, seed)
    losses, present, by_outputs = loss_slopes(tasks, outputs, batch)
    wanted = present & torch.isfinite(losses)
    gradients = {
        name: torch.zeros(
            (len(tasks), *value.shape), dtype=torch.promote_types(value.dtype, torch.float32), device=value.device
        )
        for name, value in parameters.items()
    }
    for row in wanted.nonzero().flatten().tolist():
        own = torch.zeros_like(outputs)
        columns = tasks.slices[tasks.names[row]]
        own[:, columns] = by_outputs[:, columns]
        found = torch.autograd.grad(outputs, list(parameters.values()), own, retain_graph=True, allow_unused=True)
        for stack, gradient in zip(gradients.values(), found, strict=True):
            if gradient is not None:
                stack[row] = gradient.to_dense()
    return losses, present, gradients


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw everything from this seed while the body runs, and put the random state back."""
    with random_state_kept():
        # torch.manual_seed would also queue a seed for a CUDA that is not in use yet, which nobody could take back.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        yield


def loss_slopes(tasks: TaskSet, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Every task's mean loss and its derivative by the packed outputs, all tasks at once.

    A task's loss depends on its own columns alone, so a NaN in one reaches no other.

    Args:
        tasks: The tasks.
        outputs: [B, sum of n_outputs] that require a gradient; their graph is kept.
        batch: The samples.

    Returns:
        Losses [T] and labels [T] as from `losses_at`, without a graph, and the derivatives in the shape of the
        outputs: 0 for a task without labels or with a loss that is not finite.
    """
    with torch.enable_grad():
        values, labelled = tasks.sample_losses(outputs, batch.targets)
        losses, present = _means(values, labelled), labelled.any(0)
    wanted = (present & torch.isfinite(losses)).double()
    by_outputs = torch.autograd.grad(losses, outputs, wanted, retain_graph=True)[0]
    return losses.detach(), present, by_outputs


def describe(rule: Rule) -> str:
    """The rule in words, for a result: "Adam step, lr 0.001"."""
    if not isinstance(rule, Optimizer):
        return f"plain gradient step, lr {rule:g}"
    rates = sorted({float(group["lr"]) for group in rule.param_groups if "lr" in group})
    return f"{type(rule).__name__} step" + (f", lr {' and '.join(f'{rate:g}' for rate in rates)}" if rates else "")


def _outputs(model: nn.Module, tasks: TaskSet, batch: Batch, parameters: Mapping[str, Tensor], seed: int) -> Tensor:
    with seeded(seed):
        return tasks.pack(pure_forward(model, parameters, batch.inputs))


def _means(values: Tensor, labelled: Tensor) -> Tensor:
    """In float64: small changes of a mean are what is measured."""
    return values.double().sum(0) / labelled.sum(0).clamp(min=1)


def _sgd(value: Tensor, gradient: Tensor, group: Mapping[str, Any], state: Mapping[str, Any]) -> Tensor:
    if group["weight_decay"]:
        gradient = gradient + group["weight_decay"] * value
    momentum = group["momentum"]
    if momentum:
        buffer = state.get("momentum_buffer")
        velocity = gradient if buffer is None else momentum * buffer + (1 - group["dampening"]) * gradient
        gradient = gradient + momentum * velocity if group["nesterov"] else velocity
    move: Tensor = gradient * -group["lr"]
    return move


def _adam(
    value: Tensor, gradient: Tensor, group: Mapping[str, Any], state: Mapping[str, Any], decoupled: bool = False
) -> Tensor:
    lr, weight_decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
    decoupled = decoupled or group.get("decoupled_weight_decay", False)
    if weight_decay and not decoupled:
        gradient = gradient + weight_decay * value
    # The count is kept in float32, in which 1 - beta ** count would lose four digits at the first steps.
    count = float(state["step"]) + 1 if state else 1.0
    first, second = (state["exp_avg"], state["exp_avg_sq"]) if state else (torch.zeros_like(value),) * 2
    mean = torch.lerp(first.to(gradient.dtype), gradient, 1 - beta1)
    # From the state to the gradient: the other way the weight, 1 - beta2 in float32, would lose two digits.
    spread = torch.lerp(second.to(gradient.dtype), gradient.square(), 1 - beta2)
    # The bias correction of the root is taken out of it, which saves a pass over all numbers.
    correction = (1 - beta2**count) ** 0.5
    scale = spread.sqrt_().add_(group["eps"] * correction)
    move: Tensor = mean.div_(scale).mul_(-lr * correction / (1 - beta1**count))
    return move.sub_(lr * weight_decay * value) if weight_decay and decoupled else move


_CLOSED_FORMS: Mapping[type[Optimizer], Callable[..., Tensor]] = {
    SGD: _sgd,
    Adam: _adam,
    AdamW: partial(_adam, decoupled=True),
}


def _steps_of_a_copy(
    parameters: Mapping[str, nn.Parameter], gradients: Mapping[str, Tensor], optimizer: Optimizer
) -> dict[str, Tensor]:
    if all(gradients[name].dim() == value.dim() for name, value in parameters.items()):
        return _step_of_a_copy(parameters, gradients, optimizer)
    n = len(next(iter(gradients.values())))
    moves = [
        _step_of_a_copy(parameters, {name: gradients[name][k] for name in parameters}, optimizer) for k in range(n)
    ]
    return {name: torch.stack([move[name] for move in moves]) for name in parameters}


def _step_of_a_copy(
    parameters: Mapping[str, nn.Parameter], gradients: Mapping[str, Tensor], optimizer: Optimizer
) -> dict[str, Tensor]:
    copies: dict[int, Any] = {}
    twin = copy.deepcopy(optimizer, copies)
    for group in twin.param_groups:
        for value in group["params"]:
            value.grad = None
    held = {name: copies[id(value)] for name, value in parameters.items() if id(value) in copies}
    for name, value in held.items():
        value.grad = gradients[name].to(value.dtype)
    try:
        twin.step()
    except TypeError as error:
        raise ValueError(
            f"The step of {type(optimizer).__name__} cannot be tried out ({error}). An optimizer that needs a closure"
            " evaluates the losses itself: give lr= for a plain gradient step in its place."
        ) from error
    return {
        name: held[name].detach() - value.detach() if name in held else torch.zeros_like(gradients[name])
        for name, value in parameters.items()
    }
