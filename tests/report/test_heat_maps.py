from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cotrain.report.contents import read_study
from cotrain.report.heat_maps import (
    MAX_TASKS,
    affinity_figure,
    agreement,
    control_figure,
    distinct_share,
    off_diagonal,
    robust_limit,
    shown_tasks,
)

Make = Callable[..., Path]
NAMES = ("a", "b", "c", "d", "noise")
matrices = arrays(np.float64, (5, 5), elements=st.floats(-5, 5) | st.just(np.nan))


def test_views_are_affinity_error_and_their_ratio(make_folder: Make) -> None:
    study = read_study(make_folder(names=NAMES))
    figure = affinity_figure(study)
    assert figure.views == ("affinity", "standard error", "|z|")
    affinity, stderr, z_score = (np.array(trace["z"], dtype=np.float64) for trace in figure.data)
    expected = off_diagonal(study.pairs["affinity"], study.display_order)
    np.testing.assert_allclose(affinity, expected, rtol=1e-3)
    np.testing.assert_allclose(z_score, np.abs(expected) / 0.003, rtol=1e-3)
    assert np.nanmax(stderr) == 0.003
    for view in (affinity, stderr, z_score):
        assert np.isnan(np.diag(view)).all()


def test_affinity_colours_are_centred_on_zero(make_folder: Make) -> None:
    trace = affinity_figure(read_study(make_folder(names=NAMES))).data[0]
    assert trace["zmin"] == -trace["zmax"] < 0


def test_controls_span_minus_one_to_one(make_folder: Make) -> None:
    trace = control_figure(read_study(make_folder(names=NAMES)), "label_correlation").data[0]
    assert (trace["zmin"], trace["zmax"]) == (-1.0, 1.0)


@settings(deadline=None)
@given(matrices, st.floats(0.01, 100))
def test_limit_does_not_mind_the_sign_and_follows_the_scale(matrix: np.ndarray, factor: float) -> None:
    limit = robust_limit(matrix)
    assert limit > 0
    assert robust_limit(-matrix) == limit
    if np.any(np.abs(matrix) > 1e-6) and np.quantile(np.abs(matrix[np.isfinite(matrix)]), 0.95) > 1e-6:
        assert robust_limit(factor * matrix) == pytest.approx(factor * limit)


def test_limit_ignores_one_extreme_pair() -> None:
    matrix = np.full((10, 10), 0.01)
    matrix[0, 1] = 50.0
    assert robust_limit(matrix) == pytest.approx(0.01)


def test_share_of_pairs_that_are_told_from_zero(make_folder: Make) -> None:
    study = read_study(make_folder(names=("a", "b", "c")))
    affinity = np.array([[9.0, 0.3, 0.1], [-0.3, 9.0, 0.1], [0.1, np.nan, 9.0]])
    study = replace(study, pairs={**study.pairs, "affinity": affinity, "stderr": np.full((3, 3), 0.1)})
    assert distinct_share(study) == pytest.approx(2 / 5)
    nothing = replace(study, pairs={**study.pairs, "stderr": np.full((3, 3), np.nan)})
    assert np.isnan(distinct_share(nothing))


def test_agreement_is_pearson_over_pairs(make_folder: Make) -> None:
    study = read_study(make_folder(names=NAMES))
    control = study.pairs["label_correlation"]
    off = ~np.eye(5, dtype=bool)
    expected = np.corrcoef(study.pairs["affinity"][off], control[off])[0, 1]
    assert agreement(study, "label_correlation") == pytest.approx(expected)
    flat = replace(study, pairs={**study.pairs, "label_correlation": np.ones((5, 5))})
    assert np.isnan(agreement(flat, "label_correlation"))


def test_many_tasks_keep_those_with_the_strongest_affinities(make_folder: Make) -> None:
    study = read_study(make_folder(names=("a", "b", "c")))
    n_tasks = MAX_TASKS + 5
    affinity = np.full((n_tasks, n_tasks), 0.1)
    affinity[3, 7] = -4.0
    affinity[-1, :] = affinity[:, -1] = np.nan
    tasks = tuple(replace(study.tasks[0], name=f"t{t}") for t in range(n_tasks))
    study = replace(study, tasks=tasks, groups=(), pairs={"affinity": affinity})
    shown = shown_tasks(study)
    assert len(shown) == MAX_TASKS
    assert shown == sorted(shown)
    assert {3, 7} <= set(shown)
    assert n_tasks - 1 not in shown
