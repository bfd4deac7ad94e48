from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from cotrain.grouping.gains import GainModel
from cotrain.grouping.linearized_gains import LinearizedGains

D = 5
TASKS = ("a", "b", "c", "d")
KINDS = ("squared", "logistic", "squared", "logistic")
GROUPS = [("a",), ("a", "b"), ("b", "c", "d"), ("d", "a"), TASKS]


def part(name, loss, n, rng, d=D):
    gradients, outputs = rng.normal(size=(n, d)), rng.normal(size=n)
    slope = 1 + np.random.default_rng(ord(name)).normal(size=d) / 2  # partly common to the tasks
    truth = outputs + gradients @ slope + rng.normal(size=n)
    return SimpleNamespace(
        name=name, loss=loss, gradients=gradients, outputs=outputs,
        labels=truth if loss == "squared" else (truth > 0).astype(float),
    )  # fmt: skip


def samples(seed, sizes=(30, 40, 50, 33), kinds=KINDS, d=D):
    rng = np.random.default_rng(seed)
    return SimpleNamespace(
        parts=[part(name, kind, n, rng, d) for name, kind, n in zip(TASKS, kinds, sizes, strict=True)]
    )


def changed(given, change):
    return SimpleNamespace(parts=[SimpleNamespace(**{**vars(part), **change(part)}) for part in given.parts])


def mean_loss(part, w):
    outputs = part.outputs + part.gradients @ w
    if part.loss == "squared":
        return np.mean((part.labels - outputs) ** 2)
    return np.mean(np.logaddexp(0, outputs) - part.labels * outputs)


def step_by_definition(parts, penalty):
    """Sample by sample: one Newton step of the mean loss, Gauss-Newton for the network."""
    curvature, slope = penalty * np.eye(D), np.zeros(D)
    for part in parts:
        for h, f, y in zip(part.gradients, part.outputs, part.labels, strict=True):
            q = 1 / (1 + np.exp(-f))
            scale, residual = (2, 2 * (y - f)) if part.loss == "squared" else (q * (1 - q), y - q)
            curvature += scale * np.outer(h, h) / len(part.outputs) / len(parts)
            slope += residual * h / len(part.outputs) / len(parts)
    return np.linalg.solve(curvature, slope)


def gain_by_definition(train, valid, group, name, penalty):
    def loss(members):
        chosen = [part for part in train.parts if part.name in members]
        held_out = next(part for part in valid.parts if part.name == name)
        return mean_loss(held_out, step_by_definition(chosen, penalty))

    return 1 - loss(group) / loss((name,))


def test_gains_are_those_of_a_plain_solve_per_group():
    train, valid = samples(0), samples(1)
    model = LinearizedGains(train, valid, penalties=[0.1], shrink=False)
    assert isinstance(model, GainModel)
    assert (model.unit, model.single_losses, model.tasks) == ("gain", None, TASKS)
    mean, _ = model.predict(GROUPS)
    for row, group in zip(mean, GROUPS, strict=True):
        for value, name in zip(row, TASKS, strict=True):
            if name in group:
                assert value == pytest.approx(gain_by_definition(train, valid, group, name, 0.1), abs=1e-12)
            else:
                assert np.isnan(value)


def test_squared_losses_are_ridge_regressions_of_the_pooled_samples():
    train, valid = samples(2, kinds=("squared",) * 4), samples(3, kinds=("squared",) * 4)
    model = LinearizedGains(train, valid, penalties=[0.3], shrink=False)

    def refit(group):
        chosen = [part for part in train.parts if part.name in group]

        def objective(w):
            return np.mean([mean_loss(part, w) for part in chosen]) + 0.3 * w @ w / 2

        return minimize(objective, np.zeros(D), tol=1e-12).x

    mean, _ = model.predict(GROUPS)
    for row, group in zip(mean, GROUPS, strict=True):
        for j, part_ in enumerate(valid.parts):
            if part_.name in group:
                expected = 1 - mean_loss(part_, refit(group)) / mean_loss(part_, refit((part_.name,)))
                assert row[j] == pytest.approx(expected, abs=1e-5)


