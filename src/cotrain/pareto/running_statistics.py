"""BatchNorm's running statistics as a function of the preference: learnt at anchors, interpolated between them.

Statistics that are averaged over the random preferences of a training are those of no network: in a toy with
BatchNorm they cost the corners half of their accuracy.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cotrain.batches import batches, count, map_tensors
from cotrain.pareto.front_evaluation import FrontSamples
from cotrain.pareto.low_rank import plain
from cotrain.pareto.members import stored
from cotrain.pareto.preference import simplex_lattice
from cotrain.pareto.template import NORMS

if TYPE_CHECKING:
    from cotrain.pareto.manifold import ParetoManifold

__all__ = ["RunningStatistics", "surrounding_anchors"]

Statistics = dict[str, Tensor]

DIVISIONS = {1: 1, 2: 10, 3: 4, 4: 3, 5: 2}
"""Steps along an edge of the default lattices: 1, 11, 15, 20 and 15 anchors; beyond five names the corners alone."""
BATCH = 512
AT_ONCE = 16
"""Networks that are held at the same time while statistics are learnt."""


class RunningStatistics(nn.Module):
    """Running means and variances at a lattice of preferences.

    Args:
        module: The module, for the statistics that a training forward pass starts from.
        names: Of its running statistics; none for a module without.
    """

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        for name in names:
            self.register_buffer(stored(name), module.get_buffer(name).detach().clone(), persistent=False)
        self.divisions: int | None = None
        self.at_anchors: dict[str, Tensor] = {}

    def scratch(self) -> Statistics:
        """Copies for a forward pass in training mode to write to; whatever was learnt before is now out of date."""
        if self.names:
            self.divisions, self.at_anchors = None, {}
        return self.scratch_copies()

    def at(self, preference: Tensor) -> Statistics:
        """Interpolated at a preference [K].

        Raises:
            ValueError: If they were not learnt since the last training step, or there is a preference per sample.
        """
        if not self.names:
            return {}
        if self.divisions is None:
            raise ValueError(
                f"The module keeps running statistics ({self.names[0]} and {len(self.names) - 1} more), and each"
                " preference needs its own. Call manifold.calibrate(training_samples) after training, or give"
                " recalibrate=training_samples."
            )
        if preference.dim() > 1:
            raise ValueError("Running statistics belong to one preference. Got one preference per sample.")
        rows, shares = surrounding_anchors(preference, self.divisions)
        # Of the dtype and device that the manifold has been moved to since.
        likes = {name: self.get_buffer(stored(name)) for name in self.names}
        return {name: _mean(stack[rows].to(likes[name]), shares) for name, stack in self.at_anchors.items()}

    def calibrate(self, manifold: "ParetoManifold", samples: FrontSamples, divisions: int | None, most: int) -> None:
        """Learn them at a lattice of preferences."""
        if not self.names:
            return
        divisions = divisions or DIVISIONS.get(len(manifold.names), 1)
        learnt = self.learnt(manifold, simplex_lattice(len(manifold.names), divisions), samples, most)
        self.divisions = divisions
        self.at_anchors = {name: torch.stack([one[name] for one in learnt]) for name in self.names}

    @torch.no_grad()
    def learnt(
        self, manifold: "ParetoManifold", preferences: Tensor, samples: FrontSamples, most: int = 10_000
    ) -> list[Statistics]:
        """Learn them at each of the preferences [n, K]: reset, then the average over batches, all else in eval mode."""
        if not self.names:
            return [{} for _ in preferences]
        found: list[Statistics] = []
        for part in preferences.split(AT_ONCE):
            networks = [self._network(manifold, weights) for weights in manifold.weights_at(part)]
            to_device = methodcaller("to", next(iter(manifold.parameters())).device)
            for part_of_inputs in _inputs(samples, most):
                inputs = map_tensors(part_of_inputs, to_device)
                for network in networks:
                    network(inputs)
            found += [{name: network.get_buffer(name) for name in self.names} for network in networks]
        return found

    def _network(self, manifold: "ParetoManifold", weights: Mapping[str, Tensor]) -> nn.Module:
        tensors = {name: plain(value) for name, value in weights.items()}
        network = manifold.template.build({**tensors, **manifold.fixed_by_name(), **self.scratch_copies()})
        for layer in {network.get_submodule(name.rpartition(".")[0]) for name in self.names}:
            assert isinstance(layer, NORMS)
            layer.reset_running_stats()
            layer.momentum = None  # the average over all batches, each with the same weight
            layer.train()
        return network

    def scratch_copies(self) -> Statistics:
        """As `scratch`, without forgetting anything."""
        return {name: self.get_buffer(stored(name)).clone() for name in self.names}

    def get_extra_state(self) -> dict[str, Any]:
        """What was learnt, for the `state_dict`."""
        return {"divisions": self.divisions, "at_anchors": dict(self.at_anchors)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Back from the `state_dict`."""
        self.divisions, self.at_anchors = state["divisions"], dict(state["at_anchors"])


def _inputs(samples: FrontSamples, most: int) -> Iterator[Any]:
    """Inputs of about the first `most` samples, in batches; of a DataLoader its own."""
    if isinstance(samples, DataLoader):
        seen = 0
        for inputs, targets in samples:
            yield inputs
            seen += len(next(iter(targets.values())) if isinstance(targets, Mapping) else targets)
            if seen >= most:
                return
        return
    number = min(count(samples), most)
    size = -(-number // -(-number // BATCH))  # even batches: BatchNorm cannot learn from a last one of 1
    for batch in batches(samples, size, torch.arange(number)):
        yield batch.inputs


def surrounding_anchors(preference: Tensor, divisions: int) -> tuple[Tensor, Tensor]:
    """The lattice points of the small simplex that a preference lies in, and its barycentric coordinates there.

    Freudenthal's triangulation: the steps from one lattice point to the next follow the order of the fractions of
    the cumulative sums. The weights are continuous in the preference, and 1 at a lattice point.

    Args:
        preference: [K].
        divisions: Of the lattice.

    Returns:
        Rows of `simplex_lattice(K, divisions)`, [K] integers, and weights [K] of sum 1.
    """
    count = len(preference)
    sums = divisions * preference.double().flip(0).cumsum(0).flip(0)[1:]
    floors = sums.floor()
    fractions, order = (sums - floors).sort(descending=True, stable=True)
    steps = torch.zeros(count, count - 1, dtype=torch.float64)
    for step, position in enumerate(order.tolist()):
        steps[step + 1 :, position] = 1
    corners = torch.cat([torch.full((count, 1), divisions), floors + steps, torch.zeros(count, 1)], dim=1)
    points = ((corners[:, :-1] - corners[:, 1:]) / divisions).to(preference.dtype)
    bounds = torch.cat([torch.ones(1), fractions, torch.zeros(1)])
    shares = bounds[:-1] - bounds[1:]
    lattice = simplex_lattice(count, divisions).to(preference)
    inside = shares > 0
    rows = torch.cdist(points[inside].double(), lattice.double()).argmin(dim=1)
    return rows, shares[inside]


def _mean(stack: Tensor, shares: Tensor) -> Tensor:
    if not stack.is_floating_point():
        return stack[0].clone()
    return (shares.to(stack).view(-1, *[1] * (stack.dim() - 1)) * stack).sum(0)
