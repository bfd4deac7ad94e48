import json
from contextlib import suppress
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.grouping import Shortened, StackedGains, TaskMean, random_regret, regret
from cotrain.grouping.acquisition import expected_improvement
from cotrain.grouping.constraints import Constraints, Resource
from cotrain.grouping.first_trainings import first_trainings
from cotrain.grouping.gains import membership
from cotrain.grouping.membership_ridge import MembershipRidge
from cotrain.grouping.search import search_groups
from cotrain.grouping.selection import select_groups
from cotrain.grouping.table import GainTable

TASKS = tuple("abcdef")


class PowerCutError(Exception):
    pass


class Trainer:
    """Losses of planted groups: partners of a task lower its loss, strangers raise it; counts what it trains."""

    def __init__(self, tasks=TASKS, seed=0, stop_after=None):
        rng = np.random.default_rng(seed)
        self.tasks, self.stop_after, self.trained, self.calls = tuple(tasks), stop_after, [], 0
        count = len(self.tasks)
        camp = rng.permutation(count) % 3
        self.effect = np.where(camp[:, None] == camp, 0.15, -0.15) + rng.normal(0, 0.03, (count, count))
        self.noise = rng.normal(0, 0.01, 2**count)
        self.alone = rng.uniform(0.3, 2.0, count)

    def __call__(self, groups):
        if self.stop_after is not None and len(self.trained) >= self.stop_after:
            raise PowerCutError
        self.calls += 1
        self.trained += groups
        return self.losses(groups)

    def losses(self, groups):
        members = membership(groups, self.tasks)
        off = self.effect * (1 - np.eye(len(self.tasks)))
        code = members @ (2 ** np.arange(len(self.tasks)))
        gain = members @ off + np.where(members.sum(axis=1, keepdims=True) > 1, self.noise[code][:, None], 0)
        return np.where(members, self.alone * (1 - gain), np.nan)

    def truth(self):
        groups = [c for size in range(1, len(self.tasks) + 1) for c in combinations(self.tasks, size)]
        return GainTable(self.tasks, groups, 1 - self.losses(groups) / self.alone, single_losses=self.alone)


def search(trainer, trainings=14, **options):
    wishes = {"tasks": trainer.tasks, "budget": 3, "trainings": trainings, **options}
    return search_groups(trainer, MembershipRidge, **wishes)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 99),
    trainings=st.integers(7, 30),
    batch=st.integers(1, 4),
    singles=st.booleans(),
    budget=st.integers(1, 4),
    acquisition=st.sampled_from(["improvement", "uncertainty", "random"]),
)
def test_a_search_stays_within_its_trainings_and_chooses_what_it_trained(
    seed, trainings, batch, singles, budget, acquisition
):
    trainer = Trainer(seed=seed)
    found = search(
        trainer, trainings, batch=batch, singles=singles, budget=budget, acquisition=acquisition, seed=seed, tolerance=0
    )
    assert found.trainings == len(trainer.trained) <= trainings
    assert len(set(map(frozenset, trainer.trained))) == len(trainer.trained)
    assert [group for done in found.rounds for group in done.trained] == trainer.trained
    assert sorted(found.grouping.tasks) == list(TASKS)
    assert found.grouping.n_networks <= budget
    trained = set(map(frozenset, trainer.trained))
    values = [done.value for done in found.rounds if not np.isnan(done.value)]
    if values:  # the trained groups cover all tasks
        assert {frozenset(group.trains) for group in found.grouping.groups} <= trained
        assert found.grouping.status == "optimal"
    if singles:
        assert values == sorted(values)  # a further training never makes the choice worse


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 13), st.sampled_from(["improvement", "random"]), st.booleans())
def test_an_interrupted_search_goes_on_without_training_anything_twice(tmp_path_factory, after, acquisition, cut):
    log = tmp_path_factory.mktemp("search") / "deep" / "search.jsonl"
    options = {"acquisition": acquisition, "seed": 3, "tolerance": 0}
    whole = search(Trainer(), **options)
    first = Trainer(stop_after=after)
    with pytest.raises(PowerCutError):
        search(first, log=log, **options)
    if cut and log.exists():
        with log.open("a") as file:
            file.write('{"losses": {"a": 0.')  # killed while writing
    second = Trainer()
    resumed = search(second, log=log, **options)
    assert resumed.rounds == whole.rounds
    assert resumed.grouping.groups == whole.grouping.groups
    assert len(first.trained) + len(second.trained) == whole.trainings
    assert len([json.loads(line) for line in log.read_text().splitlines()]) == whole.trainings


