"""IT-MTL: at every step the combination of task gradients that helps the tasks most, for any number of tasks."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from cotrain.aggregation.aggregation import Choice, Combined, StepAggregation
from cotrain.aggregation.fabric import plain_optimizer
from cotrain.aggregation.gradients import TrainingPass
from cotrain.aggregation.seeds import Seed, seed_from
from cotrain.aggregation.split import Split
from cotrain.aggregation.transference_contenders import Candidate, resolved
from cotrain.aggregation.transference_decision import Decision, Situation, decide
from cotrain.aggregation.transference_directions import Replay
from cotrain.aggregation.transference_losses import RunningLosses
from cotrain.aggregation.transference_options import Heads, TransferenceOptions, rule_from
from cotrain.aggregation.transference_record import ChoiceRecord, Choices, LeftOut
from cotrain.aggregation.transference_scores import Score
from cotrain.task import Batch, Task, TaskSet

__all__ = ["TransferenceAggregation"]

DEFAULT_RATE = 0.01
"""Of a plain step when neither an optimizer nor a rate is given, as in `Transference`."""


class TransferenceAggregation(StepAggregation):
    """At every step, try several combinations of the tasks' gradients and apply the one that helps the tasks most.

    What is counted is total transference: the sum over all tasks j of 1 - L_j(theta + step) / L_j(theta), where only
    the shared parameters step. To first order the best of all subsets of the tasks is S* = {i : a_i > 0} with
    a_i = <g_i, sum_j g_j / L_j>, which takes two backward passes and a forward-mode pass for any number of tasks. Its
    sum and the joint one, rescaled to one norm, are then tried by lookahead, and the joint step is left only for a
    gain above its standard error: the first-order choice by itself is unsafe where curvature matters. Heads get their
    own tasks' gradients whichever wins. Source: IT-MTL (Fifty et al., arXiv 2010.15413); closed form and guards ours.

    Cost: 11/3 plain steps for any number of tasks; 7/3 with `exact=False, equal_norm=False`; for other candidates
    (1 + 2 m) / 3 for m tasks, or 2/3 for each subset if these are fewer, and 1/3 for each that is scored. The buffers
    of momentum and Adam mix the sums that were picked at different steps. Losses are those of this batch alone, also
    where gradients of several batches are added up before a step.

    Args:
        candidates: What to try beside the joint sum, which always is; one of these or a list of them: "closed-form"
            (S*), "log-sum" (the gradient of the summed log losses, which to first order no subset beats at equal
            norm), "singletons", "power-set" (up to 10 tasks), "pcgrad" (beside every sum the same of PCGrad-projected
            gradients, arXiv 2001.06782), a list of task names for one subset, or another
            aggregator: its name (one of `aggregation_names()`; "pcgrad" and "log-sum" are those above), a weighting
            such as `UPGrad()`, an aggregation such as `named("cagrad", c=0.2)` or TorchJD's own. What aggregators
            remember goes on at every decision, picked or not, and is part of the state. Not "famo", "mgda-ub" and
            "transference": they look into forward passes, or learn from steps, of their own.
        optimizer: Try its own step, in its present state. In `fit` the training's optimizer is taken.
        lr: Try plain gradient steps of this rate instead. With neither: plain steps of rate 0.01.
        exact: Score by the losses after the step. False: by first order, without a lookahead.
        equal_norm: Rescale every candidate to the norm of the joint gradient; otherwise shorter or longer steps are
            mistaken for better directions.
        score: "relative" sums 1 - L'/L, "log" sums -log(L'/L) (additive over steps, over-rewards a loss going to 0),
            "difference" sums (L - L') over the loss's running standard deviation, for losses that may be negative.
            Losses count as at least 1 % of their running mean.
        heads: "fixed", or "stepped": the losses after the step are those of heads after their own step, as the paper
            has it from memory. Fixed ones are the default since the closed form is of fixed heads, and a score is then
            of the shared step alone; the two trained alike wherever we tried (docs/aggregation.md).
        every: Decide at every n-th step, beginning with the first, and keep the weights in between.
        score_batch: Called at every decision for a second batch to score on; None scores on the training batch, whose
            scores do not carry over to other samples.
        min_rate: A task that was in less than this share of its last 100 steps is forced into every subset, between 0
            (never) and 1: a hard choice starves tasks.
        hysteresis: Leave the joint step only for an exact gain above so many of its standard errors.
        seed: Of PCGrad's random orders; or a generator, which is asked for one.
        on_choice: Called with what was decided at every step; `decision` then has what was tried.

    Raises:
        ValueError: If an argument is out of range, or both an optimizer and a rate are given.
    """

    def __init__(
        self,
        *,
        candidates: Candidate | Sequence[Candidate] = "closed-form",
        optimizer: Optimizer | None = None,
        lr: float | None = None,
        exact: bool = True,
        equal_norm: bool = True,
        score: Score = "relative",
        heads: Heads = "fixed",
        every: int = 1,
        score_batch: Callable[[], Batch] | None = None,
        min_rate: float = 0.1,
        hysteresis: float = 1.0,
        seed: Seed = 0,
        on_choice: Callable[[Choice], None] | None = None,
    ) -> None:
        super().__init__(on_choice=on_choice)
        alone = isinstance(candidates, str) or not isinstance(candidates, Collection)
        sums, contenders = resolved((candidates,) if alone else tuple(candidates))  # type: ignore[arg-type]
        self._options = TransferenceOptions(
            sums=sums,
            contenders=contenders,
            exact=exact,
            equal_norm=equal_norm,
            score=score,
            heads=heads,
            every=every,
            score_batch=score_batch,
            min_rate=min_rate,
            hysteresis=hysteresis,
            seed=seed_from(seed),
        )
        self._rule = rule_from(plain_optimizer(optimizer), lr)
        self._rule_given = lr if optimizer is None else type(optimizer).__name__
        self._replay: Replay | None = None
        self._decision: Decision | None = None
        self._names: tuple[str, ...] = ()
        self._seen: RunningLosses
        self._left_out: LeftOut
        self._choices: Choices
        self._begin(())

    @property
    def decision(self) -> Decision | None:
        """What was tried at the last step at which something was; None before that."""
        return self._decision

    def follow(self, optimizer: Optimizer) -> None:
        """Try the steps of this optimizer, unless an optimizer or a rate was given."""
        self._rule = plain_optimizer(optimizer) if self._rule is None else self._rule

    def record(self) -> ChoiceRecord:
        """What was chosen over time; its `plot` draws it."""
        return self._choices.record(self._names)

    def backward(
        self, model: nn.Module, tasks: Iterable[Task], batch: Batch, *, scaler: GradScaler | None = None
    ) -> Tensor:
        """As `StepAggregation.backward`."""
        try:
            return super().backward(model, tasks, batch, scaler=scaler)
        finally:
            if self._replay is not None:  # the step did not come to a decision
                self._replay.layers.stop()
                self._replay = None

    def options(self) -> dict[str, Any]:
        """As `StepAggregation.options`."""
        return {**vars(self._options), "rule": self._rule_given}

    def _before(self, model: nn.Module, tasks: TaskSet, batch: Batch) -> None:
        if not self._names:
            self._begin(tasks.names)
        if self._names != tasks.names:
            raise ValueError(
                f"This aggregation has begun with the tasks {list(self._names)}. Got {list(tasks.names)}."
                " Make a new one for other tasks; a task without labels in a batch is left out by itself."
            )
        self._replay = Replay.before(model, tasks, batch)

    def _gradients(self, run: TrainingPass, split: Split, batch: Batch) -> tuple[Combined, dict[str, Tensor]]:
        if not split.shared:
            return super()._gradients(run, split, batch)
        replay, self._replay = self._replay, None
        assert replay is not None  # `_before` made it
        replay.layers.stop()
        present, losses = run.present.cpu(), run.losses.detach().cpu().double()
        self._refuse_negative(losses)
        seen = self._seen.after(losses, present)
        if self._step % self._options.every == 0:
            situation = Situation(
                run=run,
                split=split,
                replay=replay,
                batch=batch,
                present=present,
                losses=losses,
                seen=seen,
                starved=self._left_out.starved(self._options.min_rate),
                rule=DEFAULT_RATE if self._rule is None else self._rule,
                generator=torch.Generator().manual_seed(_seed_of(self._options.seed, self._step)),
                compared=self.on_choice is not None,
            )
            applied = decide(situation, self._options)
            name, weights, self._decision = applied.name, applied.weights, applied.decision
            # A task that is absent at a decision has the weight of the joint sum until the next one.
            if weights is not None:
                self._kept_name, self._kept = name, torch.where(present, weights, 1)
            own = applied.own
            told = None if weights is None else weights.to(run.losses.device)
            combined = Combined(applied.direction, told, applied.cosine, applied.norm_ratio)
        else:
            name = self._kept_name
            weights = torch.where(present, self._kept, 0)
            own = run.sums(split.own)
            combined = Combined(run.sums(split.shared, weights.to(run.losses.device)), weights.to(run.losses.device))
        self._seen = seen
        self._step += 1
        taken = present if weights is None else weights > 0  # every task has a say in a direction without weights
        self._left_out.add(taken, present)
        self._choices.add(name, taken, present)
        return combined, own

    def _refuse_negative(self, losses: Tensor) -> None:
        if self._options.score == "difference" or not bool((losses < 0).any()):
            return
        row = int((losses < 0).nonzero()[0])
        raise ValueError(
            f'score="{self._options.score}" needs losses that are not negative. Got {float(losses[row]):g} for task'
            f' {self._names[row]!r}. Use score="difference".'
        )

    def _begin(self, names: tuple[str, ...]) -> None:
        self._names, self._step = names, 0
        self._kept_name, self._kept = "", torch.ones(len(names), dtype=torch.float64)
        self._seen = RunningLosses.none(len(names))
        self._left_out = LeftOut(len(names))
        self._choices = Choices(len(names))

    def _state(self) -> dict[str, Any]:
        return {
            "names": list(self._names),
            "step": self._step,
            "kept": [self._kept_name, self._kept.clone()],
            "losses": self._seen.state_dict(),
            "left_out": self._left_out.state_dict(),
            "choices": self._choices.state_dict(),
            "contenders": [contender.aggregation.state_dict() for contender in self._options.contenders],
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self._begin(tuple(state["names"]))
        self._step = state["step"]
        self._kept_name, self._kept = state["kept"][0], state["kept"][1].clone()
        self._seen = RunningLosses.from_state(state["losses"])
        self._left_out.load_state_dict(state["left_out"])
        self._choices.load_state_dict(state["choices"])
        for contender, saved in zip(self._options.contenders, state["contenders"], strict=True):
            contender.aggregation.load_state_dict(saved)


def _seed_of(seed: int, step: int) -> int:
    """A seed for one step: a hash, since PyTorch's generator on the CPU reads 32 bits only."""
    return int.from_bytes(blake2b(repr((seed, step)).encode(), digest_size=4).digest(), "big")