def test_a_group_takes_the_penalty_of_its_lowest_validation_loss_relative_to_the_network():
    def in_cents(part):
        factor = 30 if part.name == "c" else 1
        return {name: factor * getattr(part, name) for name in ("gradients", "outputs", "labels")}

    train, valid = changed(samples(8), in_cents), changed(samples(9), in_cents)
    path = [0.003, 0.3, 30.0]
    model = LinearizedGains(train, valid, penalties=path, shrink=False)

    def losses(group):
        chosen = [[part for part in split.parts if part.name in group] for split in (train, valid)]
        of_path = [[mean_loss(part, step_by_definition(chosen[0], value)) for part in chosen[1]] for value in path]
        start = [mean_loss(part, np.zeros(D)) for part in chosen[1]]
        return of_path[int(np.argmin([np.mean(np.divide(row, start)) for row in of_path]))]

    mean, _ = model.predict(GROUPS)
    for row, group in zip(mean, GROUPS, strict=True):
        names = [name for name in TASKS if name in group]
        for name, loss in zip(names, losses(group), strict=True):
            assert row[TASKS.index(name)] == pytest.approx(1 - loss / losses((name,))[0], abs=1e-12)


def test_the_default_penalty_is_the_best_for_the_tasks_alone():
    train, valid = samples(6), samples(7)
    (path,) = LinearizedGains(train, valid).penalties
    np.testing.assert_allclose(np.diff(np.log10(path)), 0.5)

    def alone(value):
        return np.mean(
            [
                mean_loss(held, step_by_definition([part], value)) / mean_loss(held, np.zeros(D))
                for part, held in zip(train.parts, valid.parts, strict=True)
            ]
        )

    others = [path[0] * 10 ** (half / 2) for half in (-2, -1, 1, 2)]
    assert alone(path[0]) <= min(map(alone, others))


def test_shrinkage_is_the_loss_alone_relative_to_the_networks_and_keeps_the_order_within_a_task():
    train, valid = samples(8, sizes=(30, 3, 40, 40)), samples(9)
    shrunk, plain = (LinearizedGains(train, valid, penalties=[0.001], shrink=shrink) for shrink in (True, False))
    ratios = [
        mean_loss(held, step_by_definition([part], 0.001)) / mean_loss(held, np.zeros(D))
        for part, held in zip(train.parts, valid.parts, strict=True)
    ]
    expected = np.minimum(ratios, 1)
    assert max(ratios) > 1 > min(ratios)
    np.testing.assert_allclose(shrunk.shrinkage, [expected])
    assert (plain.shrinkage == 1).all()
    for one, other in zip(shrunk.predict(GROUPS), plain.predict(GROUPS), strict=True):
        np.testing.assert_allclose(one, other * expected, atol=1e-12)


def assert_same(one, other, rtol=1e-6):
    for found, expected in zip(one.predict(GROUPS), other.predict(GROUPS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-9)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.permutations(range(4)))
def test_the_order_of_tasks_members_and_groups_does_not_matter(seed, order):
    train, valid = samples(seed), samples(seed + 1)
    mean, std = LinearizedGains(train, valid).predict(GROUPS)
    moved = [SimpleNamespace(parts=[split.parts[i] for i in order]) for split in (train, valid)]
    other = LinearizedGains(*moved)
    for row, group in enumerate(GROUPS):
        for found, expected in zip(other.predict([group[::-1]]), (mean, std), strict=True):
            np.testing.assert_allclose(found[0], expected[row, order], rtol=1e-6, atol=1e-9)
    mixed = LinearizedGains([train, moved[0]], [valid, moved[1]]).predict(GROUPS)[0]
    np.testing.assert_allclose(mixed, mean, rtol=1e-6, atol=1e-9)


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_the_order_of_samples_does_not_matter(seed):
    rng = np.random.default_rng(seed)

    def shuffled(part):
        order = rng.permutation(len(part.outputs))
        return {name: getattr(part, name)[order] for name in ("gradients", "outputs", "labels")}

    train, valid = samples(seed), samples(seed + 1)
    other = LinearizedGains(changed(train, shuffled), changed(valid, shuffled))
    np.testing.assert_allclose(other.predict(GROUPS)[0], LinearizedGains(train, valid).predict(GROUPS)[0], rtol=1e-7)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_rotation_and_scale_of_the_gradients_do_not_matter(seed, scale):
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(D, D)))[0]
    train, valid = samples(seed), samples(seed + 1)

    def moved(part):
        return {"gradients": scale * part.gradients @ turn}

    one, other = LinearizedGains(train, valid), LinearizedGains(changed(train, moved), changed(valid, moved))
    assert_same(other, one)
    np.testing.assert_allclose(other.penalties, np.array(one.penalties) * scale**2, rtol=1e-6)


