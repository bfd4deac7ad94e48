"""How far an optimizer's step moves each parameter against a small gradient: its first order in the gradient."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from cotrain.lookahead import Rule, groups_by_parameter, has_closed_form

__all__ = ["holds_any", "rate_of", "responses"]


def responses(parameters: Mapping[str, nn.Parameter], rule: Rule) -> dict[str, Tensor] | None:
    """How far a step moves each parameter against a small gradient of 1: the step's first order in the gradient.

    The rate for a plain step; for SGD and Adam the derivative of the step at zero gradient, so lr (1 - beta1) /
    (sqrt(v) + eps) with their corrections for Adam, where v is what the optimizer has seen so far.

    Args:
        parameters: By name; with an optimizer, the very objects that it holds.
        rule: An optimizer, or the rate of a plain gradient step.

    Returns:
        By name, in each parameter's shape and never negative; 0 for a parameter that the optimizer does not hold.
        None if the step has no such form: another optimizer, or Adam before its first step.
    """
    if not isinstance(rule, Optimizer):
        return {name: torch.full_like(value, rule) for name, value in parameters.items()}
    if not has_closed_form(rule):
        return None
    groups = groups_by_parameter(rule)
    adaptive = not isinstance(rule, SGD)
    if adaptive and any(id(value) in groups and not rule.state.get(value) for value in parameters.values()):
        return None
    response = _adam_response if adaptive else _sgd_response
    return {
        name: response(value.detach(), groups[id(value)], rule.state.get(value, {}))
        if id(value) in groups
        else torch.zeros_like(value)
        for name, value in parameters.items()
    }


def holds_any(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> bool:
    """Whether a step of the optimizer moves any of the parameters."""
    held = groups_by_parameter(optimizer)
    return any(id(value) in held for value in parameters)


def rate_of(rule: Rule) -> float:
    """The one learning rate of a step.

    Raises:
        ValueError: If parameters have different ones.
    """
    rates = {float(group["lr"]) for group in rule.param_groups} if isinstance(rule, Optimizer) else {rule}
    if len(rates) > 1:
        raise ValueError(f"per_rate needs one learning rate for all parameters. Got {sorted(rates)}.")
    return rates.pop()


def _sgd_response(value: Tensor, group: Mapping[str, Any], state: Mapping[str, Any]) -> Tensor:
    response, momentum = 1.0, group["momentum"]
    if momentum:
        velocity = 1.0 if state.get("momentum_buffer") is None else 1 - group["dampening"]
        response = 1 + momentum * velocity if group["nesterov"] else velocity
    return torch.full_like(value, group["lr"] * response)


def _adam_response(value: Tensor, group: Mapping[str, Any], state: Mapping[str, Any]) -> Tensor:
    lr, (beta1, beta2), count = group["lr"], group["betas"], state["step"].double() + 1
    scale = (beta2 * state["exp_avg_sq"] / (1 - beta2**count)).sqrt() + group["eps"]
    response: Tensor = lr * (1 - beta1) / (1 - beta1**count) / scale
    return response.to(value.dtype)
