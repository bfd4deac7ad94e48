import copy
import io

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from wrapped_modules import PAIR, Tied, apart, batch_for, features, mlp, tokens

from cotrain.pareto import ParetoManifold, ParetoObjective


def test_a_missing_or_wrong_preference_is_an_error():
    manifold = ParetoManifold(mlp(), PAIR)
    with pytest.raises(TypeError, match="preference"):
        manifold(features(4))
    for wrong, words in (
        (None, "missing"), ([-1.0, 2.0], "non-negative"), ([0.5], "2 entries"), ({"third": 1.0}, "'third'")
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            manifold(features(4), wrong)


def test_one_preference_per_sample_is_each_sample_alone():
    for module, inputs in ((mlp(), features(4)), (nn.Sequential(nn.Embedding(9, 5), nn.Linear(5, 2)), tokens()[:, 0])):
        manifold = apart(ParetoManifold(module, PAIR, "lora", members="all", rank=1))
        preferences = torch.rand(6, 2).softmax(1)
        alone = [manifold(inputs[n : n + 1], preferences[n]) for n in range(6)]
        torch.testing.assert_close(manifold(inputs, preferences), torch.cat(alone), rtol=1e-5, atol=1e-6)


def test_where_one_preference_per_sample_cannot_be():
    with pytest.raises(ValueError, match=r"needs form 'lora'.*Got form 'full'"):
        ParetoManifold(mlp(), PAIR)(features(4), torch.full((6, 2), 0.5))
    images = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    reason = (
        r"\['0.weight', '2.weight'\], which are none or too small: take other members, or a lower rank. Or give one"
    )
    with pytest.raises(ValueError, match=f"{reason} preference for the batch"):
        ParetoManifold(images, PAIR, "lora")(features(2, 3, 3), torch.full((6, 2), 0.5))
    normed = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="One preference per sample is possible where"):
        ParetoManifold(normed, PAIR, "lora", rank=1)(features(4), torch.full((6, 2), 0.5))
    with pytest.raises(ValueError, match="Got 5 preferences and features"):
        ParetoManifold(mlp(), PAIR, "lora", rank=1)(features(4), torch.full((5, 2), 0.5))


@pytest.mark.parametrize("form", ["full", "residual", "lora"])
def test_copies_and_pickles_are_equal_and_independent(form):
    manifold = apart(ParetoManifold(mlp(), PAIR, form, rank=1))
    manifold(features(4), [0.5, 0.5])
    file = io.BytesIO()
    torch.save(manifold, file)
    file.seek(0)
    for other in (copy.deepcopy(manifold), torch.load(file, weights_only=False)):
        expected = manifold(features(4), [0.3, 0.7])
        assert torch.equal(other(features(4), [0.3, 0.7]), expected)
        apart(other)
        assert torch.equal(manifold(features(4), [0.3, 0.7]), expected)
        assert not torch.equal(other(features(4), [0.3, 0.7]), expected)


@pytest.mark.parametrize("form", ["full", "residual", "lora"])
def test_double_precision(form):
    manifold = apart(ParetoManifold(mlp(), PAIR, form, rank=1)).to(torch.float64)
    inputs = features(4).double()
    assert manifold(inputs, [0.3, 0.7]).dtype == torch.float64
    assert manifold.export([0.3, 0.7])(inputs).dtype == torch.float64
    ParetoObjective(manifold).backward(batch_for(inputs))


def test_independent_members_differ_and_repeat_with_the_seed():
    first, again, other = (
        ParetoManifold(mlp(), PAIR, init="independent", seed=seed).members.stacks for seed in (1, 1, 2)
    )
    for key, stack in first.items():
        assert torch.equal(stack, again[key])
        assert not torch.equal(stack, other[key])
        assert not torch.equal(stack[0], stack[1])


def test_independent_members_are_drawn_as_the_module_draws_itself():
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    manifold = ParetoManifold(layer, PAIR, init="independent")
    for name in ("self_attn/out_proj/bias", "self_attn/in_proj_bias"):
        assert not manifold.members.stacks["/" + name].any()  # attention sets to 0 what its layers draw


