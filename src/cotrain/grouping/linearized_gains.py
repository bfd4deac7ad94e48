"""Gains of any group from one training: the linearised network is fitted to the group, and its held-out loss read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cotrain.grouping.gains import BoolArray, FloatArray, Groups, check_tasks, membership
from cotrain.grouping.linearized_task import Draws, HeldOutTask, LinearSamples, LinearTask, fit_sums, held_out

__all__ = ["LinearizedGains"]

GRID = tuple(10.0 ** (half / 2) for half in range(-8, 3))
"""Penalties that are tried, in units of the mean eigenvalue of the tasks' mean curvature."""

PATH = 4
"""Penalties of a path, each sqrt(10) times the one before: what early stopping may choose from."""

CHUNK_BYTES = 2**25
"""Curvatures of groups that are solved at once; more are no faster."""

LEAST_STD = 1e-9


class LinearizedGains:
    """Predicts gains from networks that were trained on all tasks together, without any further training.

    Around a trained network the outputs of every sample are linear in a step w of the shared parameters, projected on
    d directions. For a group S, w_S minimises the mean over its members of their training losses, in quadratic
    approximation, plus `penalty * |w|^2 / 2`: with A_t the curvature and c_t the negative slope of task t's loss at
    w = 0, `w_S = (mean A_t + penalty I)^-1 mean c_t`, one solve of d x d. That is exact for squared losses and one
    Gauss-Newton step for logistic ones. The loss L_t(S) is that of the validation samples at w_S, and the gain
    `1 - L_t(S) / L_t({t})`. It is Grad-TAG (arXiv 2409.06091) with the offset kept, and without its regressions.

    Penalties. A long penalty is a short training. By default the smallest one is the one at which the tasks alone
    have the lowest validation loss, relative to the network's and averaged over the tasks; every group then takes, of
    that one and three larger ones, the one of the lowest mean validation loss, as early stopping does.

    Shrinkage. A task alone starts here from a network that was trained on all tasks, a real one does not, so the more
    it falls below the network's loss, the less its gains are to be believed. They are multiplied by
    `L_t({t}) / L_t(network)`, at most 1. That changes the order of tasks, never of groups for one task. Against real
    gains it did better on some data and worse on other (benchmarks/predicted_gains.py); shrink=False leaves it out.

    The standard deviation comes from the spread over the networks, for a new one, and from a bootstrap over the
    samples of every task. With one network it lacks the noise of the initial weights and is too small.

    A prediction without any real group is unverified. One network costs one training and the gradients; a prediction
    costs five solves of d x d per group and network, whatever the number of training samples, and products with the
    validation samples: 1,000 groups of 5 of 20 tasks with 400 samples each take 1.4 s at d = 100 on one thread, 0.7 s
    with one penalty. Stages of one training (networks after a third, a half and two thirds of its best epoch) are
    nearly free.

    Attributes:
        tasks: The T names.
        unit: "gain".
        single_losses: None: losses of a linearised network are none of a training.
        penalties: Per network, the penalties that groups choose from.
        shrinkage: [networks, T], what the gains are multiplied by.
    """

    def __init__(
        self,
        train: LinearSamples | Sequence[LinearSamples],
        valid: LinearSamples | Sequence[LinearSamples],
        *,
        penalties: Sequence[float] | None = None,
        shrink: bool = True,
        replicates: int = 6,
        seed: int = 0,
    ) -> None:
        """Takes one or several networks, each linearised on the training and on the validation samples.

        Args:
            train: As `cotrain.affinity.linearized_outputs` gives it, of one network, or of several: other initial
                weights, or stages of one training. d and the directions may differ between networks.
            valid: The same for the validation samples, in the same order.
            penalties: What groups choose from; a single one leaves no choice. None: the rule above.
            shrink: False leaves the gains as the definition gives them.
            replicates: Draws of the bootstrap.
            seed: Of the bootstrap.

        Raises:
            ValueError: If a task has no sample, a number is not finite, tasks or shapes do not agree, a loss is 0, a
                penalty is not positive or replicates is below 2. The message names the task.
        """
        trains, valids = _several(train), _several(valid)
        if len(trains) != len(valids) or not trains:
            raise ValueError(f"Give as many networks for valid as for train. Got {len(valids)} and {len(trains)}.")
        if replicates < 2:
            raise ValueError(f"The standard deviation needs at least 2 replicates. Got {replicates}.")
        if penalties is not None and (len(penalties) == 0 or not all(0 < value < np.inf for value in penalties)):
            raise ValueError(f"penalties must be finite numbers above 0, at least one. Got {penalties}.")
        self.tasks = check_tasks(part.name for part in trains[0].parts)
        for of_train, of_valid in zip(trains, valids, strict=True):
            widths = {_width(of_train, self.tasks), _width(of_valid, self.tasks)}
            if len(widths) > 1:
                raise ValueError(f"A network must have gradients of one width d in both splits. Got {sorted(widths)}.")
        self.unit = "gain"
        self.single_losses: FloatArray | None = None
        self._networks = [
            _Network(
                _ordered(of_train, self.tasks), _ordered(of_valid, self.tasks), penalties, shrink, replicates, seed
            )
            for of_train, of_valid in zip(trains, valids, strict=True)
        ]
        self.penalties = tuple(network.penalties for network in self._networks)
        self.shrinkage: FloatArray = np.stack([network.shrinkage for network in self._networks])

    def predict(self, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Predicted gains and their standard deviations, [n, T] each; NaN where the task is not in the group."""
        members = membership(groups, self.tasks)
        gains = np.stack([network.gains(members) for network in self._networks])
        mean = gains[:, 0].mean(axis=0)
        # The draws are the same for all networks, as the samples are, so their mean is drawn again as one.
        variance = gains[:, 1:].mean(axis=0).var(axis=0, ddof=1)
        if len(gains) > 1:
            variance += gains[:, 0].var(axis=0, ddof=1) * (1 + 1 / len(gains))
        several = members & (members.sum(axis=1) > 1)[:, None]
        std = np.where(several, np.maximum(np.sqrt(variance), LEAST_STD), 0.0)
        return np.where(members, np.where(several, mean, 0.0), np.nan), np.where(members, std, np.nan)

    def measured(self, groups: Groups) -> BoolArray:
        """[n], True for a task alone, whose gain is 0 by definition; nothing else is a measurement."""
        return np.asarray(membership(groups, self.tasks).sum(axis=1) == 1)


class _Network:
    """One linearised network."""

    def __init__(
        self, train: Sequence[LinearTask], valid: Sequence[LinearTask], penalties: Sequence[float] | None,
        shrink: bool, replicates: int, seed: int,
    ) -> None:  # fmt: skip
        sums = [fit_sums(part, Draws.of(len(part.outputs), replicates, part.name, 0, seed)) for part in train]
        self._curvature: FloatArray = np.stack([curvature for curvature, _ in sums], axis=1)
        self._slope: FloatArray = np.stack([slope for _, slope in sums], axis=1)
        self._held_out: list[HeldOutTask] = [
            held_out(part, Draws.of(len(part.outputs), replicates, part.name, 1, seed)) for part in valid
        ]
        n_tasks, d = self._slope.shape[1:]
        self._start = np.array([task.losses(np.zeros((1, d)))[0] for task in self._held_out])
        _require_losses(self._start, valid)
        alone = np.eye(n_tasks, dtype=np.bool_)
        self.penalties = tuple(penalties) if penalties is not None else self._default_path(alone)
        self._alone: FloatArray = np.diagonal(self._losses(alone), axis1=1, axis2=2)
        _require_losses(self._alone.min(axis=0), valid)
        self.shrinkage = np.minimum(self._alone[0] / self._start, 1.0) if shrink else np.ones(n_tasks)

    def gains(self, members: BoolArray) -> FloatArray:
        """[1 + replicates, n, T], NaN off members."""
        size = max(1, CHUNK_BYTES // (8 * self._slope.shape[2] ** 2))
        chunks = [members[start : start + size] for start in range(0, len(members), size)]
        losses = np.concatenate([np.empty((len(self._alone), 0, members.shape[1])), *map(self._losses, chunks)], axis=1)
        return np.asarray((1 - losses / self._alone[:, None]) * self.shrinkage)

    def _default_path(self, alone: BoolArray) -> tuple[float, ...]:
        scale = float(np.trace(self._curvature[0].mean(axis=0)) / self._slope.shape[2])
        grid = np.array(GRID) * (scale or 1.0)
        losses = np.diagonal(self._along(alone, grid)[1], axis1=1, axis2=2) / self._start
        smallest = grid[int(losses.mean(axis=1).argmin())]
        return tuple(float(smallest * 10 ** (half / 2)) for half in range(PATH))

    def _losses(self, members: BoolArray) -> FloatArray:
        """[1 + replicates, n, T] losses, each group with its penalty of the lowest mean loss, for all draws."""
        shares = members / members.sum(axis=1, keepdims=True)
        path = np.array(self.penalties)
        steps, losses = self._along(members, path)
        best = np.nanmean(losses / self._start, axis=2).argmin(axis=0)
        rows, penalties = np.arange(len(members)), path[best]
        steps, losses = steps[best, rows], losses[best, rows]
        # A draw moves the step by one Newton step of its own loss: 1,000 new sums and solves per draw would take four
        # times as long (d = 100, one thread).
        downhill = shares @ self._slope[1:] - penalties[:, None] * steps
        for j in range(members.shape[1]):
            held = members[:, j]
            downhill[:, held] -= shares[held, j, None] * (steps[held] @ self._curvature[1:, j])
        by_row = np.linalg.solve(self._penalised(shares, penalties), downhill.transpose(1, 2, 0))
        moved = steps + by_row.transpose(2, 0, 1)
        drawn = np.full((len(moved), *members.shape), np.nan)
        for j, task in enumerate(self._held_out):
            held = members[:, j]
            drawn[:, held, j] = task.redrawn(steps[held], moved[:, held])
        return np.concatenate([losses[None], drawn])

    def _along(self, members: BoolArray, path: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Steps [penalties, n, d] and losses [penalties, n, T]."""
        shares = members / members.sum(axis=1, keepdims=True)
        curvature, slope = self._penalised(shares, np.zeros(len(members))), shares @ self._slope[0]
        unit = np.eye(slope.shape[1])
        steps = [np.linalg.solve(curvature + value * unit, slope[..., None])[..., 0] for value in path]
        return np.stack(steps), np.stack([self._held_out_losses(members, step) for step in steps])

    def _penalised(self, shares: FloatArray, penalties: FloatArray) -> FloatArray:
        """[n, d, d] curvatures of the groups' losses, plus the penalties on their diagonals."""
        n_tasks, d = self._slope.shape[1:]
        curvature = (shares @ self._curvature[0].reshape(n_tasks, -1)).reshape(-1, d, d)
        curvature[:, np.arange(d), np.arange(d)] += penalties[:, None]
        return np.asarray(curvature)

    def _held_out_losses(self, members: BoolArray, steps: FloatArray) -> FloatArray:
        """[n, T], NaN off members."""
        losses = np.full(members.shape, np.nan)
        # A loop over the tasks, because each has samples of its own; it is one matrix product for all groups.
        for j, task in enumerate(self._held_out):
            rows = members[:, j]
            losses[rows, j] = task.losses(steps[rows])
        return losses


def _several(samples: LinearSamples | Sequence[LinearSamples]) -> tuple[LinearSamples, ...]:
    return tuple(samples) if isinstance(samples, Sequence) else (samples,)


def _ordered(samples: LinearSamples, tasks: tuple[str, ...]) -> list[LinearTask]:
    of_name = {part.name: part for part in samples.parts}
    return [of_name[name] for name in tasks]


def _width(samples: LinearSamples, tasks: tuple[str, ...]) -> int:
    """d, after checking everything."""
    names = [part.name for part in samples.parts]
    if sorted(names) != sorted(tasks):
        raise ValueError(f"All networks and splits must have the same tasks. Got {names}, and {list(tasks)} before.")
    widths = set()
    for part in samples.parts:
        arrays = [np.asarray(values) for values in (part.gradients, part.outputs, part.labels)]
        shapes = [array.shape for array in arrays]
        if len(shapes[0]) != 2 or shapes[1:] != [shapes[0][:1]] * 2:
            raise ValueError(
                f"Task {part.name!r} must have gradients [n, d], outputs [n] and labels [n]. Got {shapes}."
            )
        if shapes[0][0] == 0:
            raise ValueError(
                f"Task {part.name!r} has no labelled sample. Leave it out, or give samples with its label."
            )
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError(f"Task {part.name!r} has a number that is not finite. Has the training diverged?")
        if part.loss not in ("squared", "logistic"):
            raise ValueError(f"Task {part.name!r} must have loss 'squared' or 'logistic'. Got {part.loss!r}.")
        widths.add(shapes[0][1])
    if len(widths) > 1:
        raise ValueError(f"All tasks of a network must have gradients of the same width d. Got {sorted(widths)}.")
    return int(widths.pop())


def _require_losses(losses: FloatArray, parts: Sequence[LinearTask]) -> None:
    if not (losses > 0).all():
        name = parts[int((losses > 0).argmin())].name
        raise ValueError(
            f"The validation loss of task {name!r} is 0, and a gain is a ratio of losses. Give more validation"
            " samples, or leave the task out."
        )
