"""A front: what it says is what its networks do, and an interruption changes nothing."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from small_front import contents_of, make_front, small_front
from small_study import TARGETS, write_table

from cotrain import evaluate, fit
from cotrain.errors import ArgumentsError, StudyError
from cotrain.files import write_json
from cotrain.model import random_state_kept
from cotrain.pareto import Front
from cotrain.pareto.sample_scores import SampleScores
from cotrain.study import front_training
from cotrain.study.folder import StudyFolder
from cotrain.study.front_choice import CHOICE, CHOSEN, Wish, choose_preference, wish_of
from cotrain.study.front_config import FrontConfig
from cotrain.study.front_controls import load_controls
from cotrain.study.front_results import DRAWS, Looked, _against_equal, reference_point
from cotrain.study.front_run import CONTROLS, RESULTS, TRAINING, front_config_of, load_manifold
from cotrain.study.front_setting import FrontSetting
from cotrain.study.front_words import comparison_words, front_verdict


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("data") / "table.csv")


@pytest.fixture(scope="module")
def options(data) -> FrontConfig:
    return small_front(data)


@pytest.fixture(scope="module")
def setting(options) -> FrontSetting:
    return FrontSetting.load(options)


@pytest.fixture(scope="module")
def made(options, tmp_path_factory):
    """The folder of a finished front; to be read only."""
    return make_front(options, tmp_path_factory.mktemp("fronts") / "made")


@pytest.fixture(scope="module")
def found(made):
    return json.loads((made / RESULTS).read_text())


def test_every_point_is_that_of_the_exported_network(made, setting, found):
    manifold = load_manifold(StudyFolder(made), setting)
    data = setting.base.data
    assert len(found["points"]) == 3
    for point in found["points"]:
        network = manifold.export(point["preference"])
        for part, split in (("valid", data.valid), ("test", data.test)):
            evaluation = evaluate(network, data.tasks, split.pair)
            values = point[part]
            assert values["positive"]["metric"] == pytest.approx(evaluation.metrics["positive"]["accuracy"])
            assert values["amount"]["metric"] == pytest.approx(evaluation.metrics["amount"]["mae"], rel=1e-5)
            assert values["amount"]["loss"] == pytest.approx(evaluation.loss_of("amount"), rel=1e-5)


def test_equal_weights_are_a_plain_training_of_the_same_budget(made, setting, found):
    base = setting.base
    with random_state_kept():
        torch.manual_seed(setting.config.seed)
        network = base.make_network()
    plain = fit(
        network, base.data.tasks, base.data.train.pair, base.data.valid.pair, epochs=base.epochs,
        batch_size=base.batch_size, optimizer=base.optimizer, patience=setting.config.patience,
        seed=setting.config.seed,
    )  # fmt: skip
    evaluation = evaluate(plain.model, plain.tasks, base.data.test.pair)
    for task in ("positive", "amount"):
        loss = found["controls"]["equal"]["test"][task]["loss"]
        assert loss == pytest.approx(evaluation.loss_of(task), rel=1e-3)


def test_hypervolumes_and_their_intervals_are_those_of_the_fronts(made, setting, found):
    test = setting.base.data.test.pair
    front = load_manifold(StudyFolder(made), setting).front(test, setting.grid)
    controls = load_controls(setting, made / CONTROLS)
    equal = controls.front(test, controls.preferences[:1])
    reference = reference_point(setting)
    slow = {
        "front": front.hypervolume_interval(reference, draws=DRAWS),
        "equal": equal.hypervolume_interval(reference, draws=DRAWS),
    }
    for name, interval in slow.items():
        entry = found["hypervolume"]["test"][name]
        expected = [interval.value, interval.low, interval.high]
        assert [entry["value"], entry["low"], entry["high"]] == pytest.approx(expected, rel=1e-5)
    over = found["hypervolume"]["test"]["over_equal"]
    volumes = [part.hypervolume(reference) for part in (front, equal)]
    assert over["value"] == pytest.approx(volumes[0] - volumes[1], abs=1e-9)
    assert over["low"] <= over["high"]


def test_the_best_epoch_is_kept(made):
    training = json.loads((made / TRAINING).read_text())
    history = training["history"]
    assert len(history) == 2
    assert training["best_epoch"] == history.index(min(history))
    assert training["parameters"] > training["parameters_of_one_network"]


def test_a_worse_epoch_is_not_kept_and_patience_ends_the_training(options, monkeypatch, tmp_path, assert_same):
    scores = iter([3.0, 2.0, 4.0, 5.0, 6.0, 1.0])
    monkeypatch.setattr(front_training.TrainedFront, "_score", lambda self: next(scores))
    setting = FrontSetting.load(replace(options, epochs=9, patience=2))
    done = front_training.train_manifold(setting, checkpoint=tmp_path / "state", progress=lambda *_: None)
    assert (done.best_epoch, done.history) == (1, [3.0, 2.0, 4.0, 5.0, 6.0])
    scores = iter([3.0, 2.0])
    until_best = front_training.TrainedFront(setting)
    for _ in range(2):
        until_best.run_epoch(lambda *_: None)
    assert_same(dict(done.manifold.state_dict()), dict(until_best.manifold.state_dict()))


@pytest.mark.parametrize("at", ["epoch 2/2", "networks 1-3 of 3"])
def test_an_interrupted_front_ends_as_an_uninterrupted_one(made, options, at, tmp_path):
    out = tmp_path / "interrupted"

    def interrupt(done, total, note):
        if at in note and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_front(options, out, listen=interrupt)
    assert not (out / RESULTS).exists()
    make_front(options, out, resume=True)
    assert contents_of(out) == contents_of(made)


def test_finished_steps_are_not_run_again(made, options, tmp_path):
    out = shutil.copytree(made, tmp_path / "copied")
    steps = []

    def watch(done, total, note):
        steps.append(note)

    make_front(options, out, resume=True, listen=watch)
    assert not steps
    (out / RESULTS).unlink()
    make_front(options, out, resume=True)
    assert contents_of(out) == contents_of(made)


def test_a_checkpoint_of_another_front_is_refused(options, setting, tmp_path):
    file = tmp_path / "state"
    training = front_training.TrainedFront(setting)
    training.run_epoch(lambda *_: None)
    training.save(file)
    other = FrontSetting.load(replace(options, seed=1))
    with pytest.raises(StudyError, match="belongs to the training of another front"):
        front_training.train_manifold(other, checkpoint=file, progress=lambda *_: None)


def test_other_options_do_not_overwrite_a_front(made, options):
    before = contents_of(made)
    with pytest.raises(StudyError, match="rays: 4 there, 2 now"):
        make_front(replace(options, rays=2), made, resume=True)
    with pytest.raises(StudyError, match="Add --resume"):
        make_front(options, made)
    assert contents_of(made) == before


def test_a_configuration_survives_its_file(options, tmp_path):
    config = replace(options, groups=("positive+larger", "amount"), kinds={"level": "regression"}, form="lora", rank=2)
    (tmp_path / "front.yaml").write_text(config.to_yaml())
    assert FrontConfig.from_yaml(tmp_path / "front.yaml") == config
    config = replace(config, left_out=("level",))
    (tmp_path / "front.yaml").write_text(config.to_yaml())
    assert FrontConfig.from_yaml(tmp_path / "front.yaml") == config


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rays": 0}, "rays must be at least 1"),
        ({"rank": 2}, "rank belongs to --form lora"),
        ({"form": "lora", "rank": 0}, "rank must be at least 1"),
        ({"preferences": 1}, "preferences must be at least 2"),
        ({"groups": ("positive+amount",)}, "at least 2 groups"),
        ({"epochs": 0}, "epochs must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, changes, reason):
    with pytest.raises(ArgumentsError, match=reason):
        replace(options, **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"groups": ("positive", "nonsense")}, "Unknown: \\['nonsense'\\]"),
        ({"groups": ("positive", "positive+amount")}, "in several groups: \\['positive'\\]"),
        ({"targets": TARGETS, "groups": ("positive", "amount")}, "Missing, or in several groups: \\['larger', 'level'"),
        ({"targets": TARGETS, "preferences": 4}, "at least 5 preferences"),
    ],
)
def test_groups_and_preferences_must_fit_the_data(options, changes, reason):
    with pytest.raises(ArgumentsError, match=reason):
        FrontSetting.load(replace(options, **changes))


def test_more_than_five_targets_need_groups():
    with pytest.raises(ArgumentsError, match='--groups "is_0') as error:
        FrontSetting.load(FrontConfig("digits"))
    assert "a study, whose groups are taken" in str(error.value)


def test_groups_are_knobs(data, tmp_path):
    config = small_front(data, targets=TARGETS, groups=("positive+larger", "level + amount"))
    found = json.loads((make_front(config, tmp_path / "front") / RESULTS).read_text())
    assert found["names"] == ["positive+larger", "level + amount"]
    assert found["members"]["level + amount"] == ["level", "amount"]
    assert [task["name"] for task in found["tasks"]] == list(TARGETS)


@pytest.mark.parametrize(
    ("serves", "groups", "left_out"),
    [
        ((("a", "b", "c"), ("d", "e", "f")), ("a+b+c", "d+e+f"), ("noise",)),
        ((("a", "b", "c"), ("d", "e")), None, ("noise",)),
    ],
)
def test_the_groups_of_a_study_are_the_knobs_of_many_tasks(config, tmp_path, serves, groups, left_out):
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.yaml").write_text(config.to_yaml())
    names = [name for group in serves for name in group] + ["noise"]
    write_json(study / "measure.json", {"tasks": [{"name": name} for name in names]})
    entries = [{"trains": list(group), "serves": list(group)} for group in serves]
    found = {"groups": entries, "value": 0.0, "bound": 0.0, "gap": 0.0, "status": "optimal", "objective": "mean_score"}
    write_json(study / "grouping.json", {"grouping": {**found, "solver": "HiGHS"}, "noise": ["noise"]})
    made = front_config_of(study, FrontConfig(str(study), rays=8))
    assert (made.groups, made.left_out, made.rays) == (groups, left_out, 8)
    assert made.study.epochs == config.epochs
    assert made.data == config.data


def test_a_study_gives_data_and_networks(copied, config):
    made = front_config_of(copied, FrontConfig(str(copied)))
    assert made.left_out == ()
    assert made.study == replace(config, method="search", seeds=3)
    with pytest.raises(ArgumentsError, match="Leave out --epochs, --width"):
        front_config_of(copied, FrontConfig(str(copied), epochs=7, width=3))
    (copied / "grouping.json").unlink()
    with pytest.raises(StudyError, match=r"has no groups yet.*cotrain groups"):
        front_config_of(copied, FrontConfig(str(copied)))


def test_a_folder_without_study_or_front_is_refused(tmp_path):
    with pytest.raises(StudyError, match="neither a study nor a front"):
        front_config_of(tmp_path, FrontConfig(str(tmp_path)))


def test_a_folder_of_a_front_knows_its_options(made, options):
    assert front_config_of(made, FrontConfig(str(made))) == options
    with pytest.raises(StudyError, match="width: 8 there, 9 now"):
        front_config_of(made, FrontConfig(str(made), width=9))


def test_a_choice_is_made_on_validation_and_its_weights_are_exported(made, options, setting, tmp_path):
    out = shutil.copytree(made, tmp_path / "copied")
    choose_preference(options, out, Wish(maximize="positive", subject_to={"mae/amount": "<= 1000"}))
    choice = json.loads((out / CHOICE).read_text())
    assert choice["feasible"]
    front = load_manifold(StudyFolder(made), setting).front(setting.base.data.valid.pair, setting.grid)
    promised = front.choose(maximize="positive", subject_to={"mae/amount": "<= 1000"})
    assert choice["preference"] == dict(promised.as_dict)
    assert choice["expected"] == pytest.approx(dict(promised.metrics))
    network = setting.base.make_network()
    network.load_state_dict(load_file(out / CHOSEN))
    evaluation = evaluate(network, setting.base.data.tasks, setting.base.data.test.pair)
    assert choice["test"]["positive"]["metric"] == pytest.approx(evaluation.metrics["positive"]["accuracy"])
    assert choice["test"]["amount"]["metric"] == pytest.approx(evaluation.metrics["amount"]["mae"], rel=1e-5)


def test_a_bound_that_nothing_keeps_is_flagged(made, options, tmp_path):
    out = shutil.copytree(made, tmp_path / "copied")
    choose_preference(options, out, Wish(minimize="loss/amount", subject_to={"positive": ">= 2"}))
    choice = json.loads((out / CHOICE).read_text())
    assert not choice["feasible"]
    assert list(choice["violation"]) == ["accuracy/positive >= 2"]
    assert "misses least" in choice["sentence"]


def test_a_given_preference_is_taken_as_it_is(made, options, tmp_path):
    out = shutil.copytree(made, tmp_path / "copied")
    choose_preference(options, out, Wish(preference={"positive": 0.25, "amount": 0.75}))
    assert json.loads((out / CHOICE).read_text())["preference"] == {"positive": 0.25, "amount": 0.75}


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        (Wish(minimize="nonsense"), "There is no 'nonsense'"),
        (Wish(minimize="positive", subject_to={"nonsense": ">= 1"}), "There is no 'nonsense'"),
        (Wish(minimize="accuracy/positive"), "Write maximize="),
        (Wish(preference={"positive": 0.5}), "sum to 1"),
        (Wish(preference={"nonsense": 1.0}), "unknown name 'nonsense'"),
    ],
)
def test_a_wish_for_what_there_is_not_is_refused(made, options, wish, reason):
    with pytest.raises(ArgumentsError, match=reason):
        choose_preference(options, made, wish)
    assert not (made / CHOICE).exists()


def test_words_of_a_wish():
    bounds = ["age >= 0.82,loss/a, b <= 1e-1", "c<=-3"]
    expected = {"age": ">= 0.82", "loss/a, b": "<= 1e-1", "c": "<=-3"}
    assert wish_of("loss/x", None, None, bounds) == Wish("loss/x", None, None, expected)
    assert wish_of(None, None, "a b=0.7, c=.3", None) == Wish(preference={"a b": 0.7, "c": 0.3})
    assert wish_of(None, None, None, None) is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("a", "b", None, None), "Give one of"),
        ((None, None, None, ["a >= 1"]), "which --subject_to then limits"),
        ((None, None, "a=1", ["a >= 1"]), "says it all"),
        (("a", None, None, ["a > 1"]), "must be written as"),
        (("a", None, None, ["a >= much"]), "must be written as"),
        (("a", None, None, [""]), "must be written as"),
        ((None, None, "a:1", None), "must be written as"),
        ((None, None, "a=1.2.3", None), "no number"),
    ],
)
def test_words_that_are_no_wish_are_refused(words, reason):
    with pytest.raises(ArgumentsError, match=reason):
        wish_of(*words)


@pytest.mark.parametrize(
    ("low", "high", "better", "word"),
    [
        (0.1, 0.2, "higher", "clearly better"),
        (0.1, 0.2, "lower", "clearly worse"),
        (-0.2, -0.1, "higher", "clearly worse"),
        (-0.2, -0.1, "lower", "clearly better"),
        (-0.1, 0.1, "higher", "no clear difference"),
        (0.0, 0.1, "higher", "no clear difference"),
        (None, None, "higher", "no clear difference"),
    ],
)
def test_only_an_interval_without_zero_is_a_difference(low, high, better, word):
    assert comparison_words({"low": low, "high": high}, better) == word


def test_rounding_is_no_finding():
    """One sample is judged differently, and a third of the draws does not hold it: their difference is exactly 0."""
    generator = torch.Generator().manual_seed(0)
    right = (torch.rand(1, 359, 2, generator=generator) > 0.1).float()
    fewer = right.clone()
    fewer[0, 7] = 1 - fewer[0, 7]
    labelled = torch.ones(359, 2, dtype=torch.bool)
    scores = [SampleScores(values, values, labelled, "") for values in (fewer, right)]
    front, equal = (
        Front(("a", "b"), ("a", "b"), torch.full((1, 2), 0.5), s.means("losses"), s.means("metrics"),
              ("accuracy", "accuracy"), torch.eye(2), s)
        for s in scores
    )  # fmt: skip
    entries = _against_equal(Looked(front, equal), Looked(front, equal))["test"]
    for task, entry in entries.items():
        assert 0.0 in (entry["low"], entry["high"]), task
        assert comparison_words(entry, "higher") == "no clear difference"


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [(1, 1, "better"), (1, 0, "better"), (1, -1, "mixed"), (0, -1, "worse"), (0, 0, "no-difference")],
)
def test_the_verdict_follows_the_differences_on_test(found, first, second, code):
    def entry(sign):
        return {"difference": sign, "low": sign - 0.5, "high": sign + 0.5}

    # amount is an error: less is better
    against = {**found["against_equal"], "test": {"positive": entry(first), "amount": entry(-second)}}
    assert front_verdict({**found, "against_equal": against})["code"] == code