def test_the_order_of_the_tasks_changes_nothing():
    trainer = Trainer()
    found = search(trainer, singles=False, trainings=20)
    order = tuple(reversed(TASKS))
    columns = [TASKS.index(task) for task in order]
    other = search_groups(
        lambda groups: Trainer().losses(groups)[:, columns],
        MembershipRidge,
        tasks=order,
        budget=3,
        trainings=20,
        singles=False,
    )
    assert found.grouping.value == pytest.approx(other.grouping.value)
    assert {frozenset(g) for r in found.rounds for g in r.trained} == {
        frozenset(g) for r in other.rounds for g in r.trained
    }


def test_it_beats_random_trainings_of_the_same_number():
    differences = []
    for seed in range(9):
        trainer = Trainer(seed=seed)
        options = {"trainings": 14, "seed": seed, "tolerance": 0}
        chosen = search(trainer, **options).grouping.value
        drawn = search(trainer, acquisition="random", **options).grouping.value
        differences.append(chosen - drawn)
    mean, error = np.mean(differences), np.std(differences) / 3
    assert mean > 2 * error


def test_all_groups_trained_means_the_true_optimum():
    trainer = Trainer(tasks="abcd")
    found = search(trainer, trainings=15, tolerance=0)
    best = select_groups(trainer.truth(), budget=3)
    assert found.grouping.value == pytest.approx(best.value)
    assert found.grouping.groups == best.groups
    assert found.trainings == 15


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 99), st.integers(0, 12), st.booleans(), st.sampled_from(["improvement", "random"]))
def test_only_candidates_are_trained_and_all_of_them_mean_the_optimum_among_them(seed, count, singles, acquisition):
    trainer = Trainer(seed=seed)
    together = [c for size in range(2, 6) for c in combinations(TASKS, size)]
    drawn = np.random.default_rng(seed).choice(len(together), count, replace=False)
    candidates = [TASKS, *(tuple(reversed(together[i])) for i in drawn)]  # names in any order
    options = {"candidates": candidates, "singles": singles, "acquisition": acquisition, "tolerance": 0}
    found = search(trainer, count + 7, seed=seed, **options)
    allowed = {*map(frozenset, candidates), *(frozenset((task,)) for task in TASKS)}
    assert set(map(frozenset, trainer.trained)) <= allowed
    truth = trainer.truth()
    rows = [i for i, group in enumerate(truth.groups) if frozenset(group) in allowed]
    assert found.trainings == len(allowed)
    assert found.grouping.value == pytest.approx(select_groups(truth.rows(rows), budget=3, kappa=0).value)


def test_a_search_that_grows_finds_what_its_first_candidates_lack():
    tasks = tuple("abcdefgh")
    for seed in range(2):
        rng = np.random.default_rng(seed)
        few = [tuple(sorted(rng.permutation(tasks)[: rng.integers(2, 5)].tolist())) for _ in range(31)]
        truth = Trainer(tasks, seed).truth()
        best = select_groups(truth, budget=3, kappa=0.0, max_size=4)
        picks = {tuple(sorted(group.trains)) for group in best.groups}
        found = {
            grow: search_groups(
                Trainer(tasks, seed), lambda table, truth=truth: truth, tasks=tasks, budget=3, trainings=18,
                candidates=few, grow=grow, max_size=4, tolerance=0.0,
            )
            for grow in (False, True)
        }  # fmt: skip
        trained = {grow: {g for done in one.rounds for g in done.trained} for grow, one in found.items()}
        assert trained[False] <= {*few, *((task,) for task in tasks)}
        assert max(map(len, trained[True])) <= 4
        assert not picks <= {*few}
        assert picks <= trained[True]
        assert found[True].grouping.value == pytest.approx(best.value)


