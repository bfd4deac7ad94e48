import json
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cotrain.data import DatasetInfo, datasets
from cotrain.data.sources import CENSUS_INCOME
from cotrain.study import StudyConfig
from cotrain.study.verdict import unchecked
from cotrain.terminal import BEST_PAIRS, MOST_ROWS, affinity_table, dataset_table, outcome_tables

NAME = "[red]t[/bold]"


def printed(*parts, width=120):
    text = StringIO()
    for part in parts:
        Console(file=text, width=width).print(part)
    return text.getvalue()


def lines_with(text, words):
    return [line for line in text.splitlines() if words in line]


@pytest.fixture
def study(tmp_path):
    """Write a study's files with T tasks of made-up results."""

    def write(n_tasks=2, *, metric=0.9, better="higher", check="full", noise=(), low=0.9, warnings=()):
        names = [f"{NAME}{number}" for number in range(n_tasks)]
        (tmp_path / "study.yaml").write_text(StudyConfig("digits", check=check).to_yaml())
        group = {"trains": names, "serves": names}
        grouping = {
            "grouping": {"groups": [group]},
            "noise": list(noise),
            "verdict": asdict(unchecked(1, trained=False)),
        }
        (tmp_path / "grouping.json").write_text(json.dumps(grouping))
        (tmp_path / "measure.json").write_text(json.dumps({"warnings": list(warnings)}))

        def arm(value):
            results = [{"metric": dict.fromkeys(names, value)}, {"metric": dict.fromkeys(names, value)}]
            return {"networks": 1, "results": results}

        interval = {"mean": 1.0, "low": low, "high": low and 1.1}
        arms = {"single": arm(0.5), "all-in-one": arm(0.7), "grouped": arm(metric)}
        metrics = {
            "tasks": [{"name": name, "metric": "auroc", "better": better} for name in names],
            "arms": arms,
            "relative_loss": dict.fromkeys(arms, interval),
            "memberships": [],
            "verdict": {"headline": f"Do {NAME}.", "sentences": ["Because."]},
        }
        (tmp_path / "metrics.json").write_text(json.dumps(metrics))
        return tmp_path

    return write


def test_the_outcome_has_groups_arms_tasks_and_verdict(study):
    text = printed(*outcome_tables(study(noise=[f"{NAME}9"], warnings=["few observations"])))
    assert f"{NAME}0 + {NAME}1" in text
    assert f"left out of the groups: {NAME}9" in text
    assert "Note: few observations" in text
    assert "0.900 to 1.100" in text
    assert f"Do {NAME}." in text
    assert "  Because." in text


def test_without_noise_or_warnings_there_is_no_word_of_them(study):
    text = printed(*outcome_tables(study()))
    assert "left out" not in text
    assert "Note" not in text


def test_one_seed_has_no_interval(study):
    assert " to " not in printed(*outcome_tables(study(low=None)))


@pytest.mark.parametrize(("better", "best"), [("higher", "0.7"), ("lower", "0.3")])
def test_the_best_value_is_bold(study, better, best):
    tables = outcome_tables(study(metric=0.3, better=better))
    text = StringIO()
    console = Console(file=text, width=120, force_terminal=True, color_system="standard")
    console.print(tables[2])
    row = lines_with(text.getvalue(), f"{NAME}0")[0]
    assert f"\x1b[1m{best}" in row
    assert row.count("\x1b[1m") == 1


def test_a_metric_that_is_not_defined_is_an_empty_cell(study):
    text = printed(*outcome_tables(study(metric=None)))
    assert lines_with(text, "auroc")[0].count("0.") == 2


def test_very_many_tasks_are_cut_with_that_said(study):
    text = printed(*outcome_tables(study(MOST_ROWS + 5)))
    assert f"first {MOST_ROWS} tasks" in text
    assert len(lines_with(text, "auroc")) == MOST_ROWS


def test_without_a_check_nothing_is_claimed(study):
    text = printed(*outcome_tables(study(check="none")))
    assert "A prediction only" in text
    assert "total test loss" not in text


def write_affinities(folder: Path, rows):
    lines = [f"{source},{target},{value},{stderr},50" for source, target, value, stderr in rows]
    (folder / "affinity.csv").write_text("\n".join(["source,target,affinity,stderr,observations", *lines]))
    return folder


def test_the_highest_affinities_come_first(tmp_path):
    rows = [(f"{NAME}{i}", f"{NAME}{j}", i + j / 10, 0.01) for i in range(5) for j in range(5)]
    text = printed(affinity_table(write_affinities(tmp_path, rows)))
    assert "The highest of 20 affinities" in text
    shown = lines_with(text, "0.01")
    assert len(shown) == BEST_PAIRS
    assert f"{NAME}4" in shown[0]
    assert "4.3" in shown[0]


def test_what_is_not_known_of_an_affinity_is_said_or_left_out(tmp_path):
    rows = [("a", "b", 0.5, ""), ("b", "a", "", ""), ("a", "a", 1, 1)]
    text = printed(affinity_table(write_affinities(tmp_path, rows)))
    assert "The highest of 1 affinities" in text
    assert "unknown" in text


def test_data_sets_are_listed_with_their_place_in_full(tmp_path):
    folder = tmp_path / "a-[red]long[/bold]-name" / ("x" * 60)
    found = DatasetInfo(CENSUS_INCOME, (folder,), folder, ())
    missing = DatasetInfo(CENSUS_INCOME, (folder,), None, ())
    for info, words in ((found, "in "), (missing, "not found; looked in")):
        text = printed(dataset_table([info]), width=80)
        assert words in text
        place = "".join(line.rsplit("│", 2)[-2].strip() for line in lines_with(text, "│"))
        assert str(folder) in place
    assert "Get them with: cotrain datasets get census-income" in printed(dataset_table([missing]))
    assert "ships with an installed package" in printed(dataset_table(datasets()))
