import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cotrain.study.verdict import beside_control, interval, judge, unchecked

ARMS = ("single", "all-in-one", "grouped")
ADVICE = {
    "single": "every task alone",
    "all-in-one": "all tasks in one network",
    "grouped": "the chosen groups",
}
CODES = {"single": "single", "all-in-one": "all-in-one", "grouped": "groups"}


def clearly_less(some, others):
    """The 95 % interval of the paired difference lies below 0, written out."""
    difference = np.array(some) - np.array(others)
    n = len(difference)
    if n < 2:
        return False
    return difference.mean() + stats.t.ppf(0.975, n - 1) * difference.std(ddof=1) / np.sqrt(n) < 0


@st.composite
def checks(draw, most_seeds=5):
    """Totals of every arm, with levels and noise such that some differences are clear and others are not."""
    n_seeds, n_covers = draw(st.integers(1, most_seeds)), draw(st.integers(0, 3))
    totals = {}
    for name in (*ARMS, *(f"random-{number + 1}" for number in range(n_covers))):
        level, noise = draw(st.sampled_from([0.8, 0.9, 1.0, 1.1])), draw(st.sampled_from([0.0, 0.01, 0.2]))
        values = draw(st.lists(st.floats(-1, 1), min_size=n_seeds, max_size=n_seeds))
        totals[name] = [level + noise * value for value in values]
    if draw(st.booleans()):
        totals["single"] = [1.0] * n_seeds  # as it is in a study
    n_tasks = draw(st.integers(1, 6))
    grouped = draw(st.integers(1, n_tasks))
    networks = {"single": n_tasks, "all-in-one": 1, "grouped": grouped}
    return totals, networks | {name: grouped for name in totals if name.startswith("random")}


def chance_of(totals):
    covers = [values for name, values in totals.items() if name.startswith("random")]
    return list(np.mean(covers, axis=0)) if covers else None


@settings(max_examples=100)
@given(checks())
def test_nothing_is_recommended_that_the_check_contradicts(check):
    totals, networks = check
    verdict = judge(totals, networks)
    chance = chance_of(totals)
    if verdict.recommended is None:
        best = min(ARMS, key=lambda name: np.mean(totals[name]))
        assert len(totals["single"]) == 1 or clearly_less(chance, totals[best])
        assert verdict.code == "undecided"
        return
    chosen = totals[verdict.recommended]
    assert not any(clearly_less(totals[name], chosen) for name in ARMS)
    assert chance is None or not clearly_less(chance, chosen)
    assert ADVICE[verdict.recommended] in verdict.headline


@settings(max_examples=100)
@given(checks())
def test_clearly_is_said_of_clear_differences_only(check):
    totals, networks = check
    verdict = judge(totals, networks)
    if verdict.recommended is None:
        return
    clear = [clearly_less(totals[verdict.recommended], totals[name]) for name in ARMS if name != verdict.recommended]
    assert (verdict.code == CODES[verdict.recommended]) == all(clear)
    assert (verdict.code == "undecided") == (not all(clear))
    assert verdict.headline.startswith("No clear difference") == (not all(clear))


@settings(max_examples=100)
@given(checks())
def test_a_cheaper_arm_that_is_no_worse_is_preferred(check):
    totals, networks = check
    verdict = judge(totals, networks)
    if verdict.recommended is None:
        return
    chance = chance_of(totals)
    rivals = [totals[name] for name in ARMS] + ([chance] if chance else [])
    unbeaten = [name for name in ARMS if not any(clearly_less(rival, totals[name]) for rival in rivals)]
    means = {name: np.mean(totals[name]) for name in ARMS}
    for name in unbeaten:
        cheaper = networks[name] < networks[verdict.recommended]
        assert not (cheaper and means[name] <= means[verdict.recommended])


@settings(max_examples=100)
@given(checks(most_seeds=1))
def test_one_seed_is_never_clear(check):
    verdict = judge(*check)
    assert (verdict.code, verdict.recommended) == ("undecided", None)
    assert not any("clearly" in sentence for sentence in (verdict.headline, *verdict.sentences))
    assert any("One seed gives no interval" in sentence for sentence in verdict.sentences)


def near(level, *, spread=0.001):
    return [level - spread, level, level + spread]


NETWORKS = {"single": 5, "all-in-one": 1, "grouped": 2, "random-1": 2}


@pytest.mark.parametrize("best", ARMS)
def test_the_clear_winner_is_recommended(best):
    totals = {name: near(0.8 if name == best else 1.0) for name in ARMS}
    verdict = judge(totals, NETWORKS)
    assert (verdict.code, verdict.recommended) == (CODES[best], best)
    assert verdict.headline.startswith(f"Train {ADVICE[best]}: clearly better than ")