def test_it_stops_when_nothing_promises_to_change_the_choice():
    trainer = Trainer()
    found = search(trainer, trainings=60, tolerance=0.05)
    assert found.settled
    assert found.trainings < 60
    assert not search(Trainer(), trainings=14, tolerance=0).settled


def test_known_groups_cost_nothing():
    trainer = Trainer()
    alone = GainTable(
        TASKS, [(t,) for t in TASKS], np.where(np.eye(6, dtype=bool), 0.0, np.nan), single_losses=trainer.alone
    )
    found = search(trainer, trainings=8, known=alone, tolerance=0)
    assert found.trainings == 8
    assert not any(len(group) == 1 for group in trainer.trained)
    assert found.table.single_losses == pytest.approx(trainer.alone)


def test_a_task_alone_that_was_not_trained_is_no_measurement():
    trainer = Trainer()
    found = search(trainer, trainings=17, singles=False)  # 15 pairs and two more
    untrained = [task for task in TASKS if (task,) not in trainer.trained]
    assert untrained
    assert not found.model.measured([(task,) for task in untrained]).any()
    mean, std = found.model.predict([(untrained[0],)])
    column = TASKS.index(untrained[0])
    assert mean[0, column] == 0
    assert std[0, column] > 0
    assert np.isnan(np.delete(mean[0], column)).all()


@pytest.mark.parametrize("alone", [True, False])
def test_what_is_saved_over_losses_that_nobody_trained_is_told_to_be_an_estimate(alone):
    trainer = Trainer()
    found = search(trainer, trainings=17, singles=alone)
    assert set(found.estimated) == {task for task in TASKS if (task,) not in trainer.trained}
    assert bool(found.estimated) != alone
    assert str(found).startswith(str(found.grouping))
    assert ("estimated" in str(found)) != alone
    assert f"{found.trainings} groups trained" in str(found)


def test_the_log_may_be_a_string_and_numbers_may_be_floats_that_are_whole(tmp_path):
    log = tmp_path / "search.jsonl"
    found = search(Trainer(), trainings=np.float64(14), batch=2.0, log=str(log), tolerance=0)
    whole = search(Trainer(), trainings=14, batch=2, tolerance=0)
    assert (found.rounds, found.trainings) == (whole.rounds, 14)
    again = Trainer()
    assert search(again, trainings=14, batch=2, log=log, tolerance=0).rounds == whole.rounds
    assert again.trained == []


def test_one_network_that_diverged_does_not_cost_the_others_of_its_call(tmp_path):
    trainer, log = Trainer(), tmp_path / "search.jsonl"

    def diverges(groups):
        losses = trainer(groups)
        losses[1] = np.nan
        return losses

    with pytest.raises(ValueError, match=r"Got nan. If the network diverged, .*\. The other 5 groups .* in the log"):
        search_groups(diverges, MembershipRidge, tasks=TASKS, budget=3, trainings=14, log=log)
    again = Trainer()
    whole = search(Trainer())
    assert search(again, log=log).rounds == whole.rounds
    assert len(again.trained) == whole.trainings - 5


