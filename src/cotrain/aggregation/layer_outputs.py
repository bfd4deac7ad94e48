"""What a model's layers gave in a training step's forward pass, so that a pass along a direction need not ask again."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["LayerOutputs"]

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Their outputs cost a matrix product each. Only these very classes: a subclass may do anything with its weight."""


class LayerOutputs:
    """Records the outputs of linear and convolution layers, by their weights, from its making to `stop`.

    Inside `torch.compile` nothing is recorded, nor where a weight is used without its layer. An output that the model
    changes in place (`ReLU(inplace=True)`, `x += y`) is not kept: its numbers are gone, and a replay would change them
    again, in the very tensors that the step's backward passes need. Copies of all outputs would cost every other model.

    Args:
        module: Whose layers; what they give stays in memory as long as this.
    """

    def __init__(self, module: nn.Module) -> None:
        self._outputs: dict[int, list[tuple[Tensor, int]]] = {}
        self._handles: list[RemovableHandle] = [
            layer.register_forward_hook(self._keep) for layer in module.modules() if type(layer) in LAYERS
        ]

    def stop(self) -> None:
        """Record nothing more; a second call does nothing."""
        while self._handles:
            self._handles.pop().remove()

    def for_replay(
        self, moving: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]
    ) -> dict[int, list[Tensor | None]]:
        """The outputs in the order in which they came, by the id of the weight in a replay; None for one to compute.

        Args:
            moving: What stands in the place of some parameters there, by name.
            parameters: These parameters.
        """
        instead = {id(value): id(moving[name]) for name, value in parameters.items() if name in moving}
        return {
            instead.get(key, key): [value if value._version == version else None for value, version in outputs]
            for key, outputs in self._outputs.items()
        }

    def _keep(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:  # noqa: ARG002
        self._outputs.setdefault(id(layer.weight), []).append((output.detach(), output._version))
