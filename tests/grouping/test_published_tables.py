"""The published tables of really trained groups: what an exact selection must return."""

from itertools import combinations

import numpy as np
import pytest

from cotrain.grouping import Candidate, GainTable, PairMean, select_groups, serve_groups

STANDLEY = {
    "setting1": {
        "validation": [0.50761, 0.45686, 0.44702, 0.43984, 0.43910],
        "test": [0.50278, 0.45224, 0.44235, 0.43555, 0.43481],
        "oracle": [0.50278, 0.45224, 0.44235, 0.43481, 0.43407],
        "pairs": [0.50278, 0.45474, 0.44875, 0.44112, 0.44196],
        "early": [0.50278, 0.46727, 0.45722, 0.45406, 0.44842],
        "groups": ["sdnke", "sdn nke", "sdn nke n", "n snk dnk nke", "n snk dnk nke k"],
    },
    "large": {
        "validation": [0.36325, 0.32196, 0.30962, 0.30547, 0.30496],
        "test": [0.35989, 0.31733, 0.30606, 0.30190, 0.30167],
        "oracle": [0.35989, 0.31733, 0.30606, 0.30190, 0.30167],
        "pairs": [0.35989, 0.31733, 0.31177, 0.30190, 0.30187],
        "early": [0.35989, 0.34696, 0.34483, 0.34483, 0.34483],
        "groups": ["sdnke", "nk sdne", "nk ne sdn", "sn dn nk ne", "n sn nk ne sdn"],
    },
    "small_data": {
        "validation": [0.43448, 0.41291, 0.38650, 0.38551, 0.38551],
        "test": [0.42998, 0.40857, 0.38352, 0.38249, 0.38249],
        "oracle": [0.42998, 0.40857, 0.38352, 0.38249, 0.38249],
        "pairs": [0.42998, 0.40887, 0.38352, 0.38574, 0.38471],
        "early": [0.42998, 0.43055, 0.40381, 0.40278, 0.40316],
        "groups": ["sdnke", "nke sdnke", "sn dn nke", "sn dn nke n", "sn dn nke n"],
    },
}
# Budgets 1, 1.5 ... 5 with single-task networks of half the size at half the cost.
HALF = {
    "setting1": {
        "validation_loss": [0.08021, 0.1739, 0.08965, 0.09264, 0.03313],
        "test_loss": [0.07742, 0.1737, 0.08932, 0.09203, 0.03268],
        "test": [0.5028, 0.4613, 0.4522, 0.4461, 0.4424, 0.4393, 0.4356, 0.4356, 0.4348],
    },
    "large": {
        "validation_loss": [0.03664, 0.1478, 0.08067, 0.08043, 0.02041],
        "test_loss": [0.03435, 0.1474, 0.08036, 0.07954, 0.02023],
        "test": [0.3599, 0.3548, 0.3173, 0.3145, 0.3061, 0.3049, 0.3019, 0.3019, 0.3017],
    },
    "small_data": {
        "validation_loss": [0.05777, 0.1813, 0.09048, 0.07671, 0.02365],
        "test_loss": [0.05521, 0.1815, 0.09032, 0.07581, 0.02336],
        "test": [0.4300, 0.4228, 0.4086, 0.3878, 0.3835, 0.3835, 0.3825, 0.3825, 0.3825],
    },
}
HALF_VALIDATION = [0.50761, 0.46630, 0.45686, 0.45076, 0.44702, 0.44358, 0.43984, 0.43984, 0.43910]
NAMES = {"s": "segmentation", "d": "depth", "n": "normals", "k": "keypoints", "e": "edges"}


def read(folder, setting, column):
    return GainTable.from_csv(folder / f"standley_{setting}.csv", column)


def served_loss(table, group):
    """The sum of the table's losses over the tasks that the group serves."""
    mean, _ = table.predict([group.trains])
    served = [j for j, task in enumerate(table.tasks) if task in group.serves]
    return (table.single_losses * (1 - mean[0]))[served].sum()


def total_loss(table, grouping):
    return sum(served_loss(table, group) for group in grouping.groups)


def served_by_validation(folder, setting, grouping):
    validation, test = (read(folder, setting, column) for column in ("validation_loss", "test_loss"))
    return total_loss(test, serve_groups(validation, [group.trains for group in grouping.groups]))


