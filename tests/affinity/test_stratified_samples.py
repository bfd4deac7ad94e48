import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain import Task, TaskSet
from cotrain.affinity.stratified_samples import stratified_samples

TASKS = TaskSet(
    [
        Task("rare", "binary"),
        Task("kinds", "multiclass", 3),
        Task("number", "regression"),
        Task("own", "custom", loss=lambda outputs, targets: outputs.sum(1)),
    ]
)


def random_targets(n, seed):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.stack(
        [
            (torch.rand(n, generator=generator) < 0.05).float(),
            torch.randint(3, (n,), generator=generator).float(),
            torch.randn(n, generator=generator),
            torch.randn(n, generator=generator),
        ],
        dim=1,
    )
    targets[torch.rand(n, 4, generator=generator) < 0.1] = torch.nan
    targets[::11, 1] = -100
    return targets


def classes_of(targets):
    """Masks [N] of every class and quarter, None of them empty."""
    masks = [targets[:, 0] == value for value in (0, 1)] + [targets[:, 1] == value for value in (0, 1, 2)]
    order = targets[:, 2].argsort()
    order = order[: int((~targets[:, 2].isnan()).sum())]
    cuts = [len(order) * quarter // 4 for quarter in range(5)]
    for start, stop in itertools.pairwise(cuts):
        mask = torch.zeros(len(targets), dtype=torch.bool)
        mask[order[start:stop]] = True
        masks.append(mask)
    return [mask for mask in masks if mask.any()]


def by_trying_every_quota(targets, n, seed):
    """The definition: the first k of every class in the order of preference, for the largest k that fits."""
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = set()
    for quota in range(len(targets) + 1):
        needed = set()
        for mask in classes_of(targets):
            needed |= set([i for i in order if mask[i]][:quota])
        if len(needed) > n:
            break
        chosen = needed
    others = [i for i in order if i not in chosen]
    return sorted([*chosen, *others[: n - len(chosen)]])


@settings(deadline=None, max_examples=25)
@given(st.integers(8, 60), st.integers(1, 60), st.integers(0, 99))
def test_every_class_gets_the_largest_common_quota(n_samples, n, seed):
    n, targets = min(n, n_samples), random_targets(n_samples, seed)
    found = stratified_samples(TASKS, targets, n, seed=seed)
    assert found.tolist() == by_trying_every_quota(targets, n, seed)
    named = {name: targets[:, t] for t, name in enumerate(TASKS.names)}
    assert torch.equal(stratified_samples(TASKS, named, n, seed=seed), found)


def test_rare_positives_are_all_there():
    targets = random_targets(5000, 0)
    rare = (targets[:, 0] == 1).nonzero().flatten()
    found = stratified_samples(TASKS, targets, 2000)
    assert torch.isin(rare, found).all()
    assert not torch.equal(found, stratified_samples(TASKS, targets, 2000, seed=1))


def test_tasks_without_classes_or_labels_do_not_count():
    wide = Task("wide", "regression", 2)
    targets = {"wide": torch.zeros(6, 2), "number": torch.full((6,), torch.nan), "rare": torch.eye(6)[0]}
    tasks = [wide, TASKS[2], TASKS[0]]
    for seed in range(5):
        assert 0 in stratified_samples(tasks, targets, 2, seed=seed).tolist()


@pytest.mark.parametrize("n", [0, 9])
def test_a_number_that_cannot_be_chosen(n):
    with pytest.raises(ValueError, match=f"between 1 and the number of samples, 8. Got {n}"):
        stratified_samples(TASKS, random_targets(8, 0), n)
