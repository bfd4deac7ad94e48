"""One model that holds a continuum of trade-offs: the weights of any module as a function of a preference."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cotrain.pareto.front import Front
from cotrain.pareto.front_evaluation import FrontSamples
from cotrain.pareto.knobs import Groups, knobs_of
from cotrain.pareto.low_rank import plain
from cotrain.pareto.manifold_files import load, save
from cotrain.pareto.member_choice import Init, MemberChoice, chosen_names, first_members
from cotrain.pareto.members import Form, FullMembers, LowRankMembers, Members, ResidualMembers, stored
from cotrain.pareto.preference import Preference, as_preferences, preference_grid
from cotrain.pareto.preference_model import PreferenceModel
from cotrain.pareto.running_statistics import RunningStatistics
from cotrain.pareto.template import Template, require_mappable
from cotrain.task import Outputs, Task, as_tasks

__all__ = ["ParetoManifold"]


class ParetoManifold(PreferenceModel):
    """Any module with weights that follow the preference (Dimitriadis et al., ICML 2023, arXiv 2210.09759).

    The module itself is copied and stays as it is, bit for bit. Its parameters are held here by name, those that take
    part once per member, and the module's own forward runs with their mixture: no layer is replaced, so that
    attention, normalisation, tied weights and bare parameters work as they do without. Train it with
    `ParetoObjective` and any optimizer over `manifold.parameters()`.

    Args:
        module: Any module from inputs to packed outputs or {task name: tensor}.
        tasks: Its tasks.
        form: "full": a whole copy per member (as published); "residual": one base and a difference per member;
            "lora": one base and low-rank differences, at a cost that grows by the rank.
        members: Which parameters depend on the preference: "trunk" (what tasks share; the other parameters are one
            set for all preferences), "all", a regular expression, or a function of the name. "auto": the trunk where
            it is known (a `SharedTrunk`, or `example` is given), else all. With all, every member has heads for all
            tasks.
        init: "copy": members start as the module is, so that pretrained weights are kept; "independent": each is
            drawn anew, as published (form "full" only).
        rank: Of one member's differences, form "lora" only. 4 is what its authors use at most.
        groups: Groups of tasks that the preference is over, for more than a handful of tasks: a mapping, or a
            `Grouping`. Inside a group tasks count alike.
        example: A few inputs, by which the trunk of a module that is no `SharedTrunk` is found.
        seed: Of drawn weights.

    Raises:
        ValueError: If the module has sparse, quantised or lazy state, no parameter is chosen, or options do not fit.
    """

    def __init__(
        self,
        module: nn.Module,
        tasks: Iterable[Task],
        form: Form = "full",
        *,
        members: MemberChoice = "auto",
        init: Init = "copy",
        rank: int = 4,
        groups: Groups | None = None,
        example: object | None = None,
        seed: int = 0,
    ) -> None:
        require_mappable(module)
        tasks = as_tasks(tasks)
        super().__init__(tasks, knobs_of(tasks, groups))
        self.form: Form = form
        self.template = Template(module)
        self.member_names = chosen_names(module, self.tasks, members, example)
        self.members = _members(module, self.member_names, len(self.names), form, init, rank, seed)
        self.shared = nn.ParameterDict(
            {
                stored(name): nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad)
                for name, value in module.named_parameters()
                if name not in self.member_names
            }
        )
        self._shared_keys = {
            name: stored(name) for name in self.template.parameter_names if stored(name) in self.shared
        }
        self.statistics = RunningStatistics(module, self.template.statistics)
        self._buffer_keys = {
            name: stored(name) for name in self.template.buffer_names if name not in self.template.statistics
        }
        self.fixed = _Buffers({key: module.get_buffer(name) for name, key in self._buffer_keys.items()})
        self.train(module.training)

    def forward(self, inputs: object, preference: Preference) -> Outputs:
        """The module's outputs at a preference.

        Args:
            inputs: What the module takes.
            preference: [K] non-negative and of sum 1, or {name: share}; or [B, K], one for each sample, with form
                "lora" and members that are linear or embedding layers (the inner features' first dimension must be
                the samples).

        Raises:
            ValueError: If the preference is none, or the module has running statistics that were never calibrated
                (in eval mode).
        """
        wanted = as_preferences(preference, self.names)
        if wanted.dim() == 1:
            (weights,) = self.weights_at(wanted.unsqueeze(0))
        else:
            weights = self._weights_per_sample(wanted)
        statistics = {} if self.training else self.statistics.at(wanted)
        return self.run(weights, inputs, statistics)

    def weights_at(self, preferences: Tensor) -> list[dict[str, Tensor]]:
        """What the module runs with at each of n preferences [n, K]: parameters by name, with a graph where it is on.

        Those that do not depend on the preference are the same objects in all of them.
        """
        parts = {name: _rows(stack) for name, stack in self.members.mixed(preferences).items()}
        return [
            self.complete({name: part[row] for name, part in parts.items()}, preference)
            for row, preference in enumerate(preferences)
        ]

    def complete(self, mixed: Mapping[str, Tensor], preference: Tensor) -> dict[str, Tensor]:
        """Mixed parameters at one preference, and all others."""
        return {**mixed, **self.members.operands(preference), **self._shared_by_name()}

    def run(
        self, weights: Mapping[str, Tensor], inputs: object, statistics: Mapping[str, Tensor] | None = None
    ) -> Outputs:
        """Run the module with weights from `weights_at`.

        Args:
            weights: Every parameter by name.
            inputs: What the module takes.
            statistics: Running statistics by name; None in training, where those of a mixture of preferences would
                be those of none of them: what a forward pass makes of them is thrown away.
        """
        running = self.statistics.scratch() if self.training or statistics is None else dict(statistics)
        return self.template.run({**weights, **self.fixed_by_name(), **running}, inputs, training=self.training)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Groups for an optimizer: the members' differences at K times the rate in form "lora" (arXiv 2407.08056).

        A difference is seen through its share of the preference, 1 / K on average. In the other forms all
        parameters are one group.
        """
        if not isinstance(self.members, LowRankMembers):
            return [{"params": list(self.parameters()), "lr": learning_rate}]
        quick = [*self.members.up.values(), *self.members.down.values(), *self.members.residuals.values()]
        known = {id(value) for value in quick}
        slow = [value for value in self.parameters() if id(value) not in known]
        return [{"params": slow, "lr": learning_rate}, {"params": quick, "lr": learning_rate * len(self.names)}]

    def calibrate(self, samples: FrontSamples, *, divisions: int | None = None, most: int = 10_000) -> None:
        """Learn BatchNorm's running statistics at a lattice of preferences, between which they are interpolated.

        A module without running statistics needs none, and nothing is done.

        Args:
            samples: Training samples: a Dataset or DataLoader of (inputs, targets), or a pair of tensors.
            divisions: Steps along an edge; None: 10 for two names, 4 for three, 3 for four, 2 for five, 1 for more.
            most: Samples that are looked at, from the first on.
        """
        self.statistics.calibrate(self, samples, divisions, most)

    @torch.no_grad()
    def export(self, preference: Preference, *, recalibrate: "FrontSamples | None" = None) -> nn.Module:
        """A plain module of the user's own class at one preference: same names of weights, no trace of the manifold.

        Args:
            preference: [K], or {name: share}.
            recalibrate: Training samples by which running statistics are learnt at this very preference; None takes
                those of `calibrate`.

        Returns:
            In eval mode, with weights of its own.

        Raises:
            ValueError: If the preference is none, or the module has running statistics that were never calibrated.
        """
        wanted = as_preferences(preference, self.names)
        if wanted.dim() > 1:
            raise ValueError(f"An exported module has one preference. Got {len(wanted)}.")
        statistics = (
            self.statistics.at(wanted)
            if recalibrate is None
            else self.statistics.learnt(self, wanted.unsqueeze(0), recalibrate)[0]
        )
        (weights,) = self.weights_at(wanted.unsqueeze(0))
        held = {**self._shared_by_name(), **self.fixed_by_name()}
        copies = {name: value.detach().clone() for name, value in held.items()}
        mixed = {name: plain(value) for name, value in weights.items() if name not in held}
        return self.template.build({**mixed, **copies, **statistics})

    def front(
        self,
        samples: FrontSamples,
        preferences: int | Preference | None = None,
        *,
        recalibrate: "FrontSamples | None" = None,
        batch_size: int = 1024,
    ) -> Front:
        """Losses and metrics at many preferences, in one pass over the samples.

        The weights of all points are held at the same time: what depends on the preference, once per point.

        Args:
            samples: A Dataset or DataLoader of (inputs, targets), or a pair of tensors.
            preferences: How many, or which; see `preference_grid`.
            recalibrate: As in `export`, at each of the preferences.
            batch_size: Samples per forward pass.
        """
        grid = preference_grid(preferences, self.names)
        with torch.no_grad():
            weights = self.weights_at(grid)
            statistics = (
                [self.statistics.at(point) for point in grid]
                if recalibrate is None
                else self.statistics.learnt(self, grid, recalibrate)
            )
        points = zip(weights, statistics, strict=True)
        models = [partial(self.run, weights, statistics=running) for weights, running in points]
        return self._front(samples, grid, batch_size, models)

    def save(self, path: Path | str) -> None:
        """Write everything but the module's code as safetensors with JSON metadata; see `load`."""
        save(self, Path(path))

    @classmethod
    def load(cls, path: Path | str, module: nn.Module, tasks: Iterable[Task] | None = None) -> "ParetoManifold":
        """Read what `save` wrote; nothing in the file is executed.

        Args:
            path: The file.
            module: A module of the same architecture; its weights do not matter.
            tasks: Needed only if a task has a loss or metric of its own, which is code.

        Raises:
            ValueError: If the file is none of ours, or of another architecture, with the names that differ.
        """
        return load(cls, Path(path), module, None if tasks is None else as_tasks(tasks))

    def fixed_by_name(self) -> dict[str, Tensor]:
        """The buffers that do not depend on the preference: all but running statistics."""
        return {name: self.fixed[key] for name, key in self._buffer_keys.items()}

    def extra_repr(self) -> str:
        """Form, names, and how many parameters take part."""
        return f"form={self.form!r}, names={list(self.names)}, members={len(self.member_names)} parameters"

    def _shared_by_name(self) -> dict[str, Tensor]:
        return {name: self.shared[key] for name, key in self._shared_keys.items()}

    def _weights_per_sample(self, preferences: Tensor) -> dict[str, Tensor]:
        whole = [name for name in self.members.dense_names if len(self.members.shapes[name]) > 1]
        if self.form != "lora" or whole:
            of_lora = f" and {whole[:5]}, which are none or too small: take other members, or a lower rank"
            raise ValueError(
                "One preference per sample needs form 'lora' and members that are weights of linear and embedding"
                f" layers, large enough for low rank to make them smaller. Got form {self.form!r}"
                + (of_lora if self.form == "lora" else "")
                + ". Or give one preference for the batch."
            )
        return {**self.members.operands(preferences), **self._shared_by_name()}


