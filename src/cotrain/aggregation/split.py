"""Which parameters serve several tasks and get a combination, and which serve one and get its own gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from cotrain.aggregation.graph_leaves import leaves_of
from cotrain.aggregation.wrappers import unwrapped
from cotrain.model import shared_parameters
from cotrain.own_memory import with_own_memory
from cotrain.task import Batch, TaskSet

__all__ = ["Split", "add_to_grad", "reached_by", "split_parameters", "trainable_names"]


@dataclass(frozen=True)
class Split:
    """A model's trainable parameters by name: those that serve several tasks, and the rest."""

    shared: dict[str, nn.Parameter]
    own: dict[str, nn.Parameter]


def split_parameters(model: nn.Module, tasks: TaskSet, batch: Batch, known: Sequence[str] | None) -> Split:
    """The shared parameters and the rest, of the module inside any wrapper.

    Args:
        model: Any module, also wrapped by DDP, Lightning Fabric or `torch.compile`.
        tasks: The tasks.
        batch: Samples by which to find what is shared, if that is not known.
        known: Names of the shared parameters, as found before for the same trainable ones; None to find them.

    Raises:
        ValueError: If several tasks share no parameter.
    """
    module = unwrapped(model)
    trainable = {name: value for name, value in module.named_parameters() if value.requires_grad}
    if len(tasks) == 1:
        return Split({}, trainable)
    if known is None:
        known = list(shared_parameters(module, tasks, batch))
    if not known:
        raise ValueError(
            f"No trainable parameter serves two of the tasks {list(tasks.names)}, so there are no gradients to combine."
            " Train the tasks by themselves, or let them share a part of the model that is not frozen."
        )
    shared = {name: trainable[name] for name in known}
    return Split(shared, {name: value for name, value in trainable.items() if name not in shared})


def trainable_names(model: nn.Module) -> list[str]:
    """The names of the trainable parameters of the module inside any wrapper."""
    return [name for name, value in unwrapped(model).named_parameters() if value.requires_grad]


def reached_by(outputs: Tensor, parameters: Mapping[str, nn.Parameter]) -> list[str]:
    """The parameters that stand in the graph of some outputs."""
    leaves = {id(leaf) for leaf in leaves_of(outputs)}
    return [name for name, value in parameters.items() if id(value) in leaves]


def add_to_grad(parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
    """Add gradients to `.grad`, as `loss.backward()` does; parameters without a gradient are left alone.

    To be called once for all parameters of a step, none of which then shares memory with another one.
    """
    values = [parameters[name] for name in gradients]
    shaped = [part.view_as(value).to(value.dtype) for value, part in zip(values, gradients.values(), strict=True)]
    for value, gradient in zip(values, with_own_memory(shaped), strict=True):
        assert gradient is not None, "a gradient that is given stays one"
        value.grad = gradient if value.grad is None else value.grad.add_(gradient)
