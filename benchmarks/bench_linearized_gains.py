"""LinearizedGains against one L-BFGS logistic regression per subset: time, and how alike the results are.

Synthetic binary tasks whose samples follow a logistic model with slopes that are partly common: 20 tasks,
d = 100, 400 training and 400 validation samples each, subsets of 5. The regressions start at the network's outputs
(offset kept) and have the same penalty. Compared are the validation losses and the affinities of Grad-TAG (the mean,
over the subsets that hold i and j, of i's score, standardised per task). With the default options, LinearizedGains
also chooses from four penalties and draws samples again for the standard deviation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from side_by_side import arguments, compare, finish

from cotrain.grouping.linearized_gains import LinearizedGains

TASKS, D, SAMPLES, SIZE, FEW, MANY, PENALTY = 20, 100, 400, 5, 300, 1000, 1e-3

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Task:
    name: str
    loss: str
    gradients: Array
    outputs: Array
    labels: Array


@dataclass(frozen=True)
class _Samples:
    parts: tuple[_Task, ...]


def main() -> None:
    """Compare results, then times."""
    chosen = arguments(__doc__)
    generator = np.random.default_rng(0)
    common = generator.normal(size=D)
    slopes = common + generator.normal(size=(TASKS, D))
    train, valid = _samples(slopes, generator), _samples(slopes, generator)
    names = np.array([part.name for part in train.parts])
    groups = [tuple(names[np.sort(generator.choice(TASKS, SIZE, replace=False))]) for _ in range(MANY)]
    plain = LinearizedGains(train, valid, penalties=[PENALTY], shrink=False, replicates=2)
    default = LinearizedGains(train, valid)
    few = groups[:FEW]
    # Gains are 1 - loss / loss alone, so losses relative to those alone are 1 - gain, per task in the same order.
    ours, theirs = 1 - plain.predict(few)[0], _regressions(train, valid, few)
    alone = np.diag(_regressions(train, valid, [(name,) for name in names]))
    theirs = theirs / alone
    members = ~np.isnan(ours)
    error = np.abs(ours - theirs)[members] / theirs[members]
    pairs = [_affinities(values) for values in (ours, theirs)]
    off = ~np.eye(TASKS, dtype=bool)
    relative = np.corrcoef(ours[members], theirs[members])[0, 1]
    losses = np.corrcoef((ours * alone)[members], (theirs * alone)[members])[0, 1]
    affinities = np.corrcoef(pairs[0][off], pairs[1][off])[0, 1]
    print(f"Pearson with the regressions: losses {losses:.3f}, relative to the task alone {relative:.3f},")
    print(f"affinities {affinities:.3f}; mean relative error of the losses {error.mean():.3f}")
    found = compare(
        f"{FEW} subsets of {SIZE} of {TASKS} tasks, d = {D}",
        {
            "one penalty": lambda: plain.predict(few),
            "the default": lambda: default.predict(few),
            "L-BFGS per subset": lambda: _regressions(train, valid, few),
        },
        chosen.rounds,
    )
    found += compare(
        f"{MANY} subsets of {SIZE} of {TASKS} tasks, d = {D}",
        {"the default": lambda: default.predict(groups), "one penalty": lambda: plain.predict(groups)},
        chosen.rounds,
    )
    for one in found:
        print(f"{one.case}: {one.way} takes {one.seconds:.2f} s")
    finish(found, chosen)


def _samples(slopes: Array, generator: np.random.Generator) -> _Samples:
    parts = []
    for number, slope in enumerate(slopes):
        gradients = generator.normal(size=(SAMPLES, D)) / np.sqrt(D)
        outputs = generator.normal(size=SAMPLES)
        probability = 1 / (1 + np.exp(-(outputs + gradients @ slope)))
        labels = (generator.random(SAMPLES) < probability).astype(float)
        parts.append(_Task(f"task-{number}", "logistic", gradients, outputs, labels))
    return _Samples(tuple(parts))


def _regressions(train: _Samples, valid: _Samples, groups: list[tuple[str, ...]]) -> Array:
    """[n, T] validation losses, NaN off members."""
    losses = np.full((len(groups), len(train.parts)), np.nan)
    for row, group in enumerate(groups):
        chosen = [part for part in train.parts if part.name in group]
        h, f, y = (np.concatenate([getattr(part, of) for part in chosen]) for of in ("gradients", "outputs", "labels"))

        def objective(w: Array, h: Array = h, f: Array = f, y: Array = y) -> tuple[float, Array]:
            outputs = f + h @ w
            slope = h.T @ (1 / (1 + np.exp(-outputs)) - y) / len(y) + PENALTY * w
            return float(np.mean(np.logaddexp(0, outputs) - y * outputs) + PENALTY * w @ w / 2), slope

        w = minimize(objective, np.zeros(D), jac=True, method="L-BFGS-B").x
        for j, part in enumerate(valid.parts):
            if part.name in group:
                outputs = part.outputs + part.gradients @ w
                losses[row, j] = np.mean(np.logaddexp(0, outputs) - part.labels * outputs)
    return losses


def _affinities(losses: Array) -> Array:
    """[T, T], mean standardised score of i over the subsets that hold i and j."""
    members = ~np.isnan(losses)
    scores = -(losses - np.nanmean(losses, axis=0)) / np.nanstd(losses, axis=0)
    held = members.astype(float)
    return (np.where(members, scores, 0.0).T @ held) / np.maximum(held.T @ held, 1)


if __name__ == "__main__":
    main()
