import math

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu, spearmanr
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from cotrain import Task, TaskSet
from cotrain.affinity import learnability


def test_auc_and_its_null_distribution():
    generator = np.random.default_rng(0)
    scores = np.round(generator.normal(size=200), 1)  # ties
    labels = (scores + generator.normal(size=200) * 3 > 0.5).astype(float)
    found = learnability([Task("a", "binary")], torch.tensor(scores)[:, None], torch.tensor(labels)[:, None])
    expected = mannwhitneyu(
        scores[labels == 1], scores[labels == 0], alternative="greater", method="asymptotic", use_continuity=False
    )
    assert found.statistics == ("AUC",)
    assert found.value.item() == pytest.approx(roc_auc_score(labels, scores))
    assert found.p_value.item() == pytest.approx(expected.pvalue, rel=1e-6)


def test_rank_correlation():
    generator = np.random.default_rng(1)
    outputs = generator.normal(size=100)
    targets = 1000 + outputs + 3 * generator.normal(size=100)
    found = learnability([Task("a", "regression")], torch.tensor(outputs)[:, None], torch.tensor(targets)[:, None])
    assert found.value.item() == pytest.approx(spearmanr(outputs, targets).statistic)
    z = torch.tensor(found.value.item() * math.sqrt(99))
    assert found.p_value.item() == pytest.approx(torch.special.ndtr(-z).item(), rel=1e-4)


def test_kappa_of_decisions_is_cohens():
    generator = np.random.default_rng(2)
    labels = generator.integers(4, size=300)
    decisions = np.where(generator.random(300) < 0.3, labels, generator.integers(4, size=300))
    logits = 1e3 * torch.nn.functional.one_hot(torch.tensor(decisions), 4).double()
    found = learnability([Task("a", "multiclass", 4)], logits, torch.tensor(labels).double()[:, None])
    assert found.value.item() == pytest.approx(cohen_kappa_score(labels, decisions))
    assert found.learnable.item()


@pytest.mark.parametrize("kind", ["multiclass", "several dimensions"])
def test_the_null_deviation_is_that_of_permutations(kind):
    generator = torch.Generator().manual_seed(0)
    n = 60
    if kind == "multiclass":
        task = Task("a", "multiclass", 3)
        outputs = 2 * torch.randn(n, 3, generator=generator) + torch.tensor([1.0, 0.0, -1.0])
        target = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), n, replacement=True, generator=generator).float()
    else:
        task = Task("a", "regression", 3)
        outputs = torch.randn(n, 3, generator=generator) + 2 * torch.randn(n, 1, generator=generator)
        target = torch.randn(n, 3, generator=generator) + torch.randn(n, 1, generator=generator)
    found = [learnability([task], outputs, {"a": target[torch.randperm(n, generator=generator)]}) for _ in range(2000)]
    z = -torch.special.ndtri(torch.cat([one.p_value for one in found]))
    assert abs(z.mean().item()) < 4 / math.sqrt(2000)
    assert z.std().item() == pytest.approx(1, abs=0.07)


def held_out(generator, n, strengths):
    """Binary, multiclass and regression tasks in turn, whose outputs know the labels more or less."""
    tasks, outputs, targets = [], [], []
    for number, strength in enumerate(strengths):
        if number % 3 == 0:
            tasks.append(Task(f"t{number}", "binary"))
            target = (torch.rand(n, generator=generator) < 0.2).float()
            output = torch.randn(n, 1, generator=generator) + strength * target[:, None]
        elif number % 3 == 1:
            tasks.append(Task(f"t{number}", "multiclass", 3))
            target = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), n, replacement=True, generator=generator).float()
            output = torch.randn(n, 3, generator=generator) + torch.tensor([3.0, 1.0, 0.0])
            output += strength * torch.nn.functional.one_hot(target.long(), 3)
        else:
            tasks.append(Task(f"t{number}", "regression"))
            target = torch.randn(n, generator=generator)
            output = torch.randn(n, 1, generator=generator) + strength * target[:, None]
        outputs.append(output)
        targets.append(target)
    return TaskSet(tasks), torch.cat(outputs, dim=1), torch.stack(targets, dim=1)


def test_noise_is_rarely_called_learnable():
    """Over 15 tasks of noise together at most about 5 %: 300 repetitions, 3 standard errors above."""
    generator = torch.Generator().manual_seed(0)
    wrong = sum(bool(learnability(*held_out(generator, 120, [0.0] * 15)).learnable.any()) for _ in range(300))
    assert wrong / 300 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)
    assert wrong > 0


def test_strong_tasks_are_found_among_noise():
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        found = learnability(*held_out(generator, 200, [2.0, 2.0, 2.0] + [0.0] * 12))
        assert found.learnable[:3].all()
        assert set(found.noise) <= {f"t{n}" for n in range(3, 15)}
        assert len(found.noise) >= 10


def test_information_is_seen_where_the_largest_class_always_wins():
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(2000, generator=generator) < 0.05).float()
    logits = torch.stack([torch.full((2000,), 4.0), target + torch.randn(2000, generator=generator)], dim=1)
    found = learnability([Task("a", "multiclass", 2)], logits, target[:, None])
    assert (logits.argmax(1) == 0).float().mean() > 0.99
    assert found.learnable.item()


def test_predictions_that_are_worse_than_chance_are_no_evidence():
    labels = torch.tensor([0.0, 1.0] * 50)
    found = learnability([Task("a", "binary")], (0.5 - labels)[:, None], labels[:, None])
    assert found.value.item() == 0
    assert found.noise == ("a",)


def test_constant_predictions_are_no_evidence():
    tasks = [Task("a", "binary"), Task("b", "multiclass", 3), Task("c", "regression")]
    outputs = torch.full((30, 5), 0.1)
    targets = torch.stack([torch.arange(30) % 2, torch.arange(30) % 3, torch.arange(30)], dim=1).float()
    found = learnability(tasks, outputs, targets)
    torch.testing.assert_close(found.value, torch.tensor([0.5, 0, 0]).double(), rtol=0, atol=1e-9)
    assert found.p_value.tolist() == [1, 1, 1]
    assert found.noise == ("a", "b", "c")


def test_what_cannot_be_tested_gets_the_benefit_of_the_doubt():
    tasks = [
        Task("own", "custom", loss=lambda o, y: (o[:, 0] - y) ** 2),
        Task("unlabelled", "multiclass", 3),
        Task("one class", "binary"),
        Task("coin", "binary"),
    ]
    generator = torch.Generator().manual_seed(0)
    targets = torch.stack([torch.randn(40), torch.full((40,), -100), torch.ones(40), torch.arange(40) % 2], dim=1)
    found = learnability(tasks, torch.randn(40, 6, generator=generator), targets)
    assert found.statistics == ("none", "kappa", "AUC", "AUC")
    assert found.value[:3].isnan().all()
    assert found.p_value[:3].isnan().all()
    assert found.noise == ("coin",)


def test_missing_labels_are_left_out():
    generator = torch.Generator().manual_seed(0)
    tasks, outputs, targets = held_out(generator, 90, [0.5, 0.5, 0.5])
    whole = learnability(tasks, outputs, targets)
    more_targets = torch.cat([targets, torch.full((10, 3), torch.nan)])
    more = learnability(tasks, torch.cat([outputs, torch.randn(10, outputs.shape[1])]), more_targets)
    torch.testing.assert_close(more.value, whole.value)
    torch.testing.assert_close(more.p_value, whole.p_value)
