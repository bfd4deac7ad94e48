"""Programs so small that every choice can be looked at."""

from itertools import combinations

import numpy as np

from cotrain.grouping.program import Program


def random_program(seed, n_tasks=4, n=12):
    """Random columns, the first of which covers everything at a cost within the budget."""
    rng = np.random.default_rng(seed)
    worth = np.where(rng.random((n, n_tasks)) < 0.5, rng.normal(size=(n, n_tasks)), -np.inf)
    worth[0] = rng.normal(size=n_tasks) - 1
    cost = rng.choice([0.0, 0.5, 1.0, 2.0], size=n)
    return Program(worth, cost, float(cost[0] + rng.uniform(0, 3)))


def best_with(program):
    """[n], the best worth of every choice that holds the column; all choices are looked at."""
    n = len(program.cost)
    best = np.full(n, -np.inf)
    for count in range(1, n + 1):
        for chosen in map(list, combinations(range(n), count)):
            if program.cost[chosen].sum() <= program.budget:
                best[chosen] = np.maximum(best[chosen], program.worth[chosen].max(axis=0).sum())
    return best