def test_groups_are_not_recommended_when_random_groups_are_clearly_better():
    totals = {"single": near(1.0), "all-in-one": near(1.5), "grouped": near(0.9), "random-1": near(0.8)}
    verdict = judge(totals, NETWORKS)
    assert verdict.recommended is None
    assert "random groups of the same sizes are clearly better" in verdict.headline


def test_groups_that_only_chance_beats_are_not_called_clearly_worse_than_another_arm():
    noisy = [0.7, 1.0, 1.0]
    totals = {"single": near(1.3), "all-in-one": noisy, "grouped": near(0.95), "random-1": near(0.94, spread=0.0011)}
    assert clearly_less(totals["random-1"], totals["grouped"])
    verdict = judge(totals, NETWORKS)
    assert verdict.recommended == "all-in-one"
    assert verdict.code == "undecided"
    assert "the chosen groups" in verdict.headline


def test_an_arm_that_a_mediocre_one_clearly_beats_is_not_recommended():
    totals = {"single": [0.5, 0.8, 1.1], "all-in-one": near(1.0), "grouped": near(0.9)}
    assert not clearly_less(totals["single"], totals["all-in-one"])
    assert judge(totals, NETWORKS).recommended == "single"


@pytest.mark.parametrize(
    ("all_in_one", "recommended"),
    [
        ([1.02, 1.01, 0.99], "single"),  # worse on average, and 3 % more loss is not excluded
        ([1.002, 1.001, 1.0], "all-in-one"),  # worse on average, but by more than 2 % is excluded
        ([1.9, 1.0, 1.1], "single"),  # not clearly different is not as good
    ],
)
def test_a_cheaper_arm_is_recommended_only_if_it_is_as_good(all_in_one, recommended):
    totals = {"single": [1.0, 1.0, 1.0], "all-in-one": all_in_one, "grouped": [1.4, 1.5, 1.6]}
    assert judge(totals, NETWORKS).recommended == recommended


def test_groups_that_are_single_tasks_by_another_name_are_not_compared():
    verdict = judge({"single": near(1.0), "all-in-one": near(1.2)}, NETWORKS)
    assert verdict.code == "single"
    assert "the chosen groups" not in verdict.headline


def test_groups_that_do_as_well_as_random_ones_are_recommended_with_that_said():
    totals = {"single": near(1.0), "all-in-one": near(1.1), "grouped": near(0.8), "random-1": near(0.8)}
    verdict = judge(totals, NETWORKS)
    assert verdict.code == "groups"
    assert verdict.headline.endswith("; but not clearly better than random groups of the same sizes.")
    informed = judge({**totals, "random-1": near(0.9)}, NETWORKS)
    assert informed.headline.endswith(", and than random groups of the same sizes.")


def test_sentences_compare_with_single_tasks_and_with_chance():
    totals = {"single": near(1.0), "all-in-one": near(1.1), "grouped": near(0.8), "random-1": near(0.9)}
    sentences = judge(totals, NETWORKS).sentences
    assert any("All tasks in one network: total test loss +10.0 %" in sentence for sentence in sentences)
    assert any("The chosen groups: total test loss -20.0 %" in sentence for sentence in sentences)
    assert any("clearly better than one random grouping of" in sentence for sentence in sentences)
    worse = judge({**totals, "random-1": near(0.7)}, NETWORKS).sentences
    assert any("clearly worse than one random grouping of" in sentence for sentence in worse)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8))
def test_the_interval_is_students(values):
    found = interval(values)
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    expected = np.mean(values) + np.array([0, -half, half])
    np.testing.assert_allclose([found.mean, found.low, found.high], expected, atol=1e-12)


def test_one_value_has_no_interval():
    found = interval([0.5])
    assert (found.mean, found.low, found.high, found.below_zero) == (0.5, None, None, False)


def test_without_a_check_nothing_is_recommended():
    verdict = unchecked(3, trained=False)
    assert (verdict.code, verdict.recommended) == ("unchecked", None)
    assert "3 groups" in verdict.headline


def test_more_sentences_are_added_and_none_is_nothing():
    verdict = unchecked(3, trained=False).with_sentences("More.", None)
    assert verdict.sentences == (*unchecked(3, trained=False).sentences, "More.")


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(0.5, 1.5), st.floats(0.5, 1.5)), min_size=1, max_size=5))
def test_a_control_is_called_beaten_only_where_the_difference_is_clear(pairs):
    groups, control = zip(*pairs, strict=True)
    words = beside_control("groups by difficulty", groups, control)
    assert ("clearly better than groups by difficulty" in words) == clearly_less(groups, control)
    assert ("clearly worse than groups by difficulty" in words) == clearly_less(control, groups)
    assert f"{100 * (np.mean(groups) - np.mean(control)):+.1f} %" in words
