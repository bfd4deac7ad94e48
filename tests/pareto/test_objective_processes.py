import pytest
import torch
from manifold_processes import WAYS, batch_of, problem, work
from two_processes import found_by_two


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return found_by_two(work, tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("form", WAYS)
def test_two_processes_are_one_that_averages_both(form, found, assert_same):
    assert_same(found[0][form], found[1][form])
    manifold, objective, optimizer = problem(form)
    for step in range(3):
        optimizer.zero_grad()
        state = objective.state_dict()
        for rank in range(2):
            objective.load_state_dict(state)  # the same rays
            objective.backward(batch_of(step, rank), scale=lambda total: total / 2)
        optimizer.step()
    for name, value in manifold.named_parameters():
        torch.testing.assert_close(found[0][form][0][name], value, rtol=1e-10, atol=1e-12)


def test_all_processes_refuse_a_loss_that_is_not_finite(found):
    for part, place in zip(found, ("NaN or infinite on another process", "inf at the preference"), strict=True):
        words, untouched = part["diverged"]
        assert f"['first'] is {place}" in words
        assert untouched


def test_a_process_may_have_fewer_samples_than_rays(found, assert_same):
    (first, *same), (second, *alike) = (part["few"] for part in found)
    assert (len(first), len(second)) == (2, 1)
    assert_same(same, alike)
    means = same[0]["sum"] / same[0]["weight"]
    torch.testing.assert_close(means, torch.cat([first, second]).mean(0))
    assert all(torch.isfinite(value).all() for value in same[1])
