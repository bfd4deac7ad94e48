"""The members of a manifold: stacked parameters by name, and their mixture at a preference, in three forms."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from cotrain.pareto.low_rank import LowRank, PerSample

__all__ = ["Form", "FullMembers", "LowRankMembers", "Members", "ResidualMembers", "stored"]

Form = Literal["full", "residual", "lora"]


def stored(name: str) -> str:
    """A parameter's name as a name in a ParameterDict, which allows no dots, nor names of its methods ("keys").

    A slash of its own is doubled, so that no two parameters have one name.
    """
    return "/" + name.replace("/", "//").replace(".", "/")


class Members(nn.Module):
    """Parameters that depend on the preference.

    Args:
        shapes: By name, in the module that is mixed.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.shapes = dict(shapes)

    @property
    def dense_names(self) -> tuple[str, ...]:
        """Those that are mixed before the module runs, for all preferences at once."""
        return tuple(self.shapes)

    def mixed(self, preferences: Tensor) -> dict[str, Tensor]:
        """The parameters of `dense_names` at several preferences [n, K]: {name: [n, *shape]}.

        One matrix product per parameter (.23 ms for Census's MLP at four preferences, where a sum of scaled copies
        takes 7 ms). Autocast rounds weights where they are used, not here.
        """
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            return self._mixed(preferences)

    def operands(self, preference: Tensor) -> dict[str, Tensor]:  # noqa: ARG002 - of forms that have any
        """The other parameters at one preference [K], or at one per sample [B, K]."""
        return {}

    def _mixed(self, preferences: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError


class FullMembers(Members):
    """theta(a) = sum_k a_k theta_k: K whole copies (Pareto Manifold Learning, arXiv 2210.09759).

    Args:
        stacks: {name: [K, *shape]}, the members at the start.
    """

    def __init__(self, stacks: Mapping[str, Tensor]) -> None:
        super().__init__({name: tuple(stack.shape[1:]) for name, stack in stacks.items()})
        self.stacks = _parameters(stacks)

    def _mixed(self, preferences: Tensor) -> dict[str, Tensor]:
        return {name: _combined(preferences, self.stacks[stored(name)]) for name in self.shapes}


class ResidualMembers(Members):
    """theta(a) = theta_0 + sum_k a_k D_k, D = 0 at the start: members that begin as one network, and share a base.

    Args:
        base: {name: [*shape]}.
        n_members: K.
    """

    def __init__(self, base: Mapping[str, Tensor], n_members: int) -> None:
        super().__init__({name: tuple(value.shape) for name, value in base.items()})
        self.base = _parameters(base)
        self.residuals = _parameters({name: value.new_zeros(n_members, *value.shape) for name, value in base.items()})

    def _mixed(self, preferences: Tensor) -> dict[str, Tensor]:
        return {
            name: self.base[stored(name)] + _combined(preferences, self.residuals[stored(name)]) for name in self.shapes
        }


class LowRankMembers(Members):
    """W(a) = W_0 + [B_1 .. B_K] diag(a x 1_r) [A_1; ..; A_K]: cost grows by r, not by copies (PaLoRA, 2407.08056).

    B = 0 and A random at the start, so that the manifold begins as the base at every preference. A tensor of more
    than two dimensions (a convolution's) is taken as [first, all others]. What the factors would not make smaller,
    such as biases and normalisations, has full residuals.

    Args:
        base: {name: [*shape]}.
        n_members: K.
        rank: r, of one member.
        generator: Of A.
    """

    def __init__(self, base: Mapping[str, Tensor], n_members: int, rank: int, generator: torch.Generator) -> None:
        super().__init__({name: tuple(value.shape) for name, value in base.items()})
        self.rank = rank
        factored = {
            name: value.reshape(len(value), -1)
            for name, value in base.items()
            if value.dim() > 1 and rank * (len(value) + value[0].numel()) < value.numel()
        }
        self.base = _parameters(base)
        rest = {name: value for name, value in base.items() if name not in factored}
        self.residuals = _parameters({name: value.new_zeros(n_members, *value.shape) for name, value in rest.items()})
        width = n_members * rank
        self.up = _parameters({name: value.new_zeros(len(value), width) for name, value in factored.items()})
        self.down = _parameters({name: _like_linear(value, width, generator) for name, value in factored.items()})

    @property
    def dense_names(self) -> tuple[str, ...]:
        """Convolutions and full residuals; matrices are operands."""
        return tuple(name for name, shape in self.shapes.items() if stored(name) not in self.up or len(shape) > 2)

    def _mixed(self, preferences: Tensor) -> dict[str, Tensor]:
        found = {}
        for name in self.dense_names:
            key = stored(name)
            base = self.base[key]
            if key in self.residuals:
                found[name] = base + _combined(preferences, self.residuals[key])
            else:
                gates = self._gates(preferences, base).unsqueeze(1)
                found[name] = base + ((self.up[key] * gates) @ self.down[key]).view(-1, *base.shape)
        return found

    def operands(self, preference: Tensor) -> dict[str, Tensor]:
        """Matrices as low-rank operands; with a preference per sample also full residuals, as one value per sample."""
        found: dict[str, Tensor] = {}
        for name, shape in self.shapes.items():
            key = stored(name)
            if key in self.up and len(shape) == 2:
                base = self.base[key]
                found[name] = LowRank(base, self.up[key], self.down[key], self._gates(preference, base))
        if preference.dim() > 1:
            found |= {name: PerSample(values) for name, values in self.mixed(preference).items()}
        return found

    def _gates(self, preference: Tensor, like: Tensor) -> Tensor:
        return preference.to(like).repeat_interleave(self.rank, dim=-1)


def _combined(preferences: Tensor, stack: Tensor) -> Tensor:
    mixed = preferences.to(stack) @ stack.reshape(len(stack), -1)
    return mixed.view(-1, *stack.shape[1:])


def _parameters(tensors: Mapping[str, Tensor]) -> nn.ParameterDict:
    return nn.ParameterDict({stored(name): nn.Parameter(value.detach().clone()) for name, value in tensors.items()})


def _like_linear(base: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """[width, in] uniform as the weights of `nn.Linear` are at first."""
    bound = 1 / math.sqrt(base.shape[1])
    drawn = torch.empty(width, base.shape[1]).uniform_(-bound, bound, generator=generator)
    return drawn.to(base)
