"""Other aggregators as candidates: their own directions, names and states, and which cannot be tried."""

import copy

import pytest
import torch
from torch.optim import SGD
from transference_cases import MIXED, Net, aggregated, conflicting, gradients, mixed_batch

from cotrain import SharedTrunk, Task, TaskSet
from cotrain.aggregation import (
    DWA,
    PCGrad,
    Sum,
    TransferenceAggregation,
    UPGrad,
    from_torchjd,
    named,
    transference_decision,
)
from cotrain.files import read_state, write_state

NAMES = ["upgrad", "dualproj", "mgda", "nash-mtl", "imtl-g", "db-mtl", "dwa", "uw", "gradnorm", "aligned-mtl"]
COORDINATES = ["graddrop", "config"]


def of_alone(model, tasks, batch, aggregation):
    twin = copy.deepcopy(model)
    twin.zero_grad()
    aggregation.backward(twin, tasks, batch)
    return gradients(twin)


@pytest.mark.parametrize("name", [*NAMES, *COORDINATES])
def test_the_direction_is_the_aggregators_own(name, monkeypatch):
    model, tasks, batches = conflicting(seed=1)
    # The scores are made up, so that the candidate is picked: the joint step is tried first.
    scored = iter([0.0, 1.0])
    real = transference_decision.Trial.of

    def tried(trial, direction):
        found = real(trial, direction)
        return transference_decision.Scored(next(scored), found.by_sample)

    monkeypatch.setattr(transference_decision.Trial, "of", tried)
    found, told, aggregation = aggregated(
        model, tasks, batches(0), candidates=[name], equal_norm=False, hysteresis=0, lr=0.05
    )
    assert aggregation.decision.picked == name
    expected = of_alone(model, tasks, batches(0), named(name))
    for parameter, value in expected.items():
        torch.testing.assert_close(found[parameter], value, rtol=1e-4, atol=1e-6)
    assert (told[0].weights is None) == (name in COORDINATES)


def test_all_of_them_together_stand_beside_the_joint_step():
    model, tasks, batches = conflicting(seed=1)
    candidates = ["closed-form", *NAMES, ["t0", "t1"], UPGrad(), Sum([1, 0, 0, 0, 0, 0]), named("imtl-g")]
    *_, aggregation = aggregated(model, tasks, batches(0), candidates=candidates)
    scores = aggregation.decision.scores
    assert {"joint", *NAMES, "t0+t1", "UPGrad", "Sum", "IMTLG"} <= set(scores)
    assert scores["UPGrad"] == pytest.approx(scores["upgrad"])
    assert scores["IMTLG"] == pytest.approx(scores["imtl-g"])
    first_order = aggregated(model, tasks, batches(0), candidates=candidates, exact=False)[2].decision.scores
    for name, score in first_order.items():  # at equal norm and a small rate both order the candidates alike
        assert (
            (score > first_order["joint"]) == (scores[name] > scores["joint"])
            or name == "joint"
            or (score == pytest.approx(first_order["joint"], rel=0.02))
        )


def test_an_aggregator_of_torchjd_is_what_its_adapter_makes_of_it():
    torchjd = pytest.importorskip("torchjd.aggregation")
    model, tasks, batches = conflicting(seed=1)
    raw = aggregated(model, tasks, batches(0), candidates=[torchjd.IMTLG()])[2].decision.scores
    adapted = aggregated(model, tasks, batches(0), candidates=from_torchjd(torchjd.IMTLG()))[2].decision.scores
    assert raw == adapted


def test_a_task_named_as_the_joint_step_or_a_kind_hides_neither():
    names = ["joint", "log-sum", "knee"]
    tasks = TaskSet(Task(name, "binary") for name in names)
    torch.manual_seed(0)
    model = SharedTrunk(torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.Tanh()), tasks, 3)
    batch = conflicting(3)[2](0)
    for hysteresis in (0, 1e9):
        _, told, aggregation = aggregated(
            model, tasks, batch, candidates=["singletons", "log-sum"], hysteresis=hysteresis
        )
        assert set(aggregation.decision.scores) == {"joint", "joint (2)", "log-sum (2)", "knee", "log-sum"}
    assert aggregation.decision.picked == "joint"
    assert told[0].weights.tolist() == [1, 1, 1]


def test_equal_names_are_numbered():
    model, tasks, batches = conflicting(3)
    lambdas = [lambda gramian, row=row: torch.eye(len(gramian))[row] for row in range(2)]
    candidates = [*lambdas, PCGrad(0), PCGrad(1), ["t0"], "singletons"]
    *_, aggregation = aggregated(model, tasks, batches(0), candidates=candidates)
    names = ["joint", "t0", "t1", "t2", "<lambda>", "<lambda> (2)", "PCGrad", "PCGrad (2)"]
    assert list(aggregation.decision.scores) == names


def test_a_resumed_training_with_aggregators_that_remember_ends_as_an_uninterrupted_one(tmp_path, assert_same):
    def start():
        torch.manual_seed(0)
        model = Net()
        optimizer = SGD(model.parameters(), lr=0.02)
        candidates = [PCGrad(3), DWA(period=2), "gradvac", "uw", "graddrop"]
        return model, optimizer, TransferenceAggregation(optimizer=optimizer, candidates=candidates, hysteresis=0)

    def go(part, numbers):
        for number in numbers:
            part[1].zero_grad()
            part[2].backward(part[0], MIXED, mixed_batch(number))
            part[1].step()

    whole, part, rest = start(), start(), start()
    torch.manual_seed(1)
    go(whole, range(6))
    torch.manual_seed(1)
    go(part, range(3))
    write_state(tmp_path / "state", {"now": part[2].state_dict(), "random": torch.get_rng_state()})
    saved = read_state(tmp_path / "state")
    rest[0].load_state_dict(part[0].state_dict())
    torch.set_rng_state(saved["random"])
    rest[2].load_state_dict(saved["now"])
    go(rest, range(3, 6))
    assert_same(rest[2].state_dict(), whole[2].state_dict())
    assert_same(rest[0].state_dict(), whole[0].state_dict())


@pytest.mark.parametrize("candidate", ["famo", "mgda-ub", "transference"])
def test_those_that_need_steps_of_their_own_are_refused(candidate):
    with pytest.raises(ValueError, match=f"{candidate} cannot be a candidate: it looks into a forward pass of its own"):
        TransferenceAggregation(candidates=[candidate])


def test_what_is_no_candidate_is_refused():
    class Own:
        def backward(self, model, tasks, batch):
            pass

    with pytest.raises(ValueError, match="Own cannot be a candidate: it has a backward of its own"):
        TransferenceAggregation(candidates=[Own()])
    for wrong in (UPGrad, [3], []):
        with pytest.raises(ValueError, match="There is no kind of candidates"):
            TransferenceAggregation(candidates=["closed-form", wrong])


def test_a_direction_without_weights_cannot_be_kept():
    model, tasks, batches = conflicting()
    with pytest.raises(ValueError, match=r"graddrop weighs coordinates, not tasks. Use every=1"):
        aggregated(model, tasks, batches(0), candidates=["graddrop"], every=2)