def test_progress_is_told():
    told = []
    search(Trainer(), tolerance=0, progress=lambda done, limit: told.append((done, limit)))
    assert told[-1] == (14, 14)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_expected_improvement_is_the_mean_over_what_could_come_out():
    rng = np.random.default_rng(0)
    mean = rng.normal(0, 1, (6, 4))
    mean[rng.random((6, 4)) < 0.4] = np.nan
    std = np.where(np.isnan(mean), np.nan, rng.uniform(0.1, 1, (6, 4)))
    chosen = np.array([[0.2, -0.1, 0.4, -np.inf], [-np.inf, 0.3, -0.2, 0.1]])
    cost, chosen_cost, budget = np.array([1, 1, 1, 1, 2, 9.0]), np.ones(2), 2.0
    found = expected_improvement(mean, std, cost, chosen, chosen_cost, budget)
    value = chosen.max(axis=0).sum()
    for row in range(6):
        outcomes = mean[row] + std[row] * rng.standard_normal((200_000, 4))
        best = 0.0
        for dropped in range(2):
            if cost[row] > 1:
                continue
            others = chosen[1 - dropped]
            served = np.where(np.isnan(outcomes), others, np.maximum(outcomes, others))
            best = max(best, served.sum(axis=1).mean() - value)
        assert found[row] == pytest.approx(best, abs=0.02)


