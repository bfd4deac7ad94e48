import math

import pytest
import torch

from cotrain.affinity import Affinity


def example(**changes):
    generator = torch.Generator().manual_seed(0)
    names = ("first, of all", 'the "second"', "третья")
    parts = {
        "matrix": torch.randn(3, 3, generator=generator, dtype=torch.float64) / 7,
        "stderr": torch.rand(3, 3, generator=generator, dtype=torch.float64),
        "observations": torch.arange(9).reshape(3, 3),
        "tasks": names,
        "estimator": "lookahead",
        "n_observations": 8,
        "rule": "Adam step, lr 0.001",
        "joint_descent": 0.875,
    }
    parts["matrix"][1, 2] = parts["stderr"][1, 2] = math.nan
    return Affinity(**{**parts, **changes})


def test_in_words():
    words = str(example())
    assert "Affinity of 3 tasks: lookahead (Adam step, lr 0.001), 8 observations" in words
    assert "lowers the summed loss on 88% of the batches" in words
    best = example(matrix=torch.tensor([[9.0, 0.5, -0.1], [0, 9, 0], [0, 0, 9]]).double())
    assert 'highest first, of all -> the "second" +0.5 ±' in str(best)
    assert "lowest first, of all -> третья -0.1 ±" in str(best)
    assert "highest" not in str(example(matrix=torch.full((3, 3), math.nan).double()))
    assert "joint step" not in str(example(joint_descent=math.nan))


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"stderr must have the shape \[3, 3\] of 3 tasks\. Got \[2, 3\]"):
        example(stderr=torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"calibration_r2 must have the shape \[3\] of 3 tasks\. Got \[3, 3\]"):
        example(calibration_r2=torch.zeros(3, 3))
    for name in ("floored", "effective", "cosine", "observations"):
        with pytest.raises(ValueError, match=f"{name} must have the shape"):
            example(**{name: torch.zeros(2)})


def test_every_entry_counts_as_observed_on_every_batch_by_default() -> None:
    square = torch.zeros(2, 2, dtype=torch.float64)
    affinity = Affinity(square, square, ("a", "b"), "lookahead", 7)
    assert affinity.observations.tolist() == [[7, 7], [7, 7]]


def test_in_words_what_was_made_of_it():
    words = str(example(calibrated=True, calibration_r2=torch.tensor([0.5, torch.nan, 0.93]), choice="gram, T > 24"))
    assert "calibrated against exact steps; R2 of the fit by target 0.50 to 0.93" in words
    assert "chosen automatically: gram, T > 24" in words
    assert str(example(calibrated=True)).endswith("calibrated against exact steps")
    nothing_fits = torch.full((3,), torch.nan)
    assert str(example(calibrated=True, calibration_r2=nothing_fits)).endswith("calibrated against exact steps")
    assert "Affinity of 3 tasks, normalised, symmetrised: lookahead" in str(example().normalised().symmetrised())
    assert "calibrated" not in str(example(calibration_r2=torch.ones(3)))
