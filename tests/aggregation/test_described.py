import inspect

import pytest
import torch
from linear_losses import ALL, make, some_gradients, step
from torchjd.aggregation import Constant, GradDrop, TrimmedMean
from torchjd.scalarization import STCH

from cotrain.aggregation import names
from cotrain.aggregation.aggregation import GradientAggregation
from cotrain.aggregation.described import described
from cotrain.aggregation.names import named
from cotrain.aggregation.pcgrad import PCGrad
from cotrain.aggregation.torchjd_adapter import from_torchjd
from cotrain.aggregation.transference_aggregation import TransferenceAggregation
from cotrain.aggregation.upgrad import UPGrad
from cotrain.files import read_state, write_state

CHANGED = {
    "aligned-mtl": {"pref_vector": [1.0, 2.0], "scale_mode": "median"},
    "cagrad": {"c": 0.5},
    "config": {"pref_vector": [1.0, 2.0]},
    "cosmos": {"weights": [1.0, 2.0], "lambda_": 0.5},
    "db-mtl": {"beta": 0.5, "decay": 0.1},
    "dwa": {"period": 5, "temperature": 1.0},
    "excess-mtl": {"robust_step_size": 0.5, "n_warmup_steps": 2},
    "fairgrad": {"alpha": 1.0},
    "famo": {"lr": 0.1, "weight_decay": 0.0, "least": [0.1, 0.2]},
    "graddrop": {"f": torch.tanh, "leak": [0.5, 0.5]},
    "gradnorm": {"alpha": 1.0, "lr": 0.1, "layer": "last"},
    "gradvac": {"beta": 0.1, "seed": 1},
    "imtl-l": {"lr": 0.1},
    "krum": {"n_byzantine": 2, "n_selected": 2},
    "mgda-ub": {"features": "trunk"},
    "nash-mtl": {"max_norm": 0.5},
    "pbi": {"weights": [1.0, 2.0], "theta": 1.0},
    "pcd": {"tau": 0.1, "beta": 0.9, "eps": 1e-6},
    "pcgrad": {"seed": 1},
    "random": {"seed": 1},
    "stch": {"mu": 1.0},
    "sum": {"weights": [1.0, 2.0]},
    "transference": {
        "candidates": ["log-sum", ["a", "b"], PCGrad(3)],
        "lr": 0.1,
        "equal_norm": False,
        "score": "log",
        "heads": "stepped",
        "every": 2,
        "score_batch": lambda: None,
        "min_rate": 0.2,
        "hysteresis": 2.0,
        "seed": 1,
    },
    "trimmed-mean": {"trim_number": 2},
    "uw": {"lr": 0.1},
}


@pytest.mark.parametrize(("name", "option"), [(name, option) for name, all_ in CHANGED.items() for option in all_])
def test_every_option_shows(name, option):
    assert described(named(name, **{option: CHANGED[name][option]})) != described(named(name))


def test_no_option_is_forgotten():
    """Of the constructors of our own; those of TorchJD's are read off its classes."""
    for name, maker in names._MAKERS.items():
        if inspect.isclass(maker):
            options = set(inspect.signature(maker).parameters) - {"on_choice", "optimizer", "exact"}
            assert options == set(CHANGED.get(name, {})), name
    assert described(TransferenceAggregation(exact=False)) != described(TransferenceAggregation())
    assert len({str(described(named(name))) for name in ALL}) == len(ALL)


def test_an_optimizer_that_was_given_shows():
    own = TransferenceAggregation(optimizer=torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1))
    assert described(own) != described(TransferenceAggregation())
    followed = TransferenceAggregation()
    followed.follow(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1))
    assert described(followed) == described(TransferenceAggregation())


@pytest.mark.parametrize("name", ALL)
def test_the_same_for_a_new_one_after_steps_and_after_a_file(name, tmp_path):
    """Unlike what it remembers, what it was made with never changes."""
    aggregation, before = make(name), described(make(name))
    for seed in range(2):
        step(aggregation, some_gradients(4, 6, seed))
    assert described(aggregation) == before
    write_state(tmp_path / "state", {"about": before})
    assert read_state(tmp_path / "state")["about"] == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: TrimmedMean(1), lambda: TrimmedMean(2)),
        (lambda: Constant(torch.tensor([1.0, 2.0])), lambda: Constant(torch.tensor([1.0, 3.0]))),
        (lambda: GradDrop(leak=torch.tensor([0.1])), GradDrop),
        (lambda: STCH(0.1), lambda: STCH(0.2)),
    ],
)
def test_torchjds_own(one, other):
    assert described(from_torchjd(one())) == described(from_torchjd(one()))
    assert described(from_torchjd(one())) != described(from_torchjd(other()))
    assert described(from_torchjd(one(), seed=1)) != described(from_torchjd(one()))


def test_ones_own_weighting_and_aggregation_are_told_by_their_types():
    class Mine:
        def __call__(self, gramian):
            return torch.ones(len(gramian), dtype=torch.float64)

    assert described(GradientAggregation(Mine())) == ["GradientAggregation", {"weighting": "Mine"}]
    assert described(GradientAggregation(UPGrad())) == ["GradientAggregation", {"weighting": ["UPGrad", {}]}]
    assert described(Mine()) == "Mine"
    assert described({"c", "a", "b"}) == ["a", "b", "c"]