def test_the_unit_of_a_squared_loss_and_twice_the_samples_change_nothing():
    train, valid = samples(10), samples(11)

    def doubled(part):
        return {name: np.concatenate([getattr(part, name)] * 2) for name in ("gradients", "outputs", "labels")}

    one = LinearizedGains(train, valid, penalties=[0.1])
    other = LinearizedGains(changed(train, doubled), changed(valid, doubled), penalties=[0.1])
    np.testing.assert_allclose(other.predict(GROUPS)[0], one.predict(GROUPS)[0], rtol=1e-9, atol=1e-12)

    def in_cents(part):
        return {name: 100 * getattr(part, name) for name in ("gradients", "outputs", "labels")}

    kinds = ("squared",) * 4
    train, valid = samples(10, kinds=kinds), samples(11, kinds=kinds)
    assert_same(LinearizedGains(changed(train, in_cents), changed(valid, in_cents)), LinearizedGains(train, valid))


def test_missing_labels_are_other_numbers_of_samples_per_task():
    model = LinearizedGains(samples(12, sizes=(3, 400, 50, 1)), samples(13, sizes=(400, 2, 1, 50)))
    mean, std = model.predict(GROUPS)
    members = np.array([[name in group for name in TASKS] for group in GROUPS])
    np.testing.assert_array_equal(np.isfinite(mean), members)
    np.testing.assert_array_equal(np.isfinite(std), members)


def test_alone_is_0_and_a_group_never_certain():
    train, valid = samples(14), samples(15)
    for networks in ((train, valid), ([train, samples(16)], [valid, samples(17)])):
        model = LinearizedGains(*networks)
        groups = [("a",), ("d",), ("a", "d"), TASKS]
        mean, std = model.predict(groups)
        assert mean[0, 0] == std[0, 0] == mean[1, 3] == std[1, 3] == 0
        assert (std[2:][np.isfinite(mean[2:])] > 0).all()
        assert model.measured(groups).tolist() == [True, True, False, False]
        assert all(values.shape == (0, 4) for values in model.predict([]))
    still = [changed(split, lambda part: {"gradients": 0 * part.gradients}) for split in (train, valid)]
    mean, std = LinearizedGains(*still).predict([TASKS])
    np.testing.assert_allclose(mean, 0, atol=1e-12)
    assert (std > 0).all()


def test_the_samples_of_different_tasks_are_drawn_independently():
    part = samples(14).parts[0]
    twins = SimpleNamespace(parts=[SimpleNamespace(**{**vars(part), "name": name}) for name in TASKS])
    mean, std = LinearizedGains(twins, twins, penalties=[0.1]).predict([TASKS])
    np.testing.assert_allclose(mean, 0, atol=1e-12)
    assert (std > 1e-3).all()


