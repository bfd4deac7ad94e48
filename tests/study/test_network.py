import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cotrain import Task
from cotrain.errors import ArgumentsError
from cotrain.study.network import make_network, make_wider, multiply_adds

TASKS = [Task("yes", "binary"), Task("which", "multiclass", 3), Task("much", "regression")]


def first_layer(network):
    return next(module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d))


@given(st.integers(1, 3), st.integers(1, 31), st.integers(1, 31), st.sampled_from(["auto", "cnn", "mlp"]))
def test_images_of_any_size_pass(channels, height, width, kind):
    network = make_network(kind, TASKS, (channels, height, width), 4)
    assert network(torch.randn(2, channels, height, width)).shape == (2, 5)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4).filter(lambda shape: len(shape) != 3))
def test_inputs_that_are_no_images_get_an_mlp(shape):
    network = make_network("auto", TASKS, tuple(shape), 4)
    assert network(torch.randn(2, *shape)).shape == (2, 5)
    assert first_layer(network).in_features == math.prod(shape)


@pytest.mark.parametrize(("shape", "layer"), [((1, 8, 8), nn.Linear), ((1, 8, 28), nn.Linear), ((1, 9, 9), nn.Conv2d)])
def test_auto_takes_a_cnn_for_images_larger_than_8_x_8(shape, layer):
    assert isinstance(first_layer(make_network("auto", TASKS, shape, 4)), layer)


def test_the_kind_that_is_named_is_taken():
    assert isinstance(first_layer(make_network("cnn", TASKS, (1, 8, 8), 4)), nn.Conv2d)
    assert isinstance(first_layer(make_network("mlp", TASKS, (1, 28, 28), 4)), nn.Linear)


def test_a_cnn_for_a_table_is_refused():
    with pytest.raises(ArgumentsError, match=r"network cnn needs images. Got inputs of shape \[7\]: use mlp"):
        make_network("cnn", TASKS, (7,), 4)


def test_multiply_adds_are_those_of_the_layers():
    network = make_network("mlp", TASKS, (7,), 16)
    assert multiply_adds(network, (7,)) == 2 * (7 * 16 + 16 * 16 + 16 * 5)


@pytest.mark.parametrize("shape", [(20,), (1, 28, 28)])
@pytest.mark.parametrize("times", [1, 3, 10])
def test_a_wider_network_takes_as_many_multiplications_as_several(shape, times):
    cost = multiply_adds(make_network("auto", TASKS, shape, 32), shape)
    assert multiply_adds(make_wider("auto", TASKS, shape, 32, times), shape) == pytest.approx(times * cost, rel=0.05)
