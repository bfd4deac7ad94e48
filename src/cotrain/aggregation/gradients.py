"""One forward pass of a training step, and every way in which its losses are differentiated."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cotrain.aggregation.buffers import kept_buffers
from cotrain.aggregation.fabric import outputs_of
from cotrain.aggregation.split import Split
from cotrain.aggregation.wrappers import parallel_parts, process_group
from cotrain.lookahead import loss_slopes
from cotrain.own_memory import with_own_memory
from cotrain.task import Batch, TaskSet

__all__ = ["NotFiniteError", "TrainingPass", "all_finite", "training_pass"]

Gradients = dict[str, Tensor]

EXACT_IN_FLOAT32 = 1e-24, 1e24
"""Squared norms whose products neither overflow nor lose digits in float32; others are computed in float64."""


FEW_PARAMETERS = 10_000
"""Up to which products are taken in float64: few parameters may have fewer dimensions than there are tasks, and the
rounding of float32 would look like the missing ones, on which solvers then work in vain."""


class NotFiniteError(Exception):
    """A gradient is NaN or infinite: `names` are the tasks that it comes from, empty if none of them alone."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(list(names))
        self.names = tuple(names)


@dataclass(frozen=True)
class TrainingPass:
    """The outputs of a training step's forward pass, with their graph, and what the losses make of them.

    Under DDP everything is that of all processes' samples together: a task's gradient is weighted by each process's
    number of labelled samples. Averages of the processes' means, as DDP takes them, would depend on how the labels
    are spread over the processes, and averages of Gram matrices are none of averaged gradients.

    Args:
        tasks: The tasks.
        outputs: [B, sum of n_outputs] of this process, with a graph.
        losses: [T] float64 means over labelled samples, 0 for a task without labels.
        present: [T] booleans, which tasks have labels.
        slopes: Derivatives of the losses by `outputs`, 0 for absent tasks and for those whose loss is not finite.
        not_finite: [T] booleans, whether the loss or a slope is NaN or infinite.
        group: The processes that train together; None for this one alone.
        put_back: Undoes what the forward pass did to the model's buffers.
        scale: What is sent backwards is multiplied by this, and every gradient divided again: gradients that pass
            through float16 would vanish there.
    """

    tasks: TaskSet
    outputs: Tensor
    losses: Tensor
    present: Tensor
    slopes: Tensor
    not_finite: Tensor
    group: dist.ProcessGroup | None
    put_back: Callable[[], None]
    scale: float = 1.0

    @property
    def rows(self) -> list[int]:
        """The positions of the tasks that have labels."""
        return self.present.nonzero().flatten().tolist()

    def check(self) -> None:
        """Refuse losses and slopes that are not finite.

        Raises:
            NotFiniteError: With the names of their tasks.
        """
        self._refuse(self.not_finite)

    def sums(self, parameters: Mapping[str, nn.Parameter], weights: Tensor | None = None) -> Gradients:
        """The gradient of a weighted sum of the losses: one backward pass.

        Args:
            parameters: What to differentiate by, by name.
            weights: [T]; None for the plain sum.

        Returns:
            By name; a parameter that the outputs do not depend on is left out.

        Raises:
            NotFiniteError: If a number is NaN or infinite, with the tasks whose own gradient is.
        """
        sent = self.slopes if weights is None else self.slopes * self._by_column(weights)
        gradients = self.sent_back(parameters, sent)
        if not all_finite(gradients.values()):
            self._norms_refused(parameters)
            raise NotFiniteError([])
        return gradients

    def plain_sums(self, split: Split) -> tuple[Gradients, Gradients]:
        """The gradient of the plain sum by the shared parameters and by the others: one backward pass for both.

        Raises:
            NotFiniteError: If a number is NaN or infinite, with the tasks whose own gradient is.
        """
        both = self.sums({**split.shared, **split.own})
        shared = {name: value for name, value in both.items() if name in split.shared}
        return shared, {name: value for name, value in both.items() if name in split.own}

    def sent_back(self, parameters: Mapping[str, nn.Parameter], sent: Tensor) -> Gradients:
        """Send derivatives by the outputs on to parameters; summed over the processes."""
        if not parameters:
            return {}
        # Of a copy: where a parameter is an output itself, what is sent would be its gradient.
        found = self.differentiated(self.outputs, list(parameters.values()), sent.clone())
        return self.reduced_all(parameters, found)

    def differentiated(self, outputs: Tensor, inputs: Sequence[Tensor], sent: Tensor) -> Sequence[Tensor | None]:
        """What is sent to some outputs by some inputs, in this process; None where they do not depend on them."""
        if self.scale == 1:
            return torch.autograd.grad(outputs, inputs, sent, retain_graph=True, allow_unused=True)
        found = torch.autograd.grad(outputs, inputs, sent * self.scale, retain_graph=True, allow_unused=True)
        return [None if value is None else at_least_float32(value) / self.scale for value in found]

    def reduced_all(self, parameters: Mapping[str, nn.Parameter], found: Sequence[Tensor | None]) -> Gradients:
        """Gradients by name in memory of their own, summed over the processes.

        Without those that are None, where this process trains alone.
        """
        found = with_own_memory(found)
        if self.group is None:
            pairs = zip(parameters, found, strict=True)
            return {name: value.to_dense() for name, value in pairs if value is not None}
        # Every process takes part with every parameter, whatever its own samples reach.
        pairs_ = zip(parameters.items(), found, strict=True)
        return {
            name: self.reduced(torch.zeros_like(value) if gradient is None else gradient.to_dense())
            for (name, value), gradient in pairs_
        }

    def jacobian(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """[m, P] gradients of the present tasks by all given parameters, float32 or better.

        One backward pass per task. A batched backward pass (`is_grads_batched`) is slower on a CPU for convolutions,
        and fails under autocast with layer norms, under `torch.compile` and with custom functions.

        Raises:
            NotFiniteError: If a row has a NaN or an infinite number, with the names of their tasks.
        """
        values = list(parameters.values())
        dtype = torch.promote_types(values[0].dtype, torch.float32)
        sizes = [value.numel() for value in values]
        matrix = torch.empty(len(self.rows), sum(sizes), dtype=dtype, device=values[0].device)
        for row, sent in zip(matrix, self.by_task(), strict=True):
            found = self.differentiated(self.outputs, values, sent)
            parts = [
                value.new_zeros(size) if gradient is None else gradient.to_dense().reshape(-1)
                for value, size, gradient in zip(values, sizes, found, strict=True)
            ]
            torch.cat(parts, out=row)
        return self.reduced(matrix)

    def by_task(self) -> Iterator[Tensor]:
        """For every present task the slopes with those of all other tasks set to 0; valid until the next one."""
        own = torch.zeros_like(self.slopes)
        for row in self.rows:
            columns = self.tasks.slices[self.tasks.names[row]]
            own[:, columns] = self.slopes[:, columns]
            yield own
            own[:, columns] = 0

    def gramian(self, jacobian: Tensor) -> Tensor:
        """[m, m] float64 products of the rows of a Jacobian.

        Raises:
            NotFiniteError: If a row has a NaN or an infinite number, with the names of their tasks.
        """
        narrow = jacobian.shape[1] > FEW_PARAMETERS
        gramian = (jacobian @ jacobian.T).double() if narrow else jacobian.double() @ jacobian.double().T
        lowest, highest = EXACT_IN_FLOAT32
        norms = gramian.diagonal()
        if bool(((norms < lowest) | ~(norms < highest)).any()):
            finite = torch.isfinite(jacobian).all(1)
            if not bool(finite.all()):
                raise NotFiniteError([self.tasks.names[self.rows[k]] for k in (~finite).nonzero().flatten().tolist()])
            gramian = sum(part @ part.T for part in (piece.double() for piece in jacobian.split(2**16, dim=1)))
        return gramian

    def reduced(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.group is not None:
            value = value.contiguous()
            dist.all_reduce(value, group=self.group)
        return value

    def in_any_process(self, names: Sequence[str], chosen: Sequence[str]) -> list[str]:
        """Those of the names that are chosen in at least one process: all processes have to agree on them."""
        flags = torch.tensor([name in chosen for name in names], dtype=torch.float32, device=self.outputs.device)
        return [name for name, flag in zip(names, self.reduced(flags).tolist(), strict=True) if flag > 0]

    def scattered(self, weights: Tensor) -> Tensor:
        """[T] weights of all tasks, 0 for absent ones, from those of the present tasks [m]."""
        everywhere = torch.zeros(len(self.tasks), dtype=torch.float64, device=self.slopes.device)
        everywhere[self.present] = weights.to(everywhere)
        return everywhere

    def _by_column(self, weights: Tensor) -> Tensor:
        widths = torch.tensor([task.n_outputs for task in self.tasks], device=weights.device)
        return torch.repeat_interleave(weights, widths).to(self.slopes)

    def _refuse(self, bad: Tensor) -> None:
        if bool(bad.any()):
            raise NotFiniteError([self.tasks.names[k] for k in bad.nonzero().flatten().tolist()])

    def _norms_refused(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Look at the tasks one by one for the one whose gradient is not finite: only done once something is wrong."""
        for row, sent in zip(self.rows, self.by_task(), strict=True):
            found = self.sent_back(parameters, sent)
            if not all_finite(found.values()):
                raise NotFiniteError([self.tasks.names[row]])


def training_pass(model: nn.Module, tasks: TaskSet, batch: Batch) -> TrainingPass:
    """Run the model on a batch as a training step does: buffers and random state move on.

    Args:
        model: Any module, in training or eval mode, in its own precision. DDP's reduction is left out: gradients of
            single tasks are reduced here. Its buffers are not broadcast, as with `broadcast_buffers=False`.
        tasks: The tasks, in the order of the model's packed outputs.
        batch: The samples of this process.
    """
    with torch.enable_grad(), ExitStack() as stack:
        for module in parallel_parts(model):
            stack.enter_context(module.no_sync())
        put_back = kept_buffers(model)
        outputs = at_least_float32(tasks.pack(outputs_of(model, batch.inputs)))
    losses, present, slopes = loss_slopes(tasks, outputs, batch)
    bad_slope = torch.zeros_like(present)
    if not bool(torch.isfinite(slopes).all()):
        finite = torch.isfinite(slopes).all(0)
        bad_slope = torch.stack([~finite[tasks.slices[name]].all() for name in tasks.names])
    not_finite = present & ~torch.isfinite(losses) | bad_slope
    group = process_group(model)
    if group is not None:
        with torch.no_grad():
            labelled = tasks.sample_losses(outputs.detach(), batch.targets)[1].sum(0)
        own = torch.where(labelled > 0, losses * labelled, 0)
        totals = torch.stack([labelled.double(), own, not_finite.double()])
        dist.all_reduce(totals, group=group)
        everywhere, summed, bad = totals
        losses, present, not_finite = summed / everywhere.clamp(min=1), everywhere > 0, bad > 0
        share = labelled / everywhere.clamp(min=1)
        widths = torch.tensor([task.n_outputs for task in tasks], device=outputs.device)
        slopes = slopes * torch.repeat_interleave(share, widths).to(slopes)
    return TrainingPass(tasks, outputs, losses, present, slopes, not_finite, group, put_back)


def at_least_float32(value: Tensor) -> Tensor:
    """The same numbers, in float32 if they are in half precision, in which slopes of a mean over a batch vanish."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def all_finite(values: Iterable[Tensor]) -> bool:
    """Whether no number is NaN or infinite: one pass over them, unless a sum of them overflows."""
    values = list(values)
    if not values or bool(torch.isfinite(torch.stack([value.sum() for value in values])).all()):
        return True
    return all(bool(torch.isfinite(value).all()) for value in values)
