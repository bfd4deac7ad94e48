import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cotrain.grouping import Group, PairMean
from cotrain.study.arms import Arm
from cotrain.study.gain_table import COLUMNS, GainRow, agreement, as_csv, gain_rows

TASKS = ("a", "b", "c")
SINGLES = Arm("single", tuple(Group((task,), (task,)) for task in TASKS))
TOGETHER = Arm("all-in-one", (Group(TASKS, TASKS),))
GROUPED = Arm("grouped", (Group(("a", "b"), ("a",)), Group(("b", "c"), ("b", "c"))))
EFFECTS = np.array([[0.0, 0.1, 0.2], [0.3, 0.0, 0.4], [0.5, 0.6, 0.0]])


def losses_of(seed):
    rng = np.random.default_rng(seed)
    networks = [group.trains for arm in (SINGLES, TOGETHER, GROUPED) for group in arm.groups]
    return {network: {task: float(rng.uniform(0.1, 1)) for task in network} for network in networks}


def test_gains_are_those_of_a_plain_reference():
    losses = {seed: losses_of(seed) for seed in (3, 4)}
    rows = gain_rows([SINGLES, TOGETHER, GROUPED], PairMean(EFFECTS, TASKS, stderr=EFFECTS), losses)
    found = {(row.arm, row.network, row.task, row.seed): row for row in rows}
    expected = [
        ("all-in-one", 0, TASKS, "a", "serves", (0.3 + 0.5) / 2),
        ("all-in-one", 0, TASKS, "b", "serves", (0.1 + 0.6) / 2),
        ("all-in-one", 0, TASKS, "c", "serves", (0.2 + 0.4) / 2),
        ("grouped", 0, ("a", "b"), "a", "serves", 0.3),
        ("grouped", 0, ("a", "b"), "b", "helps", 0.1),
        ("grouped", 1, ("b", "c"), "b", "serves", 0.6),
        ("grouped", 1, ("b", "c"), "c", "serves", 0.4),
    ]
    assert len(rows) == len(found) == 2 * len(expected)
    for arm, network, trains, task, role, predicted in expected:
        for seed in (3, 4):
            row = found[arm, network, task, seed]
            assert (row.trains, row.role) == (trains, role)
            assert row.predicted == pytest.approx(predicted)
            assert row.realised == pytest.approx(1 - losses[seed][trains][task] / losses[seed][(task,)][task])
    assert found["grouped", 0, "a", 3].predicted_std == pytest.approx(0.3)


def test_tasks_without_a_prediction_have_none_and_do_not_disturb_the_others():
    rows = gain_rows([TOGETHER], PairMean(EFFECTS[:2, :2], TASKS[:2]), {0: losses_of(0)})
    assert [row.predicted for row in rows] == pytest.approx([0.3, 0.1, math.nan], nan_ok=True)
    assert all(math.isnan(row.predicted) for row in gain_rows([TOGETHER], None, {0: losses_of(0)}))
    alone = Arm("grouped", (Group(("c",), ("c",)),))
    (row,) = gain_rows([alone], PairMean(EFFECTS[:2, :2], TASKS[:2]), {0: losses_of(0)})
    assert math.isnan(row.predicted)


def test_without_a_check_there_is_one_row_without_a_seed():
    rows = gain_rows([GROUPED], PairMean(EFFECTS, TASKS), {})
    assert [(row.seed, math.isnan(row.realised)) for row in rows] == [(None, True)] * 4


def test_a_task_that_is_perfect_alone_has_no_gain():
    losses = {0: losses_of(0)}
    losses[0][("a",)]["a"] = 0.0
    rows = gain_rows([TOGETHER], None, losses)
    assert math.isnan(rows[0].realised)
    assert math.isfinite(rows[1].realised)


entries = st.lists(
    st.tuples(st.sampled_from(["ab", "abc", "ac", "bc"]), st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=30
)


@given(entries)
def test_agreement_is_numpys(values):
    rows, means = [], {}
    for seed, (trains, predicted, realised) in enumerate(values):
        for task in trains:
            predicted = means.setdefault((trains, task), (predicted, []))[0]
            means[trains, task][1].append(realised)
            rows.append(GainRow("grouped", 0, tuple(trains), task, "serves", predicted, 0.0, seed, realised))
    found = agreement(rows)
    x = np.array([predicted for predicted, _ in means.values()])
    y = np.array([np.mean(realised) for _, realised in means.values()])
    tasks = np.array([task for _, task in means])
    within = [pearson(x[tasks == task], y[tasks == task]) for task in "abc"]
    known = [value for value in within if value is not None]
    others = [np.delete(y, i)[np.delete(tasks, i) == task] for i, task in enumerate(tasks)]
    several = np.array([len(values) > 0 for values in others])
    baseline = np.array([values.mean() for values in others if len(values)])
    assert found.n == len(means)
    assert found.pearson == pytest.approx(pearson(x, y), abs=1e-9)
    assert found.within_task == pytest.approx(np.mean(known) if known else None, abs=1e-9)
    assert found.spearman == pytest.approx(pearson(stats.rankdata(x), stats.rankdata(y)), abs=1e-9)
    if len(baseline) < 3 or min(np.ptp(baseline), np.ptp(y[several])) > 1e-6:  # rounding rules almost equal values
        assert found.task_mean_baseline == pytest.approx(pearson(baseline, y[several]), abs=1e-6)


def pearson(x, y):
    if len(x) < 3 or not all(np.ptp(values) > 0 and np.var(values) > 0 for values in (x, y)):
        return None
    return np.corrcoef(x, y)[0, 1]


def row(trains, task, predicted, realised):
    return GainRow("grouped", 0, trains, task, "serves", predicted, 0.0, 0, realised)


def test_agreement_leaves_out_single_tasks_and_what_is_not_known():
    rows = [row(("a",), "a", 0.0, 0.0), row(TASKS, "a", math.nan, 0.1), row(TASKS, "b", 0.1, math.nan)]
    found = agreement(rows)
    assert (found.pearson, found.within_task, found.task_mean_baseline, found.n) == (None, None, None, 0)
    assert found.sentence.startswith("There are too few networks")


def test_the_sentence_holds_every_figure_that_is_defined():
    pairs = [("a", "b"), ("b", "c"), ("a", "c")]
    rows = [row(pair, task, number + 0.1 * k, number) for number, pair in enumerate(pairs)
            for k, task in enumerate(pair)]  # fmt: skip
    assert agreement(rows).sentence.startswith("There are too few networks")
    more = [
        *rows,
        *(row(TASKS, task, 3, 2.5) for task in TASKS),
        row(("a", "x"), "a", 1, 2),
        row(("a", "x"), "x", 1, 0),
    ]
    found = agreement(more)
    within = f"within tasks {found.within_task:+.2f}, ranks {found.within_task_spearman:+.2f}"
    assert f"correlate at {found.pearson:+.2f} (ranks {found.spearman:+.2f}; {within})" in found.sentence
    assert f"networks: {found.task_mean_baseline:+.2f}" in found.sentence


def test_a_table_reads_back_whatever_the_tasks_are_called():
    text = as_csv(COLUMNS, [("grouped", 0, ('o "q", ü', "x/y"), 'o "q", ü', "serves", 0.5, math.nan, None, -1.0)])
    (back,) = csv.DictReader(io.StringIO(text))
    assert back == {
        "arm": "grouped", "network": "0", "trains": 'o "q", ü+x/y', "task": 'o "q", ü', "role": "serves",
        "predicted": "0.5", "predicted_std": "", "seed": "", "realised": "-1",
    }  # fmt: skip