@given(st.integers(2, 9), st.integers(1, 40), st.integers(1, 4), st.integers(0, 9))
def test_the_first_groups_are_pairs_if_affordable_else_of_the_size_to_deploy(count, trainings, networks, seed):
    tasks = tuple(f"t{number}" for number in range(count))
    found = first_trainings(tasks, trainings, networks, count, np.random.default_rng(seed))
    assert len(set(found)) == len(found) <= trainings
    assert all(len(group) >= 2 for group in found)
    if trainings >= count * (count - 1) // 2 + 2:
        assert found == list(combinations(tasks, 2))
    elif count <= 5:
        assert found[0] == tasks
        assert set(found[1:]) <= set(combinations(tasks, 2))
    elif trainings > 1:
        assert found[0] == tasks
        assert all(len(group) >= min(count, max(2, -(-count // networks))) for group in found[1:])
    assert found == first_trainings(tasks, trainings, networks, count, np.random.default_rng(seed))


def test_bad_input_is_named(tmp_path):
    trainer = Trainer()
    with pytest.raises(ValueError, match=r"loss of task 'b' in group a\+b must be a finite number above 0. Got nan"):
        search_groups(
            lambda groups: np.where(membership(groups, "ab"), [1.0, np.nan], np.nan),
            MembershipRidge,
            tasks="ab",
            budget=1,
            trainings=3,
            singles=False,
        )
    with pytest.raises(ValueError, match=r"\[groups, tasks\] = \[6, 6\]. Got \[6\]"):
        search_groups(lambda groups: np.ones(len(groups)), MembershipRidge, tasks=TASKS, budget=1, trainings=9)
    with pytest.raises(ValueError, match="known must be a table of losses of the same tasks"):
        search(trainer, known=Trainer(tasks="ab").truth())
    log = tmp_path / "search.jsonl"
    log.write_text('{"losses": {"z": 1.0}}\n')
    with pytest.raises(ValueError, match=r"line 1 is of tasks \['z'\]"):
        search(trainer, log=log)
    log.write_text('{"losses": {"a": NaN}}\n')
    with pytest.raises(ValueError, match="line 1 has a loss that is not a finite number above 0"):
        search(trainer, log=log)
    log.write_text("what\n")
    with pytest.raises(ValueError, match="line 1 is no line of a search"):
        search(trainer, log=log)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trainings": 0}, "trainings must be a whole number, 1 or more. Got 0"),
        ({"trainings": 9.5}, "trainings must be a whole number"),
        ({"trainings": 5}, "trainings=5 is too few: the first groups to train leave out f"),
        ({"batch": float("inf")}, "batch must be a whole number"),
        ({"acquisition": "hope"}, "must be one of improvement, uncertainty, random. Got 'hope'"),
        ({"tolerance": float("nan")}, "tolerance is a share"),
        ({"budget": 0}, "The budget must allow at least 1 network"),
        ({"budget": 1.5}, "must be a whole number"),
        ({"budget": 2, "max_size": 2}, "budget"),
        ({"max_size": float("inf")}, "max_size must be a whole number, 1 or more. Got inf"),
        ({"objective": "fun"}, "objective must be"),
        ({"weights": {"a": 1.0}}, "weights must name every task"),
        ({"costs": {"a+z": 1.0}}, "'z'"),
        ({"constraints": Constraints(must_link=[("a", "z")])}, "unknown task 'z'"),
        ({"constraints": Constraints(min_size=4, cannot_link=[tuple("abcdef")])}, "min_size=4, cannot_link"),
        ({"constraints": Constraints(resources=[Resource("memory", 2, lambda group: len(group))])}, "memory"),
        ({"candidates": [("a", "z")]}, "'z'"),
        ({"candidates": []}, "covers all 6 tasks within budget=3"),
        ({"candidates": [("a", "b"), TASKS[1:]], "singles": False, "trainings": 1}, "leave out c, d, e, f"),
        ({"tasks": ("a", "a")}, "Got 'a' twice"),
        ({"backend": TaskMean(Trainer().truth())}, "backend makes a gain model .* Got TaskMean"),
        ({"backend": "ridge"}, "such as MembershipRidge"),
        ({"shortened": 0.2}, r"shortened is given as Shortened\(...\). Got 0.2"),
        ({"known": "losses.csv"}, "known must be a table of losses"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_trained(wrong, message):
    trainer = Trainer()
    with pytest.raises(ValueError, match=message):
        search_groups(trainer, **{"backend": MembershipRidge, "tasks": TASKS, "budget": 3, "trainings": 14} | wrong)
    assert trainer.trained == []


def test_a_floor_that_only_trainings_can_meet_is_not_refused_before_them():
    trainer = Trainer()
    found = search(trainer, 30, constraints=Constraints(min_gain={"a": 0.01}))
    serving = next(group for group in found.grouping.groups if "a" in group.serves)
    gains, _ = found.table.predict([serving.trains])
    assert gains[0, TASKS.index("a")] >= 0.01


@pytest.mark.parametrize("acquisition", ["improvement", "uncertainty", "random"])
def test_after_the_first_trainings_only_what_may_be_chosen_is_trained(acquisition):
    asked = Constraints(cannot_link=[("a", "b")], must_link=[("c", "d")])
    found = search(Trainer(), 26, acquisition=acquisition, tolerance=0, constraints=asked)
    later = [group for done in found.rounds if done.why != "first" for group in done.trained]
    assert later
    for group in later:
        assert not {"a", "b"} <= set(group)
        assert ("c" in group) == ("d" in group)


def test_on_published_tables_it_beats_random_trainings_and_random_covers(group_tables):
    differences = []
    for table in ("setting1", "large", "small_data"):
        truth = GainTable.from_csv(group_tables / f"standley_{table}.csv", "validation_loss")

        def lost(backend, budget, seed=0, truth=truth, **options):
            found = search_groups(
                lambda groups: truth.single_losses * (1 - truth.predict(groups)[0]),
                backend,
                tasks=truth.tasks,
                budget=budget,
                trainings=12,
                seed=seed,
                tolerance=0.0,
                **options,
            )
            return regret(found.grouping, truth, budget=budget)

        for budget in (2, 3):
            # At random the model is not asked: the cheapest one will do.
            drawn = [lost(TaskMean, budget, seed, acquisition="random", batch=12) for seed in range(9)]
            searched = lost(StackedGains, budget)
            assert searched <= np.mean(drawn) + 2 * np.std(drawn) / 3  # in one of six they are alike
            assert searched <= np.mean(random_regret(truth, budget=budget))
            differences.append(np.mean(drawn) - searched)
    assert np.mean(differences) > 0.02


def hurried(trainer, error=0.02):
    """Shortened trainings: all losses higher, and by another share in each group."""
    seen = Trainer(trainer.tasks)
    seen.alone, seen.effect, seen.noise = 1.3 * trainer.alone, trainer.effect, trainer.noise
    seen.noise = trainer.noise + np.random.default_rng(9).normal(0, error, len(trainer.noise))
    return seen


@settings(deadline=None, max_examples=3)
@given(
    seed=st.integers(0, 99),
    trainings=st.integers(8, 14),
    price=st.sampled_from([0.1, 0.25, 0.5]),
    groups=st.integers(1, 6),
    batch=st.integers(1, 3),
)
def test_shortened_trainings_are_paid_and_come_before_full_ones(seed, trainings, price, groups, batch):
    trainer = Trainer(seed=seed)
    short = hurried(trainer)
    option = Shortened(short, price, groups)
    found = search(trainer, trainings, shortened=option, batch=batch, tolerance=0, seed=seed)
    assert found.trainings == len(trainer.trained)
    assert found.trainings + price * len(found.shortened) <= trainings + 1e-6
    assert len(set(map(frozenset, short.trained))) == len(short.trained)
    assert set(short.trained) == {*trainer.trained, *found.shortened}
    assert not {*found.shortened} & {*trainer.trained}
    assert [g for done in found.rounds if done.why != "shortened" for g in done.trained] == trainer.trained
    if any(not np.isnan(done.value) for done in found.rounds):  # the trained groups cover all tasks
        assert {group.trains for group in found.grouping.groups} <= set(trainer.trained)


@settings(deadline=None, max_examples=3)
@given(st.integers(0, 8), st.integers(0, 19))
def test_an_interrupted_search_with_shortened_trainings_goes_on(tmp_path_factory, full_after, short_after):
    log = tmp_path_factory.mktemp("search") / "search.jsonl"

    def run(trainer, short, **options):
        return search(trainer, 14, shortened=Shortened(short, 0.2, 3), tolerance=0, seed=3, **options)

    whole = run(Trainer(), hurried(Trainer()))
    first, first_short = Trainer(stop_after=full_after), hurried(Trainer())
    first_short.stop_after = short_after
    with suppress(PowerCutError):
        run(first, first_short, log=log)
    second, second_short = Trainer(), hurried(Trainer())
    resumed = run(second, second_short, log=log)
    assert resumed.rounds == whole.rounds
    assert resumed.grouping.groups == whole.grouping.groups
    assert len(first.trained) + len(second.trained) == whole.trainings
    assert len(first_short.trained) + len(second_short.trained) == whole.trainings + len(whole.shortened)


def test_shortened_trainings_that_rank_well_find_better_groups_for_the_same_price():
    differences = []
    for seed in range(6):
        options = {"trainings": 14, "seed": seed, "tolerance": 0}
        trainer = Trainer(tasks="abcdefg", seed=seed)
        plain = search(trainer, **options).grouping.value
        short = Shortened(hurried(trainer), 0.2)
        differences.append(search(trainer, shortened=short, **options).grouping.value - plain)
    assert np.mean(differences) > 2 * np.std(differences) / 6**0.5


@pytest.mark.parametrize(("price", "groups"), [(0.0, 4), (1.0, 4), (float("nan"), 4), (0.2, 0), (0.2, 1.5)])
def test_a_wrong_price_or_number_of_shortened_trainings_is_refused(price, groups):
    with pytest.raises(ValueError, match=r"price is what|groups must be a whole number"):
        Shortened(Trainer(), price, groups)


@pytest.mark.parametrize(("trainings", "alone"), [(16, True), (17, False), (22, False), (23, True)])
def test_the_tasks_alone_go_first_unless_only_so_all_pairs_can_be_afforded(trainings, alone):
    trainer = Trainer()  # 6 tasks, 15 pairs, 2 groups at least after them
    search(trainer, trainings)
    first = trainer.trained[:6]
    assert all(len(group) == 1 for group in first) if alone else first == list(combinations(TASKS, 2))[:6]