@pytest.mark.parametrize("k", range(1, 6))
@pytest.mark.parametrize("setting", STANDLEY)
def test_standley_tables_are_solved_exactly(group_tables, setting, k):
    validation, test = (read(group_tables, setting, column) for column in ("validation_loss", "test_loss"))
    expected = STANDLEY[setting]
    grouping = select_groups(validation, budget=k)
    assert grouping.status == "optimal"
    assert grouping.objective == "total_loss"
    assert grouping.gap <= 1e-9
    assert round(validation.single_losses.sum() - grouping.value, 5) == expected["validation"][k - 1]
    assert round(total_loss(test, grouping), 5) == expected["test"][k - 1]
    assert round(total_loss(test, select_groups(test, budget=k)), 5) == expected["oracle"][k - 1]
    assert {frozenset(group.trains) for group in grouping.groups} == {
        frozenset(NAMES[letter] for letter in word) for word in expected["groups"][k - 1].split()
    }


@pytest.mark.parametrize("k", range(1, 6))
@pytest.mark.parametrize("setting", STANDLEY)
def test_standley_tables_from_pairs_and_from_short_runs(group_tables, setting, k):
    pairs = PairMean.from_pairs(read(group_tables, setting, "validation_loss"))
    chosen = select_groups(pairs, budget=k, kappa=0)
    assert round(served_by_validation(group_tables, setting, chosen), 5) == STANDLEY[setting]["pairs"][k - 1]
    early = select_groups(read(group_tables, setting, "early_loss"), budget=k)
    assert round(served_by_validation(group_tables, setting, early), 5) == STANDLEY[setting]["early"][k - 1]


@pytest.mark.parametrize("half_budget", range(2, 11))
@pytest.mark.parametrize("setting", HALF)
def test_standley_accounting_with_single_networks_of_half_size(group_tables, setting, half_budget):
    validation, test = (read(group_tables, setting, column) for column in ("validation_loss", "test_loss"))
    order = [validation.tasks.index(NAMES[letter]) for letter in "sdnke"]
    half = HALF[setting]
    extra = [
        Candidate((validation.tasks[j],), {validation.tasks[j]: 1 - loss / validation.single_losses[j]}, 0.5, "half")
        for j, loss in zip(order, half["validation_loss"], strict=True)
    ]
    grouping = select_groups(validation, budget=half_budget / 2, extra=extra)
    assert grouping.status == "optimal"
    assert grouping.cost <= half_budget / 2
    if setting == "setting1":
        assert round(validation.single_losses.sum() - grouping.value, 5) == HALF_VALIDATION[half_budget - 2]
    small = {validation.tasks[j]: loss for j, loss in zip(order, half["test_loss"], strict=True)}
    total = sum(small[group.trains[0]] if group.label else served_loss(test, group) for group in grouping.groups)
    assert total == pytest.approx(half["test"][half_budget - 2], abs=5.01e-5)


def test_full_size_singles_at_half_the_cost_are_another_problem(group_tables):
    validation, test = (read(group_tables, "setting1", column) for column in ("validation_loss", "test_loss"))
    grouping = select_groups(validation, budget=1.5, costs=dict.fromkeys(NAMES.values(), 0.5))
    totals = (validation.single_losses.sum() - grouping.value, total_loss(test, grouping))
    assert 0.46052 in [round(total, 5) for total in totals]


@pytest.mark.parametrize(
    ("k", "validation", "test", "oracle"),
    [
        (1, -0.01269, 0.02720, 0.0272),
        (2, 0.14687, 0.14753, 0.1717),
        (3, 0.15477, 0.14974, 0.1896),
        (4, 0.15991, 0.15439, 0.1994),
        (5, 0.16084, 0.15119, 0.2035),
        (6, 0.16084, 0.15119, 0.2035),
        (7, 0.16084, 0.15119, 0.2035),
    ],
)
def test_ettm1_is_solved_exactly(group_tables, k, validation, test, oracle):
    chosen_on = GainTable.from_csv(group_tables / "ettm1.csv", "validation_gain")
    judged_on = GainTable.from_csv(group_tables / "ettm1.csv", "test_gain")
    grouping = select_groups(chosen_on, budget=k)
    assert (grouping.status, grouping.objective) == ("optimal", "mean_gain")
    assert round(grouping.value, 5) == validation
    assert grouping.n_networks == min(k, 5)
    realised = [judged_on.predict([grouping.served_by(t).trains])[0][0, j] for j, t in enumerate(judged_on.tasks)]
    assert round(float(np.mean(realised)), 5) == test
    assert round(select_groups(judged_on, budget=k).value, 4) == oracle


def test_random_covers_of_two_networks_have_the_published_mean(group_tables):
    validation, test = (read(group_tables, "setting1", column) for column in ("validation_loss", "test_loss"))
    covers = [
        pair for pair in combinations(validation.groups, 2) if set(pair[0]) | set(pair[1]) == set(validation.tasks)
    ]
    totals = [total_loss(test, serve_groups(validation, pair)) for pair in covers]
    assert round(float(np.mean(totals)), 5) == 0.47351
