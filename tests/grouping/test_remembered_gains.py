import numpy as np
import pytest

from cotrain.grouping import GainModel, PairMean, RememberedGains

TASKS = tuple("abcd")


class Counting:
    """A pair mean that keeps what it was asked."""

    def __init__(self, unit="score", **known):
        matrix = np.arange(16.0).reshape(4, 4) / 10
        self._inner = PairMean(matrix, TASKS, stderr=matrix / 3)
        self.tasks, self.unit, self.asked = TASKS, unit, []
        vars(self).update(known)

    def predict(self, groups):
        self.asked.extend(groups)
        return self._inner.predict(groups)

    def measured(self, groups):
        return self._inner.measured(groups)


def test_it_says_what_the_model_says_and_asks_once():
    model = Counting()
    remembered = RememberedGains(model)
    questions = [("a", "b"), ("b", "a"), ("a",), ("a", "b", "d")], [("a", "b", "d"), ("c", "d")], [("c", "d")], []
    for groups in questions:
        for found, expected in zip(remembered.predict(groups), PairMean.predict(model._inner, groups), strict=True):
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(remembered.measured(groups), model.measured(groups))
    assert sorted(map(sorted, model.asked)) == sorted(map(sorted, [("a", "b"), ("a",), ("a", "b", "d"), ("c", "d")]))


def test_what_is_given_back_may_be_changed():
    remembered = RememberedGains(Counting())
    first = remembered.predict([("a", "b")])[0]
    first[:] = 7
    assert not (remembered.predict([("a", "b")])[0] == 7).any()


@pytest.mark.parametrize("unit", ["gain", "score"])
def test_unit_and_losses_are_those_of_the_model(unit):
    losses = np.arange(1.0, 5.0)
    remembered = RememberedGains(Counting(unit, single_losses=losses))
    assert (remembered.unit, remembered.tasks) == (unit, TASKS)
    assert remembered.single_losses is losses
    assert isinstance(remembered, GainModel)
    assert RememberedGains(Counting()).single_losses is None


def test_an_unknown_task_is_named():
    with pytest.raises(ValueError, match="unknown task 'z'"):
        RememberedGains(Counting()).predict([("a", "z")])
