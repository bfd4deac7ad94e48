"""Which parameters depend on the preference, and with what values the members start."""

import copy
import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from cotrain.model import SharedTrunk, random_state_kept, shared_parameters
from cotrain.task import Batch, TaskSet

__all__ = ["Init", "MemberChoice", "chosen_names", "first_members"]

MemberChoice: TypeAlias = str | Callable[[str], bool]
"""Either "auto", "all", "trunk", a regular expression, or a function of a parameter's name."""
Init = Literal["copy", "independent"]


def chosen_names(module: nn.Module, tasks: TaskSet, choice: MemberChoice, example: object | None) -> tuple[str, ...]:
    """The names of the parameters that depend on the preference.

    Args:
        module: Any module.
        tasks: Its tasks.
        choice: "all"; "trunk", what two or more tasks share; "auto", the trunk where it is known, else all; a regular
            expression that is searched in the names; or a function of the name. Frozen parameters never take part.
        example: A few inputs, by which the trunk is found; a `SharedTrunk` needs none.

    Raises:
        ValueError: If the trunk is asked for and not known, or no parameter is chosen.
    """
    names = [name for name, value in module.named_parameters() if value.requires_grad]
    if choice == "auto":
        choice = "trunk" if isinstance(module, SharedTrunk) or example is not None else "all"
    if choice == "all":
        chosen = names
    elif choice == "trunk":
        chosen = [name for name in names if name in _trunk(module, tasks, example)]
    elif callable(choice):
        chosen = [name for name in names if choice(name)]
    else:
        chosen = [name for name in names if re.search(choice, name)]
    if not chosen:
        raise ValueError(
            f"No trainable parameter is chosen by members={choice!r}. The trainable parameters are {names[:20]}."
        )
    return tuple(chosen)


def first_members(module: nn.Module, names: tuple[str, ...], count: int, init: Init, seed: int) -> dict[str, Tensor]:
    """{name: [count, *shape]}, copies of the module's own values, or each member drawn anew.

    Args:
        module: Any module; it stays as it is.
        names: Of the parameters.
        count: Members.
        init: "copy", or "independent": every layer's `reset_parameters` is called. What no layer resets (bare
            parameters) starts as a copy.
        seed: Of what is drawn.
    """
    values = dict(module.named_parameters())
    if init == "copy":
        return {name: values[name].detach().expand(count, *values[name].shape) for name in names}
    drawn = []
    with random_state_kept():
        torch.manual_seed(seed)
        for _ in range(count):
            member = _reset(module)
            drawn.append({name: torch.where(torch.isnan(member[name]), values[name], member[name]) for name in names})
    return {name: torch.stack([member[name].detach() for member in drawn]) for name in names}


@torch.no_grad()
def _reset(module: nn.Module) -> dict[str, Tensor]:
    """Parameters drawn anew by the module's own layers; NaN where no layer does."""
    anew = copy.deepcopy(module)
    for parameter in anew.parameters():
        parameter.fill_(torch.nan)
    for layer in reversed([*anew.modules()]):  # as when it was made: a module's own way comes after its layers'
        for method in ("reset_parameters", "_reset_parameters"):
            if callable(getattr(layer, method, None)):
                getattr(layer, method)()
    return dict(anew.named_parameters())


def _trunk(module: nn.Module, tasks: TaskSet, example: object | None) -> set[str]:
    if example is not None:
        batch = Batch(torch.arange(0), cast(Any, example), torch.empty(0, len(tasks)))
        return set(shared_parameters(module, tasks, batch))
    if isinstance(module, SharedTrunk):
        return {f"trunk.{name}" for name, _ in module.trunk.named_parameters()}
    raise ValueError(
        f"Which parameters of {type(module).__name__} the tasks share is found from its graph: give example=, a few"
        " inputs, or choose members='all', a regular expression or a function of the name."
    )
