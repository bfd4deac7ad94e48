import pytest

from cotrain.errors import ArgumentsError, StudyError
from cotrain.study import StudyConfig

FULL = StudyConfig(
    "table, with a comma.csv",
    targets=("a", 'o "q", ü/x'),
    check="quick",
    epochs=3,
    learning_rate=1e-30,
    kinds={"a": "regression"},
    missing_inputs="impute",
)


@pytest.mark.parametrize("config", [StudyConfig("digits"), FULL])
def test_yaml_gives_the_same_configuration_back(config, tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    assert StudyConfig.from_yaml(file) == config


@pytest.mark.parametrize("name", ["budget", "seeds", "patience", "width", "epochs", "batch_size", "every", "max_size"])
def test_a_number_below_1_is_refused(name):
    with pytest.raises(ArgumentsError, match=f"{name} must be at least 1. Got 0."):
        StudyConfig("digits", **{name: 0})


@pytest.mark.parametrize("name", ["learning_rate", "solver_seconds"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_what_must_be_positive_is_checked(name, value):
    with pytest.raises(ArgumentsError, match=f"{name} must be positive. Got {value}"):
        StudyConfig("digits", **{name: value})


@pytest.mark.parametrize("targets", [(), ("a",)])
def test_fewer_than_two_targets_are_refused(targets):
    with pytest.raises(ArgumentsError, match="at least 2 targets"):
        StudyConfig("table.csv", targets=targets)


@pytest.mark.parametrize("text", ["", "- a list", "data: digits", "{", "a: [", "data: \x00", b"\xff\xfe"])
def test_what_is_no_configuration_is_named(text, tmp_path):
    file = tmp_path / "study.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StudyError, match=r"study.yaml is not the configuration of a study"):
        StudyConfig.from_yaml(file)
