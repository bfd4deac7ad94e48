"""The part of the page on ways to combine gradients."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cotrain.errors import StudyError
from cotrain.report import write_report
from cotrain.report.aggregations import aggregation_columns, aggregation_figure, aggregation_rows, choice_figures
from cotrain.report.contents import Study, read_study
from cotrain.report.tables import score_rows_of

NAMES = ("a", "b", "c", "noise")

Make = Callable[..., Path]


def add(folder: Path, name: str, means: Mapping[str, float], seeds: Sequence[int] = (0, 1, 2), **changes: Any) -> None:
    """Write an aggregation's file as `cotrain train` does; every task's metric is 0.5 + the seed / 100."""
    (folder / "aggregation").mkdir(exist_ok=True)
    several = len(seeds) > 1
    record = {
        "aggregation": name,
        "checked": hashlib.sha256((folder / "metrics.json").read_bytes()).hexdigest(),
        "relative_loss": {
            arm: {
                "mean": mean,
                "low": mean - 0.02 if several else None,
                "high": mean + 0.02 if several else None,
                "per_seed": [mean] * len(seeds),
            }
            for arm, mean in means.items()
        },
        "arms": {
            arm: {
                "networks": 1,
                "results": [
                    {
                        "seed": seed,
                        "loss": dict.fromkeys(NAMES, 0.2),
                        "metric": dict.fromkeys(NAMES, 0.5 + seed / 100),
                    }
                    for seed in seeds
                ],
            }
            for arm in means
        },
        "skipped_steps": 3,
        "networks": [],
        **changes,
    }
    (folder / "aggregation" / f"{name}.json").write_text(json.dumps(record))


@pytest.fixture
def folder(make_folder: Make) -> Path:
    """A study that tried two ways; the second has no groups of several tasks."""
    folder = make_folder(names=NAMES)
    add(folder, "upgrad", {"all-in-one": 0.95, "grouped": 1.01})
    add(folder, "pcgrad", {"all-in-one": 1.04})
    return folder


def test_without_any_there_is_no_section(make_folder: Make) -> None:
    folder = make_folder(names=NAMES)
    assert read_study(folder).aggregations == ()
    assert 'id="aggregations"' not in write_report(folder).read_text()


def test_rows_say_what_the_files_say(folder: Path) -> None:
    study = read_study(folder)
    assert aggregation_rows(study.aggregations) == [
        ("pcgrad", "All in one", "1", "1.040 [1.020, 1.060]", "3"),
        ("upgrad", "All in one", "1", "0.950 [0.930, 0.970]", "3"),
        ("upgrad", "Chosen groups", "1", "1.010 [0.990, 1.030]", "3"),
    ]


def test_tasks_stand_beside_those_of_the_plain_sum(folder: Path) -> None:
    study: Study = read_study(folder)
    check = study.check
    assert check is not None
    everything, groups = aggregation_columns(check, study.aggregations)
    assert everything[:2] == ("All in one", ["plain sum", "pcgrad", "upgrad"])
    assert groups[:2] == ("Chosen groups", ["plain sum", "upgrad"])
    assert everything[2][0] is check.arm("all-in-one")
    rows = {row.task: row for row in score_rows_of(study, check.scoring, everything[2])}
    assert set(rows) == set(NAMES)
    plain, *combined = rows["a"].scores
    assert plain.mean == "0.961"
    assert plain.best
    assert [(score.mean, score.spread, score.best) for score in combined] == [("0.510", "0.010", False)] * 2
    assert not any(score.best for score in rows["noise"].scores)


def test_the_picture_has_a_row_for_each_and_the_plain_sum_at_1(folder: Path) -> None:
    figure = aggregation_figure(read_study(folder).aggregations)
    assert figure is not None
    assert figure.layout["xaxis"]["title"]["text"] == "total test loss, the plain sum = 1"
    assert [trace["x"] for trace in figure.data[1:]] == [[1.04], [0.95], [1.01]]
    assert aggregation_figure(()) is None


def test_the_page_shows_all_of_it(folder: Path) -> None:
    text = write_report(folder).read_text()
    section = text[text.index('id="aggregations"') : text.index('id="groups"')]
    for words in ("pcgrad", "upgrad", "0.950 [0.930, 0.970]", "plain sum", "Chosen groups, each task on the test data"):
        assert words in section
    assert 'href="#aggregations"' in text


def test_choices_over_time_are_drawn(folder: Path) -> None:
    picked = {"joint": [90, 10], "a<b": [5, 20], "c": [3, 0], "d": [1, 10], "e": [1, 10]}
    network = {"trains": ["a", "b"], "choices": {"start": [0, 100], "share": {}, "picked": picked}}
    add(folder, "transference", {"all-in-one": 0.9}, networks=[network, {"trains": ["b", "c"]}])
    ((name, heading, figure),) = choice_figures(read_study(folder).aggregations)
    assert (name, heading) == ("choices-transference-0", "What transference chose for a, b")
    assert [bar["name"] for bar in figure.data[:2]] == ["joint", "a&lt;b"]
    assert figure.data[-1]["name"] == "others"
    assert [sum(bar["y"][k] for bar in figure.data) for k in range(2)] == pytest.approx([1, 1])
    text = write_report(folder).read_text()
    assert heading in text
    assert 'data-figure="choices-transference-0"' in text


def test_one_seed_has_no_interval(make_folder: Make) -> None:
    folder = make_folder(names=NAMES, seeds=(0,))
    add(folder, "upgrad", {"all-in-one": 0.95}, seeds=(0,))
    assert aggregation_rows(read_study(folder).aggregations)[0][3] == "0.950"
    assert "One seed" in write_report(folder).read_text()


def test_one_of_an_earlier_check_is_named_and_not_shown(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({**metrics, "n_train": 17}))
    add(folder, "upgrad", {"all-in-one": 0.9})
    study = read_study(folder)
    assert [found.name for found in study.aggregations] == ["upgrad"]
    assert study.outdated == ("pcgrad",)
    assert "Not shown: pcgrad, compared with an earlier check" in write_report(folder).read_text()


def test_a_damaged_file_is_named(folder: Path) -> None:
    (folder / "aggregation" / "upgrad.json").write_text("{")
    with pytest.raises(StudyError, match=r"upgrad\.json in .* cannot be understood"):
        read_study(folder)
    add(folder, "upgrad", {"all-in-one": 0.9}, arms={"grouped": {"networks": 1, "results": []}})
    with pytest.raises(StudyError, match=r"upgrad\.json in .* has no field or task 'grouped'"):
        read_study(folder)
