import pytest
import torch
from combining_processes import WAYS, train, work
from two_processes import found_by_two


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return found_by_two(work, tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("name", WAYS)
def test_two_processes_are_one_with_all_samples(name, found, assert_same):
    first, second = found[0][name], found[1][name]
    assert_same(first, second)
    whole = train(name)
    torch.testing.assert_close(first["losses"], whole["losses"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(first["weights"], whole["weights"], rtol=1e-2, atol=1e-3)
    for key, value in whole["state"].items():
        torch.testing.assert_close(first["state"][key], value, rtol=1e-3, atol=2e-4)


def test_all_processes_skip_a_step(found):
    assert [part["skipped"] for part in found] == [1, 1]