@pytest.mark.parametrize(
    ("members", "chosen"),
    [
        ("auto", 4), ("trunk", 4), ("all", 6), (r"^heads", 2), (lambda name: name.endswith("bias"), 3),
    ],
)  # fmt: skip
def test_which_parameters_take_part(members, chosen):
    assert len(ParetoManifold(mlp(), PAIR, members=members).member_names) == chosen


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.one, self.two = nn.Linear(4, 3), nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, inputs):
        hidden = torch.tanh(self.body(inputs))
        return {"first": self.one(hidden), "second": self.two(hidden)}


def test_the_trunk_of_any_module_is_found_from_an_example():
    assert ParetoManifold(Plain(), PAIR, example=features(4)).member_names == ("body.weight", "body.bias")
    assert len(ParetoManifold(Plain(), PAIR).member_names) == 6
    with pytest.raises(ValueError, match="give example="):
        ParetoManifold(Plain(), PAIR, members="trunk")


def test_named_outputs_train():
    manifold = ParetoManifold(Plain(), PAIR)
    ParetoObjective(manifold).backward(batch_for(features(4)))
    assert set(manifold(features(4), {"second": 1})) == {"first", "second"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"members": "nothing"}, "No trainable parameter is chosen by members='nothing'"),
        ({"form": "half"}, "form must be"),
        ({"init": "zero"}, "init must be"),
        ({"form": "lora", "init": "independent"}, "leave it out"),
        ({"form": "lora", "rank": 0}, "rank must be at least 1"),
    ],
)
def test_options_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        ParetoManifold(mlp(), PAIR, **options)


def test_low_rank_parts_learn_at_a_higher_rate():
    manifold = ParetoManifold(mlp(), PAIR, "lora", rank=1)
    slow, quick = manifold.parameter_groups(0.1)
    assert (slow["lr"], quick["lr"]) == (0.1, 0.2)
    ids = [id(value) for value in (*slow["params"], *quick["params"])]
    assert sorted(ids) == sorted(id(value) for value in manifold.parameters())
    assert len(ParetoManifold(mlp(), PAIR).parameter_groups(0.1)) == 1


def test_a_front_is_the_exports_one_by_one():
    manifold = apart(ParetoManifold(mlp(norm=True), PAIR))
    samples = (torch.randn(30, 4), torch.randn(30, 2))
    manifold.calibrate(samples)
    tasks = PAIR.with_units(samples[1])
    manifold.tasks = tasks
    front = manifold.front(samples, 5, batch_size=8)
    for preference, losses in zip(front.preferences, front.losses, strict=True):
        expected = tasks.losses(manifold.export(preference)(samples[0]), samples[1])
        torch.testing.assert_close(losses.float(), expected.detach(), rtol=1e-4, atol=1e-5)
    assert manifold.training


def test_a_module_used_twice_and_tied_trains():
    manifold = ParetoManifold(Tied(), PAIR)
    ParetoObjective(manifold, rays=2).backward(batch_for(tokens()))
    assert all(value.grad is not None for value in manifold.parameters())


def test_an_average_of_weights_is_a_manifold():
    manifold = apart(ParetoManifold(mlp(), PAIR))
    mean = AveragedModel(manifold)
    points, preference = [], {"first": 0.3, "second": 0.7}
    for step in range(3):
        with torch.no_grad():
            for value in manifold.parameters():
                value += step * torch.randn_like(value)
        mean.update_parameters(manifold)
        points.append(manifold.export(preference).state_dict())
    for name, value in mean.module.export(preference).state_dict().items():
        torch.testing.assert_close(value, torch.stack([point[name] for point in points]).mean(0))


def test_names_with_slashes_stay_apart():
    torch.manual_seed(0)
    inner = nn.ModuleDict({"a/b": nn.Linear(3, 2), "a": nn.ModuleDict({"b": nn.Linear(3, 2)})})

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, inputs):
            return self.inner["a/b"](inputs) + self.inner["a"]["b"](inputs)

    module, inputs = Both(), torch.randn(5, 3)
    manifold = ParetoManifold(module, PAIR, members="all")
    torch.testing.assert_close(manifold(inputs, [0.3, 0.7]), module(inputs))


def test_a_preference_per_sample_says_which_matrix_is_too_small():
    manifold = ParetoManifold(nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 2)), PAIR, "lora", members="all")
    with pytest.raises(ValueError, match=r"Got form 'lora' and \['1\.weight'\], which are none or too small"):
        manifold(torch.randn(2, 40), torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
