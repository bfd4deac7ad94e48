"""What Lightning Fabric puts around a model and an optimizer: its precision is kept, its own backward pass is not."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from cotrain.task import Batch, Outputs

if TYPE_CHECKING:
    from lightning_fabric.plugins.precision import Precision

__all__ = ["in_precision_of", "outputs_of", "plain_optimizer", "scale_of", "scaler_of"]


def outputs_of(model: nn.Module, inputs: object) -> Outputs:
    """Run a model in its precision, as its own call does; in Fabric's without the demand for `fabric.backward`.

    Fabric watches the backward pass of whatever its module gives, and refuses all but its own: of one loss, into
    `.grad`. Gradients of single tasks are none of these.

    Raises:
        ValueError: If the backward pass is a strategy's or a precision's own, as DeepSpeed's is.
    """
    precision = _precision(model)
    if precision is None:
        found: Outputs = model(inputs)
        return found
    from lightning_fabric.plugins.precision import MixedPrecision, Precision

    kind = type(precision)
    changed = [name for name in _BACKWARD if getattr(kind, name) is not getattr(Precision, name)]
    if changed and kind is not MixedPrecision:
        raise ValueError(
            f"An aggregation takes the gradients of single tasks, and Fabric's {kind.__name__} has a backward pass of"
            " its own. Use one of the precisions 32-true, bf16-mixed, 16-mixed, bf16-true or 64-true, and a strategy"
            " that keeps whole parameters on every device."
        )
    with precision.forward_context():
        outputs = model._forward_module(precision.convert_input(inputs))  # type: ignore[operator]
    converted: Outputs = precision.convert_output(outputs)
    return converted


def in_precision_of(model: nn.Module, batch: Batch) -> Batch:
    """The batch as the module inside takes it: where Fabric keeps parameters in its precision, inputs are cast too."""
    precision = _precision(model)
    if precision is None:
        return batch
    from lightning_fabric.plugins.precision import MixedPrecision

    if isinstance(precision, MixedPrecision):
        return batch
    return replace(batch, inputs=precision.convert_input(batch.inputs))


def scaler_of(model: nn.Module) -> GradScaler | None:
    """The scaler with which Fabric trains in float16; None in every other precision."""
    return getattr(_precision(model), "scaler", None)


def scale_of(scaler: GradScaler | None, device: torch.device) -> float:
    """By how much gradients are to be multiplied now; a scaler that is used for the first time begins."""
    return 1.0 if scaler is None else float(_scaled_one(scaler, device))


def plain_optimizer(optimizer: Optimizer | None) -> Optimizer | None:
    """The user's optimizer inside Fabric's, which cannot be copied to try its step; any other one as it is."""
    if optimizer is None or not _wrapped(optimizer, "_FabricOptimizer"):
        return optimizer
    inside: Optimizer = optimizer.optimizer  # type: ignore[attr-defined]
    return inside


_BACKWARD = "pre_backward", "backward", "post_backward"


def _precision(model: nn.Module) -> "Precision | None":
    return model._strategy.precision if _wrapped(model, "_FabricModule") else None  # type: ignore[union-attr, return-value]


def _wrapped(one: nn.Module | Optimizer, kind: str) -> bool:
    """Whether Fabric wrapped it. Who wraps has loaded Fabric, which takes seconds: nobody else need wait for that."""
    wrappers = sys.modules.get("lightning_fabric.wrappers")
    return wrappers is not None and isinstance(one, getattr(wrappers, kind))


def _scaled_one(scaler: GradScaler, device: torch.device) -> Tensor:
    one: Tensor = scaler.scale(torch.ones((), device=device))
    return one
