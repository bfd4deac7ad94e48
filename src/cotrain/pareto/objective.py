"""The training of a Pareto manifold: losses along random preferences, differentiated by all members."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cotrain.errors import TrainingDivergedError
from cotrain.model import random_state_kept
from cotrain.pareto.balance import RunningMeans
from cotrain.pareto.manifold import ParetoManifold
from cotrain.pareto.mixture import Gradients, Mixture, added, write_gradients
from cotrain.pareto.ordering import ordering_penalty
from cotrain.pareto.ray_losses import ray_losses
from cotrain.pareto.rays import Concentration, RaySampler, default_concentration
from cotrain.pareto.scalarization import Scalarization, scalarized
from cotrain.task import Batch, Task, as_tasks

__all__ = ["Balance", "ParetoObjective"]

Balance = Literal["means", "gradients", "none"]

FEW_SAMPLES = 16
"""Below so many samples in a ray's chunk, BatchNorm's statistics of a batch are mostly noise."""


class ParetoObjective:
    """Losses along several preferences at once, and their gradient by every member.

    `backward` fills `.grad`; optimizer, gradient scaler, scheduler, accumulation and devices stay the user's own:

        objective = ParetoObjective(manifold, tasks)
        optimizer = torch.optim.Adam(manifold.parameters())
        for batch in batches:
            optimizer.zero_grad()
            objective.backward(batch)
            optimizer.step()

    With `split` the batch is cut into one chunk per ray: W rays with the arithmetic of one forward and backward pass,
    and without bias, since chunk and ray are independent. Otherwise every ray sees the whole batch (as published), one
    after the other, so that memory does not grow with their number; dropout masks differ from ray to ray.

    Args:
        manifold: What is trained.
        tasks: Its tasks; None for the manifold's own.
        rays: W preferences per step.
        split: See above.
        concentration: Of the Dirichlet distribution of the rays, a number or one for each name; None for 1 (two names),
            2 / K (more).
        stratified: Whether random rays of a step are spread evenly; see `RaySampler`.
        corners: The share of rays on corners and edges, in turn. Without them the corners come out of order.
        balance: What a loss is divided by before it is weighted: "means", its running mean; "gradients", the norm of
            its gradient at the mixed weights (T backward passes per ray); or "none".
        scalarization: "linear" (as published), or "tchebycheff", smooth, which reaches the inside of fronts that
            are not convex.
        smoothness: Of "tchebycheff".
        ordering: Weight of the penalty on rays in the wrong order, `ordering_penalty`; needs `split=False` and costs
            one more forward pass. Off by default: rays on corners do the same for nothing.
        seed: Of the rays.
        process_group: Processes over whose gradients and losses to average (data parallel); None for this one alone.
            Give them different seeds, and they look at different rays.

    Raises:
        ValueError: If options do not fit each other, or the tasks are not the manifold's.
    """

    def __init__(
        self,
        manifold: ParetoManifold,
        tasks: Iterable[Task] | None = None,
        *,
        rays: int = 4,
        split: bool = True,
        concentration: Concentration | None = None,
        stratified: bool = True,
        corners: float = 0.25,
        balance: Balance = "means",
        scalarization: Scalarization = "linear",
        smoothness: float = 0.1,
        ordering: float = 0.0,
        seed: int = 0,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        self.manifold = manifold
        self.tasks = manifold.tasks if tasks is None else as_tasks(tasks)
        if self.tasks.names != manifold.tasks.names:
            raise ValueError(
                f"The tasks must be the manifold's, {list(manifold.tasks.names)}. Got {list(self.tasks.names)}."
            )
        _require_one_of("balance", balance, ("means", "gradients", "none"))
        _require_one_of("scalarization", scalarization, ("linear", "tchebycheff"))
        if ordering < 0 or (ordering > 0 and split) or (ordering > 0 and rays < 2):
            raise ValueError(
                "ordering compares rays on the same samples: it needs split=False, at least 2 rays and a weight of 0 or"
                f" more. Got ordering={ordering}, split={split}, rays={rays}."
            )
        if ordering > 0 and balance == "gradients":
            raise ValueError("balance='gradients' needs graphs, and ordering's first pass has none: take 'means'.")
        if not smoothness > 0:
            raise ValueError(f"smoothness must be positive. Got {smoothness}.")
        self._rays = RaySampler(
            len(manifold.names),
            rays,
            concentration=default_concentration(len(manifold.names)) if concentration is None else concentration,
            stratified=stratified,
            corners=corners,
            seed=seed,
        )
        self._split, self._balance, self._ordering = split, balance, ordering
        self._cut = balance == "gradients" or manifold.template.has_sparse_gradients
        self._scalarization, self._smoothness = scalarization, smoothness
        self._means = RunningMeans(len(self.tasks))
        self._group = process_group
        self.preferences = torch.empty(0, len(manifold.names))

    def backward(self, batch: Batch, *, scale: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Add the gradient of the mean over rays to `.grad` of the manifold's parameters.

        The rays of the step are in `objective.preferences` afterwards.

        Args:
            batch: The samples.
            scale: What the scalar loss goes through before its backward pass, such as `scaler.scale`.

        Returns:
            [W, T] losses along this process's rays, without a graph and not balanced; 0 for a task without labels
            among a ray's samples. Fewer rays if there are fewer samples than rays to split them over.

        Raises:
            ValueError: If there is no sample.
            TrainingDivergedError: If a loss is NaN or infinite, with tasks and preference. `.grad` is left as it was.
        """
        if len(batch.index) == 0:
            raise ValueError("There is no sample in the batch. Leave it out.")
        preferences = self._rays.draw()
        if self._split:
            preferences = preferences[: self._most_chunks(len(batch.index))]
            self._warn_of_few(len(batch.index) // len(preferences))
        self.preferences = preferences
        factors = self._coupled_factors(batch) if self._ordering else None
        parameters = [value for value in self.manifold.parameters() if value.requires_grad]
        gradients: Gradients = [None] * len(parameters)
        found, there = [], []
        # Chunks together are one batch, and cost one backward pass. Whole batches are mixed and differentiated one by
        # one, so that there is never more than one ray's network.
        for rays in torch.arange(len(preferences)).split(len(preferences) if self._split else 1):
            mine = None if factors is None else factors[rays]
            part, losses, present = self._along(parameters, preferences[rays], batch, mine, scale)
            gradients = added(gradients, part)
            found.append(losses)
            there.append(present)
        losses, present = torch.cat(found), torch.cat(there)
        everywhere, anywhere = self._over_processes(losses, present)
        self._require_finite(losses, everywhere)
        self._means.update(everywhere, anywhere)
        write_gradients(parameters, gradients, self._group)
        return losses

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs beside manifold and optimizer."""
        return {"rays": self._rays.state_dict(), "means": self._means.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state, exactly as if there had been no interruption."""
        self._rays.load_state_dict(state["rays"])
        self._means.load_state_dict(state["means"])

    def _along(
        self,
        parameters: Sequence[nn.Parameter],
        preferences: Tensor,
        batch: Batch,
        factors: Tensor | None,
        scale: Callable[[Tensor], Tensor] | None,
    ) -> tuple[Gradients, Tensor, Tensor]:
        """Gradients, losses [n, T] and where they are known, [n, T], along n rays that are differentiated together."""
        mixture = Mixture(self.manifold, parameters, preferences, cut=self._cut)
        losses, present = ray_losses(self.manifold, self.tasks, mixture.weights, batch)
        if factors is not None:
            total = (losses * factors).sum()
        else:
            by_gradients = self._balance == "gradients"
            scales = mixture.gradient_norms(losses) if by_gradients else self._scales(losses, present)
            total = self._scalars(losses, present, scales, preferences).sum() / len(self.preferences)
        return mixture.gradients(total if scale is None else scale(total)), losses.detach(), present

    def _scalars(self, losses: Tensor, present: Tensor, scales: Tensor | float, preferences: Tensor) -> Tensor:
        """What is minimised along each of n rays, [n], from their losses [n, T]."""
        weights = self.manifold.knobs.task_weights(preferences).to(losses)
        return scalarized(losses * (weights / scales), present, self._scalarization, self._smoothness)

    def _scales(self, losses: Tensor, present: Tensor) -> Tensor | float:
        """What the losses [n, T] are divided by, unless by norms of gradients."""
        return self._means.scales(losses.detach(), present) if self._balance == "means" else 1.0

    def _coupled_factors(self, batch: Batch) -> Tensor:
        """[W, T], derivatives of the objective with the ordering penalty by the losses: a first pass without graphs.

        Exact: the gradient of a function of all losses is the sum of the losses' gradients times these. The second
        pass draws the same dropout masks.
        """
        with torch.no_grad(), random_state_kept():
            rays = (self.manifold.weights_at(ray) for ray in self.preferences.split(1))
            found, there = zip(*(ray_losses(self.manifold, self.tasks, ray, batch) for ray in rays), strict=True)
        losses, present = torch.cat(found).requires_grad_(), torch.cat(there)
        scales = self._scales(losses, present)
        with torch.enable_grad():
            total = self._scalars(losses, present, scales, self.preferences).mean()
            shares = self.manifold.knobs.shares.to(losses)
            total = total + self._ordering * ordering_penalty((losses / scales) @ shares.T, self.preferences.to(losses))
            (factors,) = torch.autograd.grad(total, losses)
        return factors

    @property
    def _has_batch_norm(self) -> bool:
        """Whether layers take the statistics of a chunk."""
        return self.manifold.training and bool(self.manifold.statistics.names)

    def _most_chunks(self, size: int) -> int:
        """Chunks that a batch can be cut into; BatchNorm needs two samples in each."""
        return max(size // 2, 1) if self._has_batch_norm else size

    def _warn_of_few(self, size: int) -> None:
        if size < FEW_SAMPLES and self._has_batch_norm:
            warnings.warn(
                f"BatchNorm sees chunks of {size} samples, one per ray, and its statistics are noisy. Take larger"
                " batches, fewer rays, or split=False.",
                stacklevel=3,
            )

    def _over_processes(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [1, T] averaged over the rays of all processes that have labels, and whether any has."""
        if self._group is None:
            return losses, present
        # Sums over rays: with few samples a process has fewer rays than the others.
        sums = torch.stack([torch.where(present, losses, 0).sum(0), present.to(losses.dtype).sum(0)])
        dist.all_reduce(sums, group=self._group)
        return (sums[0] / sums[1].clamp(min=1)).unsqueeze(0), (sums[1] > 0).unsqueeze(0)

    def _require_finite(self, losses: Tensor, everywhere: Tensor) -> None:
        if bool(torch.isfinite(everywhere).all()):
            return
        bad = ~torch.isfinite(losses)
        if bool(bad.any()):
            ray, task = (int(number) for number in bad.nonzero()[0])
            point = [round(value, 3) for value in self.preferences[ray].tolist()]
            diverged = bad[ray]
            place = f"{float(losses[ray, task])} at the preference {dict(zip(self.manifold.names, point, strict=True))}"
        else:
            diverged = ~torch.isfinite(everywhere[0])
            place = "NaN or infinite on another process"
        names = [self.tasks.names[number] for number in diverged.nonzero().flatten().tolist()]
        raise TrainingDivergedError(
            f"The loss of {names} is {place}."
            " Nothing was added to the gradients. Try a lower learning rate, and look for extreme inputs and targets."
        )


def _require_one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{option} must be one of {', '.join(allowed)}. Got {value!r}.")
