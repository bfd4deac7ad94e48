import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cotrain.errors import StudyError
from cotrain.report.contents import read_study
from cotrain.report.results import Check, Group

Make = Callable[..., Path]
NAMES = ("a", "b", "c", "d", "noise")


def test_reads_what_was_written(make_folder: Make) -> None:
    study = read_study(make_folder(names=NAMES))
    assert study.names == NAMES
    assert study.noise == ("noise",)
    assert study.groups == (
        Group(("a", "d"), ("a", "d")),
        Group(("a", "b"), ("b",)),
        Group(("c",), ("c",)),
    )
    assert study.groups[1].helpers == ("a",)
    assert study.check is not None
    assert [arm.name for arm in study.check.arms][:3] == ["single", "all-in-one", "grouped"]
    assert study.check.arms[0].metric.shape == (3, 5)
    assert study.seconds == {"data": 1.25, "measure": 41.5, "decide": 0.4, "check": 130.0}


def test_rows_of_the_affinity_are_sources(make_folder: Make) -> None:
    folder = make_folder(names=("a", "b"))
    (folder / "affinity.csv").write_text(
        "source,target,affinity,stderr,observations,label_correlation,gradient_cosine\n"
        "b,a,0.5,0.1,9,0.2,0.3\na,b,-0.25,0.1,9,0.2,\n"
    )
    pairs = read_study(folder).pairs
    np.testing.assert_array_equal(pairs["affinity"], [[np.nan, -0.25], [0.5, np.nan]])
    assert np.isnan(pairs["gradient_cosine"][0, 1])


def test_tasks_of_one_network_stand_together_and_the_rest_last(make_folder: Make) -> None:
    study = read_study(make_folder(names=NAMES))
    assert [NAMES[t] for t in study.display_order] == ["a", "d", "b", "c", "noise"]


def test_gains_hold_one_entry_per_task_and_network_with_all_seeds(make_folder: Make) -> None:
    folder = make_folder(names=NAMES)
    (folder / "gains.csv").write_text(
        "arm,network,trains,task,role,predicted,predicted_std,seed,realised\n"
        "grouped,0,a+b,a,serves,0.1,0.01,0,0.2\ngrouped,0,a+b,a,serves,0.1,0.01,1,0.4\n"
        "grouped,0,a+b,b,helps,0.3,,0,\n"
    )
    first, second = read_study(folder).gains
    assert (first.task, first.served, first.realised) == ("a", True, (0.2, 0.4))
    assert (second.task, second.served, second.realised) == ("b", False, ())
    assert np.isnan(second.predicted_std)


def test_seconds_add_up_over_resumed_runs_and_a_torn_last_line_is_passed_over(make_folder: Make) -> None:
    folder = make_folder(names=NAMES)
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"event": "step-started", "step": "measure"}\n')
        file.write('{"event": "step-finished", "step": "measure", "seconds": 8.5}\n{"event": "step-fin')
    assert read_study(folder).seconds["measure"] == 50.0


@pytest.mark.parametrize("name", ["study.yaml", "measure.json", "affinity.csv", "grouping.json"])
def test_a_folder_without_a_required_file_is_no_study(make_folder: Make, name: str) -> None:
    folder = make_folder(names=NAMES)
    (folder / name).unlink()
    with pytest.raises(StudyError, match=rf"is not the folder of a study .*{name} missing.*--resume"):
        read_study(folder)


def test_a_path_that_does_not_exist_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="is not the folder of a study"):
        read_study(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("study.yaml", "- a list"),
        ("study.yaml", "a: [1"),
        ("measure.json", '{"tasks": [{"kind": "binary"}]}'),
        ("measure.json", '{"tasks": 3}'),
        ("measure.json", "{"),
        ("affinity.csv", "source,target\na,b\n"),
        ("affinity.csv", "source,target,affinity,stderr,observations,label_correlation,gradient_cosine\na,b\n"),
        (
            "affinity.csv",
            "source,target,affinity,stderr,observations,label_correlation,gradient_cosine\na,zebra,1,1,1,1,1\n",
        ),
        (
            "affinity.csv",
            "source,target,affinity,stderr,observations,label_correlation,gradient_cosine\na,b,much,1,1,1,1\n",
        ),
        ("grouping.json", '{"grouping": {"groups": [{"trains": ["zebra"], "serves": ["zebra"]}]}}'),
        ("grouping.json", '{"grouping": {}}'),
        ("grouping.json", '{"grouping": {"groups": [{"trains": ["a", "b"], "serves": ["a"]}]}}'),
        ("metrics.json", '{"check": "full"}'),
        ("metrics.json", '{"check": "full", "seeds": [], "tasks": [], "arms": {}, "memberships": [{"by": "logits"}]}'),
        ("data_maps.safetensors", "not tensors"),
        ("gains.csv", "arm\n"),
        ("front.csv", "arm\n"),
        ("events.jsonl", "{\n{}\n"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(make_folder: Make, name: str, content: str) -> None:
    folder = make_folder(names=NAMES)
    (folder / name).write_text(content)
    with pytest.raises(StudyError, match=rf"^{name} in .* Delete the file and run the study again with --resume"):
        read_study(folder)


def test_data_maps_of_other_tasks_are_refused(make_folder: Make) -> None:
    folder = make_folder(names=NAMES)
    maps = np.zeros((4, 3), dtype=np.float32)
    save_file(dict.fromkeys(("confidence", "variability", "correctness"), maps), folder / "data_maps.safetensors")
    with pytest.raises(StudyError, match=r"expected tensors of one shape \[samples, 5\], got \[\(4, 3\)\]"):
        read_study(folder)


def test_random_covers_are_ordered_by_number(make_folder: Make) -> None:
    folder = make_folder(names=NAMES)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["arms"] = {"random-10": metrics["arms"]["random-1"], **metrics["arms"]}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    check = read_study(folder).check
    assert check is not None
    assert [arm.name for arm in check.arms][3:] == ["random-1", "random-2", "random-3", "random-10"]


def test_controls_come_before_random_covers(make_clustered: Make) -> None:
    check = read_study(make_clustered(names=NAMES)).check
    assert check is not None
    controls = ["by-difficulty", "difficulty-matched", "label-correlation"]
    assert [arm.name for arm in check.arms] == ["single", "all-in-one", "grouped", *controls, *check_covers(check)]


def check_covers(check: Check) -> list[str]:
    return [arm.name for arm in check.arms if arm.name.startswith("random-")]


def test_what_every_network_learns_is_read(make_folder: Make) -> None:
    folder = make_folder(names=NAMES)
    measure = json.loads((folder / "measure.json").read_text())
    measure["tasks"][1] |= {"mastery": 0.9995, "learned_by_everybody": True}
    (folder / "measure.json").write_text(json.dumps(measure))
    first, second, *_ = read_study(folder).tasks
    assert (second.mastery, second.learned_by_everybody) == (0.9995, True)
    assert np.isnan(first.mastery)
    assert not first.learned_by_everybody
