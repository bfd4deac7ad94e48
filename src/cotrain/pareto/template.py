"""A user's module without its weights: what it computes, run with any weights, in any thread, and built anew."""

import copy
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cotrain.task import Outputs

__all__ = ["NORMS", "Template", "require_mappable"]

NORMS = nn.modules.batchnorm._NormBase
"""Layers with running statistics: BatchNorm and InstanceNorm of every dimension, and synchronised BatchNorm."""


class Template:
    """The structure of a module: its classes, attributes, hooks and ties, with tensors that hold no numbers.

    `functional_call` puts the weights into the module while it runs, so two threads must not share one: each gets a
    copy of the structure.

    Args:
        module: Any module; it is copied, and stays as it is. Parameters and buffers are not copied. Layers in eval mode
            while it is in training mode stay so.
    """

    def __init__(self, module: nn.Module) -> None:
        blanks: dict[int, Any] = {
            id(value): nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=value.requires_grad)
            for value in module.parameters()
        }
        blanks |= {id(value): torch.empty_like(value, device="meta") for value in module.buffers()}
        self._module: nn.Module = copy.deepcopy(module, blanks)
        # Such as BatchNorm with the statistics of its pretraining.
        self.frozen = [name for name, layer in module.named_modules() if module.training and not layer.training]
        self.parameter_names = {name: tuple(value.shape) for name, value in module.named_parameters()}
        self.buffer_names = tuple(name for name, _ in module.named_buffers())
        # Resolved once: functional_call would look for tied tensors anew at every call (a third of its time).
        self._aliases = _aliases(module)
        self._of_thread = threading.local()

    @property
    def statistics(self) -> tuple[str, ...]:
        """The names of running statistics: buffers of normalising layers that are not frozen in eval mode."""
        return tuple(
            f"{prefix}.{name}".lstrip(".")
            for prefix, layer in self._module.named_modules()
            if isinstance(layer, NORMS) and layer.track_running_stats and prefix not in self.frozen
            for name, _ in layer.named_buffers(recurse=False)
        )

    @property
    def has_sparse_gradients(self) -> bool:
        """Whether a layer (an embedding with `sparse=True`) gives sparse gradients, which a mixture cannot pass on."""
        return any(getattr(layer, "sparse", False) is True for layer in self._module.modules())

    def run(self, tensors: Mapping[str, Tensor], inputs: object, *, training: bool) -> Outputs:
        """The module's outputs with these parameters and buffers, all of them, by name; buffers may be written to."""
        module = self._copy_of_thread()
        if module.training != training:
            module.train(training)
            for name in self.frozen:
                module.get_submodule(name).eval()
        named = {alias: tensors[name] for alias, name in self._aliases.items()}
        outputs: Outputs = functional_call(module, named, (inputs,), tie_weights=False)
        return outputs

    def build(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """A module of the user's own class that holds these tensors (not copies), in eval mode.

        Args:
            tensors: Every parameter and buffer by name. A tied one is given once.
        """
        filled: dict[int, Any] = {
            id(blank): nn.Parameter(tensors[name], requires_grad=blank.requires_grad)
            for name, blank in self._module.named_parameters()
        }
        filled |= {id(blank): tensors[name] for name, blank in self._module.named_buffers()}
        return copy.deepcopy(self._module, filled).eval()

    def _copy_of_thread(self) -> nn.Module:
        module: nn.Module | None = getattr(self._of_thread, "module", None)
        if module is None:
            module = self._of_thread.module = copy.deepcopy(self._module)
        return module

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_of_thread"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _of_thread=threading.local())


def _aliases(module: nn.Module) -> dict[str, str]:
    """Every name of every parameter and buffer, and the first name of the same tensor."""
    found: dict[str, str] = {}
    for members in (module.named_parameters, module.named_buffers):
        first = {id(value): name for name, value in members()}
        found |= {name: first[id(value)] for name, value in members(remove_duplicate=False)}
    return found


def require_mappable(module: nn.Module) -> None:
    """Refuse a module whose state cannot be mixed by name.

    Raises:
        ValueError: If there is no parameter, or one is sparse, quantised or not materialised; with the names.
    """
    values = dict(module.named_parameters()) | dict(module.named_buffers())
    lazy = [name for name, value in values.items() if nn.parameter.is_lazy(value)]
    if lazy:
        raise ValueError(f"The parameters {lazy} have no shape yet. Run the module once on a batch before it is given.")
    odd = [name for name, value in values.items() if value.layout != torch.strided or value.is_quantized]
    odd += [name for name, layer in module.named_modules() if ".quantized" in type(layer).__module__]
    if odd:
        raise ValueError(
            f"The state of {odd} is sparse or quantised, and weights in that form cannot be mixed. Make it dense"
            " (.to_dense(), .dequantize()), and quantise what is exported."
        )
    if not any(True for _ in module.parameters()):
        raise ValueError(f"{type(module).__name__} has no parameter, so there is nothing to mix.")
