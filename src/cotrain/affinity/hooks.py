"""What an instrument must find and check before it measures."""

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from cotrain.lookahead import Rule
from cotrain.model import shared_parameters
from cotrain.step_response import holds_any
from cotrain.task import Batch, TaskSet

__all__ = ["require_units", "shared_by_name"]


def require_units(tasks: TaskSet, instrument: str) -> None:
    """Refuse regression tasks without units: `fit` trains in standard units, and the losses would be others.

    Raises:
        ValueError: If a regression task has no scale.
    """
    without = [task.name for task in tasks if task.kind == "regression" and task.scale is None]
    if without:
        raise ValueError(
            f"fit trains regression tasks in standard units, which {without} do not have here."
            f" Make the {instrument} with tasks.with_units(training_targets)."
        )


def shared_by_name(
    model: nn.Module, tasks: TaskSet, batch: Batch, known: Sequence[str] | None, rule: Rule, consequence: str
) -> dict[str, nn.Parameter]:
    """The trainable parameters that serve two or more tasks.

    Args:
        model: The model that is measured.
        tasks: Its tasks.
        batch: Samples to find them by, if they are not known.
        known: Their names, as found before.
        rule: What moves them.
        consequence: What it means for the measurement if there are none, for the message.

    Raises:
        ValueError: If there are none, or the rule is an optimizer that holds none of them.
    """
    names = list(shared_parameters(model, tasks, batch)) if known is None else known
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    shared = {name: trainable[name] for name in names if name in trainable}
    if not shared:
        raise ValueError(
            f"No trainable parameter of the model serves two or more of the {len(tasks)} tasks, so {consequence}."
            " Use a model with a shared trunk, and check what is frozen."
        )
    if isinstance(rule, Optimizer) and not holds_any(rule, shared.values()):
        raise ValueError(
            f"The {type(rule).__name__} holds none of the model's shared parameters, so its step moves nothing."
            " Give the optimizer that trains this very model."
        )
    return shared
