"""Several ways to combine gradients, each over several seeds: trained one by one, then a table of what came out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plans import Plan
from sac import Aggregations
from scipy import stats
from suites import Suite
from training import Curve, train

from cotrain.aggregation import TransferenceAggregation, named
from cotrain.files import write_json

__all__ = ["Outcome", "aggregations_of", "compare", "last_scores", "table"]

LAST = 3
"""Scores at the end of a training that are averaged, since a single one depends on the last few updates."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Outcome:
    """One training.

    Args:
        curve: Its scores.
        joint: Share of the critic's and of the actor's steps at which `TransferenceAggregation` took the plain sum;
            None for other aggregations.
    """

    curve: Curve
    joint: tuple[float, float] | None


Outcomes = Mapping[str, Sequence[Outcome]]
"""Name of an aggregation -> an outcome per seed."""


def aggregations_of(name: str) -> Aggregations:
    """New aggregations for critic and actor by the name of one; the actor's losses may be negative."""
    if name == "transference":
        return Aggregations(TransferenceAggregation(), TransferenceAggregation(score="difference"))
    return Aggregations(named(name), named(name))


def compare(
    suite: Suite, plan: Plan, names: Sequence[str], seeds: Sequence[int], out: Path, *, max_seconds: float
) -> dict[str, list[Outcome]]:
    """Train with every aggregation and every seed, or go on with it.

    Args:
        suite: The tasks.
        plan: How to train.
        names: Of aggregations.
        seeds: Of trainings; the same for every aggregation.
        out: Folder of checkpoints and curves.
        max_seconds: Of each training in this call; a training that is not through goes on in the next call.

    Returns:
        An outcome per seed by the aggregation's name.
    """
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    for seed in seeds:
        for name in names:
            curve, learner = train(
                suite,
                aggregations_of(name),
                steps=plan.steps,
                random_steps=plan.random_steps,
                score_every=plan.score_every,
                settings=plan.settings,
                seed=seed,
                checkpoint=out / f"{name}-{seed}.safetensors",
                max_seconds=max_seconds,
                progress=partial(_say, f"{name}, seed {seed}"),
            )
            outcomes[name].append(Outcome(curve, _joint_shares(learner.aggregations)))
            write_json(out / f"{name}-{seed}.json", asdict(outcomes[name][-1]))
    return outcomes


def table(outcomes: Outcomes, *, with_success: bool) -> str:
    """A Markdown table, one line per aggregation; the first is what the others are compared with, seed by seed.

    Args:
        outcomes: Of trainings with at least one score each.
        with_success: Whether the tasks report successes.
    """
    base = next(iter(outcomes))
    titles = ["gradients combined by", "reward at the end", f"less that of {base}", "worst task", "reward on the way"]
    titles += ["successes"] * with_success + ["ms per update", "plain sum taken by critic, actor"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    base_ends = _over_seeds(outcomes[base], lambda run: last_scores(run.curve).mean())
    for name, runs in outcomes.items():
        ends = _over_seeds(runs, lambda run: last_scores(run.curve).mean())
        cells = [name, _interval(ends), "" if name == base else _interval(ends - base_ends)]
        cells.append(_interval(_over_seeds(runs, lambda run: last_scores(run.curve).min())))
        cells.append(_interval(_over_seeds(runs, lambda run: np.mean(run.curve.rewards))))
        if with_success:
            cells.append(_interval(_over_seeds(runs, lambda run: np.mean(run.curve.success[-LAST:]))))
        cells.append(_interval(_over_seeds(runs, lambda run: run.curve.milliseconds), digits=0))
        shares = np.array([run.joint for run in runs if run.joint is not None])
        cells.append(" %, ".join(f"{share:.0f}" for share in 100 * shares.mean(0)) + " %" if len(shares) else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def last_scores(curve: Curve) -> NDArray[np.float64]:
    """[T] mean reward at the end of a training."""
    ends: NDArray[np.float64] = np.mean(curve.rewards[-LAST:], axis=0)
    return ends


def _over_seeds(runs: Sequence[Outcome], figure: Callable[[Outcome], Any]) -> NDArray[np.float64]:
    return np.array([figure(run) for run in runs], dtype=np.float64)


def _joint_shares(aggregations: Aggregations) -> tuple[float, float] | None:
    both = aggregations.critic, aggregations.actor
    if not all(isinstance(one, TransferenceAggregation) for one in both):
        return None
    picked = [one.record().picked for one in both if isinstance(one, TransferenceAggregation)]
    critic, actor = (
        float(counts["joint"].sum() / sum(count.sum() for count in counts.values())) if "joint" in counts else 0.0
        for counts in picked
    )
    return critic, actor


def _interval(values: NDArray[np.float64], digits: int = 3) -> str:
    """The mean over seeds and half the width of its confidence interval by Student's t; one seed has none."""
    mean = f"{values.mean():.{digits}f}"
    if len(values) < 2:
        return mean
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{mean} ± {half:.{digits}f}"


def _say(who: str, curve: Curve) -> None:
    rewards = ", ".join(f"{name} {value:.2f}" for name, value in zip(curve.names, curve.rewards[-1], strict=True))
    print(f"{who}, step {curve.steps[-1]}: {rewards}", flush=True)
