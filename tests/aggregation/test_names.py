"""Aggregations by name: what a user writes who has not looked the name up."""

import numpy as np
import pytest
import torch
from linear_losses import some_gradients, step

from cotrain.aggregation import UPGrad, as_aggregation, named, names, register
from cotrain.errors import UnknownNameError


@pytest.mark.parametrize(
    ("wrong", "meant"), [("nash_mtl", "nash-mtl"), ("NashMTL", "nash-mtl"), ("imtlg", "imtl-g"), ("upgrade", "upgrad")]
)
def test_a_near_name_is_suggested(wrong, meant):
    with pytest.raises(UnknownNameError, match=f"There is no aggregation '{wrong}'. Did you mean '{meant}'"):
        named(wrong)


def test_a_weighting_can_have_a_name_of_its_own(monkeypatch, assert_same):
    monkeypatch.setattr(names, "_MAKERS", dict(names._MAKERS))
    register("my-upgrad", UPGrad)
    gradients = some_gradients(5, 7)
    assert_same(step(as_aggregation("my-upgrad"), gradients), step(as_aggregation("upgrad"), gradients))


def test_what_a_name_makes_must_be_an_aggregation(monkeypatch):
    monkeypatch.setattr(names, "_MAKERS", dict(names._MAKERS))
    register("nothing", lambda: 3)
    with pytest.raises(ValueError, match=r"An aggregation is given as an object .* Got 3"):
        named("nothing")


@pytest.mark.parametrize("name", ["pcgrad", "graddrop", "random-losses", "transference"])
def test_a_seed_of_numpy_is_the_same_number(name, assert_same):
    options = {"candidates": "pcgrad"} if name == "transference" else {}
    one, other = (named(name, seed=seed, **options) for seed in (3, np.int64(3)))
    gradients = some_gradients(5, 7)
    assert_same(step(one, gradients), step(other, gradients))
    assert_same(torch.tensor(3), torch.tensor(int(one.options()["seed"]) if "seed" in one.options() else 3))


@pytest.mark.parametrize("seed", ["x", 1.5, None])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed is a whole number or a torch.Generator. Got {seed!r}"):
        named("pcgrad", seed=seed)


@pytest.mark.parametrize("weights", [[0.5, 0.5], {"a": 1.0}])
def test_weights_that_do_not_fit_the_tasks_are_named(weights):
    with pytest.raises(ValueError, match=r"weights must be a list of one number per task. Got"):
        step(named("cosmos", weights=weights), some_gradients(5, 7))