def test_networks_are_averaged_and_their_spread_is_in_the_std():
    splits = [(samples(seed), samples(seed + 1, sizes=(90, 80, 70, 60))) for seed in (20, 30, 40)]
    alone = [LinearizedGains(*split).predict(GROUPS) for split in splits]
    together = LinearizedGains(*zip(*splits, strict=True))
    mean, std = together.predict(GROUPS)
    np.testing.assert_allclose(mean, np.mean([one[0] for one in alone], axis=0), atol=1e-12)
    spread = np.std([one[0] for one in alone], axis=0, ddof=1) * np.sqrt(4 / 3)
    assert (std >= spread - 1e-12)[np.isfinite(std)].all()
    assert len(together.penalties) == len(together.shrinkage) == 3
    same = LinearizedGains([splits[0][0]] * 2, [splits[0][1]] * 2)
    for found, expected in zip(same.predict(GROUPS), alone[0], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_the_std_is_the_spread_over_new_samples(penalty):
    rng = np.random.default_rng(0)
    slopes = {name: rng.normal(size=D) / 2 for name in TASKS}

    def drawn(n):
        parts = []
        for name, kind in zip(TASKS, KINDS, strict=True):
            gradients, outputs = rng.normal(size=(n, D)), np.zeros(n)
            noisy = gradients @ slopes[name] + rng.logistic(size=n)
            labels = noisy if kind == "squared" else (noisy > 0).astype(float)
            parts.append(SimpleNamespace(name=name, loss=kind, gradients=gradients, outputs=outputs, labels=labels))
        return SimpleNamespace(parts=parts)

    found = [
        LinearizedGains(drawn(200), drawn(200), penalties=[penalty], replicates=20).predict([TASKS]) for _ in range(60)
    ]
    spread = np.std([mean for mean, _ in found], axis=0)
    ratio = np.mean([std for _, std in found], axis=0) / spread
    assert (ratio > 0.7).all()
    assert (ratio < 1.4).all()


def test_chunks_do_not_show(monkeypatch):
    model = LinearizedGains(samples(18), samples(19))
    expected = model.predict(GROUPS)
    monkeypatch.setattr("cotrain.grouping.linearized_gains.CHUNK_BYTES", 2 * 8 * D**2)
    for found, value in zip(model.predict(GROUPS), expected, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-12)


def broken(place, **values):
    return changed(samples(0), lambda part: values if part.name == place else {})


EMPTY = {"gradients": np.zeros((0, D)), "outputs": np.zeros(0), "labels": np.zeros(0)}
FLAT = {"loss": "squared", "gradients": np.zeros((3, D)), "outputs": np.ones(3), "labels": np.ones(3)}


@pytest.mark.parametrize(
    ("train", "valid", "options", "message"),
    [
        (broken("c", **EMPTY), samples(1), {}, "Task 'c' has no labelled sample"),
        (samples(0), broken("b", **EMPTY), {}, "Task 'b' has no labelled sample"),
        (samples(0), broken("d", outputs=np.full(33, np.nan)), {}, "Task 'd' has a number that is not finite"),
        (broken("a", labels=np.zeros(3)), samples(1), {}, "Task 'a' must have gradients"),
        (broken("a", loss="hinge"), samples(1), {}, "Task 'a' must have loss 'squared' or 'logistic'. Got 'hinge'"),
        (broken("b", gradients=np.zeros((40, 2))), samples(1), {}, "same width d. Got \\[2, 5\\]"),
        (samples(0), samples(1, d=4), {}, "one width d in both splits. Got \\[4, 5\\]"),
        (samples(0), broken("a", name="z"), {}, "must have the same tasks"),
        (samples(0), broken("a", **FLAT), {}, "loss of task 'a' is 0"),
        ([samples(0)] * 2, [samples(1)], {}, "as many networks for valid as for train. Got 1 and 2"),
        ([], [], {}, "as many networks"),
        (samples(0), samples(1), {"replicates": 1}, "at least 2 replicates. Got 1"),
        (samples(0), samples(1), {"penalties": []}, "above 0, at least one"),
        (samples(0), samples(1), {"penalties": [1.0, 0.0]}, "above 0"),
    ],
)
def test_bad_input(train, valid, options, message):
    with pytest.raises(ValueError, match=message):
        LinearizedGains(train, valid, **options)
