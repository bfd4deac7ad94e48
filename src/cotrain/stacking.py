"""Networks of one architecture as one: their weights stacked, run by one vectorised forward pass."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from cotrain.model import random_state_kept
from cotrain.stacked_layers import Stacked, is_written_out, run, stacked_linear
from cotrain.task import Batch, TaskSet

__all__ = ["Stack", "activation_bytes", "why_not_stackable"]


Result = TypeVar("Result", Tensor, tuple[Tensor, Tensor])


class Stack:
    """G networks of one architecture.

    Args:
        networks: The networks; they are copied.
        tasks: What they predict.

    Attributes:
        parameters: Trainable parameters by name, each [G, *shape], leaves of the autograd graph.
    """

    def __init__(self, networks: Sequence[nn.Module], tasks: TaskSet) -> None:
        self._tasks = tasks
        self._written_out = is_written_out(networks[0])
        self._network = deepcopy(networks[0]) if self._written_out else _with_stackable_linears(networks[0])
        stacked, self._constants = stack_module_state(list(networks))
        self.parameters: dict[str, Tensor] = {}
        for name, value in stacked.items():
            if value.requires_grad:
                self.parameters[name] = value.detach().requires_grad_()
            else:
                self._constants[name] = value

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def map(self, inputs: Any, result: Callable[[Tensor], Result], *, train: bool) -> Result:
        """Run all networks on the same inputs.

        Args:
            inputs: What one network takes.
            result: From one network's packed outputs [B, O] to what is wanted of them, a tensor or several.
            train: Whether dropout is on, with another mask for each network.

        Returns:
            The results of all networks, stacked: [G, ...].
        """
        self._network.train(train)
        if self._written_out:
            outputs = run(self._network, {**self.parameters, **self._constants}, Stacked(inputs, False)).value
            return torch.vmap(lambda own: result(self._tasks.pack(own)))(outputs)

        def one(parameters: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> Result:
            return result(self._tasks.pack(functional_call(self._network, {**parameters, **constants}, (inputs,))))

        # One transformation for forward pass and losses: on small networks each costs as much as a layer.
        return torch.vmap(one, randomness="different")(self.parameters, self._constants)

    def keep(self, members: Tensor, parameters: Iterable[Tensor]) -> None:
        """Reduce the stack to some networks.

        Args:
            members: [G'] positions to keep.
            parameters: The kept parameters [G', ...], in the order of `parameters`.
        """
        self.parameters = dict(zip(self.parameters, parameters, strict=True))
        self._constants = {name: value[members] for name, value in self._constants.items()}


def why_not_stackable(network: nn.Module, tasks: TaskSet, batch: Batch) -> str | None:
    """Why networks of this architecture cannot be stacked; None if they can.

    Tries it: a training step without its update and an evaluation of two copies on a small batch.
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        return "the module has no trainable parameter"

    def losses(outputs: Tensor) -> Tensor:
        return tasks.losses(outputs, batch.targets)

    with random_state_kept():
        stack = Stack([network, network], tasks)
        before = {name: value.clone() for name, value in network.named_buffers()}
        probe = deepcopy(network).train()
        try:
            probe(batch.inputs)
            changed = [name for name, value in probe.named_buffers() if not torch.equal(value, before[name])]
            if changed:
                return f"its forward pass updates buffers ({changed[0]}), as BatchNorm does"
            with warnings.catch_warnings():
                # Where an operation lacks a batching rule, vmap runs it network by network: slower than no stack.
                warnings.filterwarnings("error", message="There is a performance drop")
                stack.map(batch.inputs, losses, train=True).sum().backward()
                with torch.no_grad():
                    stack.map(batch.inputs, losses, train=False)
        except (RuntimeError, ValueError, TypeError, NotImplementedError, UserWarning) as error:
            return f"it cannot be vectorised ({str(error).splitlines()[0]})"
    return None


def activation_bytes(network: nn.Module, batch: Batch) -> int:
    """Bytes that one network's forward pass on this batch keeps for the backward pass."""
    network = deepcopy(network).train()
    own = {parameter.data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with random_state_kept(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = network(batch.inputs)
        del outputs
    return sum(kept.values())


def _with_stackable_linears(network: nn.Module) -> nn.Module:
    """A copy whose linear layers run as one product per layer for all networks.

    The batching rule of PyTorch copies the shared input of the first layer once per network and adds the bias
    in a pass of its own: for a stack of 30 64-64 networks at batch 256 half of the step (profiled, torch 2.13).
    """
    network = deepcopy(network)
    for module in network.modules():
        if type(module) is nn.Linear:
            module.forward = _LinearCall(module)  # type: ignore[method-assign, assignment]
    return network


class _LinearCall:
    """Stands for the forward method of one linear layer."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer

    def __call__(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = _StackableLinear.apply(inputs, self._layer.weight, self._layer.bias)  # type: ignore[no-untyped-call]
        return outputs


class _StackableLinear(torch.autograd.Function):
    """A linear layer whose batching rule is one (batched) matrix product with the bias inside."""

    @staticmethod
    def forward(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(inputs, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept: only the batching rule is used, and autograd follows the operations inside it."""

    @staticmethod
    def vmap(
        info: Any,  # noqa: ARG004 - of the protocol
        in_dims: tuple[int | None, ...],
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> tuple[Tensor, int]:
        """Stacked weights [G, O, I] and inputs [..., I] (shared) or [G, ..., I] (their own) to [G, ..., O]."""
        shared = in_dims[0] is None
        values = inputs if in_dims[0] is None else inputs.movedim(in_dims[0], 0)
        return stacked_linear(Stacked(values, not shared), weight, bias).value, 0