def _rows(stack: Tensor) -> tuple[Tensor, ...]:
    """The rows of [n, ...]; a single one as a view that needs no copy on the way back."""
    return (stack.squeeze(0),) if len(stack) == 1 else stack.unbind(0)


class _Buffers(nn.Module):
    """Buffers by name that belong to the state."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        for key, value in values.items():
            self.register_buffer(key, value.detach().clone())

    def __getitem__(self, key: str) -> Tensor:
        return self.get_buffer(key)


def _members(
    module: nn.Module, names: tuple[str, ...], count: int, form: Form, init: Init, rank: int, seed: int
) -> Members:
    if init not in ("copy", "independent"):
        raise ValueError(f"init must be 'copy' or 'independent'. Got {init!r}.")
    if init == "independent" and form != "full":
        raise ValueError(f"init='independent' draws whole members, and form {form!r} has none: leave it out.")
    if rank < 1:
        raise ValueError(f"rank must be at least 1. Got {rank}.")
    base = {name: value.detach() for name, value in module.named_parameters() if name in names}
    if form == "full":
        return FullMembers(first_members(module, names, count, init, seed))
    if form == "residual":
        return ResidualMembers(base, count)
    if form == "lora":
        return LowRankMembers(base, count, rank, torch.Generator().manual_seed(seed))
    raise ValueError(f"form must be 'full', 'residual' or 'lora'. Got {form!r}.")
