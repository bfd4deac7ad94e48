"""The page of a front: its slider has the numbers of the file, and it needs nothing from anywhere."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from front_folder import write_choice, write_front
from test_page import AWKWARD, Page

from cotrain.errors import StudyError
from cotrain.report import write_front_report, write_report
from cotrain.report.palette import DARK, LIGHT
from cotrain.report.pareto import read_pareto
from cotrain.report.pareto_plots import front_picture

SHAPES = {
    "plane": (("age", "income"), None),
    "triangle": (("age", "income", "wage"), None),
    "lines": (("age", "income", "wage", "work"), None),
    "two knobs of many tasks": (("left", "right"), ("a", "b", "c", "d")),
}
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(params=SHAPES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    names, tasks = SHAPES[request.param]
    return write_front(tmp_path / "front", names, tasks)


def page_of(folder: Path) -> Page:
    return Page(write_front_report(folder).read_text(encoding="utf-8"))


def test_the_page_says_what_was_found_first(folder: Path) -> None:
    page = page_of(folder)
    assert page.headings[0].startswith("The front has a point that is better than equal weights for")
    assert page.headings[1:] == ["What was found", "Choose a preference", "The front", "Every preference", "Set-up"]


def test_the_page_loads_nothing_and_is_the_same_again(folder: Path) -> None:
    first = write_front_report(folder).read_bytes()
    assert write_front_report(folder).read_bytes() == first
    page = Page(first.decode())
    assert not [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert (page.named("meta")[1]["content"] or "").startswith("default-src 'none';")


def test_the_slider_has_the_numbers_of_the_file(folder: Path) -> None:
    found = json.loads((folder / "pareto/front.json").read_text())
    page = page_of(folder)
    slider = json.loads(page.scripts["pareto-front"])
    assert slider["names"] == found["names"]
    for point, shares in zip(found["points"], slider["preferences"], strict=True):
        assert shares == pytest.approx(list(point["preference"].values()), abs=1e-3)
    for t, task in enumerate(slider["tasks"]):
        for key in ("metric", "low", "high"):
            expected = [point["valid"][task["name"]][key] for point in found["points"]]
            assert task[key] == pytest.approx(expected, rel=1e-5)
        higher = found["tasks"][t]["better"] == "higher"
        assert (task["worst"] < task["best"]) == higher
    sliders = [tag for tag in page.named("input") if tag["type"] == "range"]
    assert len(sliders) == (1 if len(found["names"]) == 2 else len(found["names"]))
    start = [int(tag["value"] or "") for tag in sliders]
    best = found["points"][found["against_equal"]["point"]]["preference"]
    assert start == [round(100 * share) for share in best.values()][: len(start)]


def test_every_slider_has_a_name(folder: Path) -> None:
    page = page_of(folder)
    labels = page.text
    for tag in page.named("input"):
        if tag["type"] == "range" and not tag.get("aria-label"):
            name = json.loads(page.scripts["pareto-front"])["names"][int(tag["data-knob"] or "")]
            assert name in labels


def test_the_picture_fits_the_number_of_knobs(folder: Path) -> None:
    front = read_pareto(folder)
    assert front is not None
    picture = front_picture(front)
    kind = "plane" if len(front.tasks) == 2 else "triangle" if len(front.names) == 3 else "lines"
    assert picture.kind == kind
    graph_objects = pytest.importorskip("plotly.graph_objects")
    page = page_of(folder)
    figure = json.loads(page.scripts["figures"])["pareto"]
    painted = json.loads(re.sub(r'"@[a-z-]+"', '"#123456"', json.dumps(figure)))
    graph_objects.Figure(data=painted["data"], layout=painted["layout"])
    roles = set(re.findall(r'"@([a-z-]+)"', json.dumps(figure)))
    assert roles <= set(LIGHT)
    assert set(LIGHT) == set(DARK)
    marker = json.loads(page.scripts["pareto-front"])["picture"]["marker"]
    assert marker is None or figure["data"][marker]["name"] == "slider"


def test_lines_run_from_worst_to_best_whatever_the_metric(tmp_path: Path) -> None:
    front = read_pareto(write_front(tmp_path, ("left", "right"), ("a", "b", "c")))
    assert front is not None
    error = front.tasks[-1]
    assert not error.higher
    assert error.place(error.ends[0]) == 0
    assert error.place(error.ends[1]) == 1
    best = int(np.argmin(error.values))
    assert error.place(error.values[best]) == max(error.place(error.values))


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    page = page_of(write_front(tmp_path, AWKWARD[:4]))
    for name in AWKWARD[:4]:
        assert page.text.count(name) >= 3
    assert len(page.named("script")) == 5
    assert all("x" not in attributes for attributes in page.named("b"))


def test_a_choice_is_shown_and_is_where_the_slider_starts(tmp_path: Path) -> None:
    folder = write_front(tmp_path)
    assert "Chosen" not in page_of(folder).headings
    write_choice(folder, {"age": 0.37, "income": 0.63}, ("age", "income"))
    page = page_of(folder)
    assert "Chosen" in page.headings
    assert "Chosen as wished." in page.text
    assert "0.7654" in page.text
    assert [tag["value"] for tag in page.named("input") if tag["type"] == "range"] == ["37"]


def test_many_points_are_cut_in_the_table_and_said_to_be(tmp_path: Path) -> None:
    page = page_of(write_front(tmp_path, ("a", "b", "c"), n=66))
    assert "Shown are 24 of 66 preferences, those that are not dominated first" in page.text


def test_too_many_tasks_have_no_hypervolume(tmp_path: Path) -> None:
    folder = write_front(tmp_path, ("a", "b"))
    file = folder / "pareto/front.json"
    found = json.loads(file.read_text())
    file.write_text(json.dumps({**found, "hypervolume": None}))
    assert "Volume between the points" not in page_of(folder).text


def test_a_study_has_the_section_only_if_it_has_a_front(make_folder: Callable[..., Path]) -> None:
    study = make_folder()
    before = Page(write_report(study).read_text(encoding="utf-8"))
    assert "One network for every trade-off" not in before.headings
    assert "#pareto" not in [link["href"] for link in before.named("a")]
    write_front(study)
    after = Page(write_report(study).read_text(encoding="utf-8"))
    place = after.headings.index("One network for every trade-off")
    assert after.headings[place + 1 : place + 4] == ["Choose a preference", "The front", "Every preference"]
    assert "#pareto" in [link["href"] for link in after.named("a")]
    places = {tag["data-figure"] for _, tag in after.tags if "data-figure" in tag}
    assert places == set(json.loads(after.scripts["figures"]))


def test_a_damaged_front_is_named(tmp_path: Path) -> None:
    folder = write_front(tmp_path)
    (folder / "pareto/front.json").write_text("{}")
    with pytest.raises(StudyError, match=r"front\.json .* has no field or task 'names'"):
        write_front_report(folder)
    with pytest.raises(StudyError, match="holds no finished front"):
        write_front_report(tmp_path / "nowhere")


def shown(page: Path, script: str) -> Page:
    """What a browser makes of a page after a script."""
    moved = page.with_name("moved.html")
    text = page.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>")
    moved.write_text(text, encoding="utf-8")
    words = (str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom")
    done = subprocess.run([*words, moved.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return Page(done.stdout)


@pytest.mark.skipif(BROWSER is None, reason="needs a browser")
def test_moving_the_slider_shows_what_lies_there(tmp_path: Path) -> None:
    """Between two evaluated preferences a metric lies on the line through both; the command names the preference."""
    page = write_front_report(write_front(tmp_path / "front"))
    move = 'const s = document.querySelector("[data-knob]"); s.value = "43"; s.dispatchEvent(new Event("input"));'
    text = shown(page, move).text
    assert "0.7430" in text  # 0.7 + 0.1 * 0.43
    assert "Preference: age 0.43, income 0.57" in text
    assert "cotrain front front --preference age=0.43,income=0.57" in text
    assert 'manifold(inputs, {"age": 0.43, "income": 0.57})' in text


@pytest.mark.skipif(BROWSER is None, reason="needs a browser")
def test_of_three_knobs_the_nearest_point_is_shown_and_its_shares_sum_to_one(tmp_path: Path) -> None:
    folder = write_front(tmp_path / "front", ("a", "b", "it's c"), n=3)
    file = folder / "pareto/front.json"
    found = json.loads(file.read_text())
    for point, shares in zip(found["points"], ((1, 0, 0), (1 / 6, 1 / 6, 2 / 3), (0, 1, 0)), strict=True):
        point["preference"] = dict(zip(found["names"], shares, strict=True))
    file.write_text(json.dumps(found))
    move = """const knobs = [...document.querySelectorAll("[data-knob]")];
    [0, 10, 60].forEach((value, k) => { knobs[k].value = String(value); });
    knobs[0].dispatchEvent(new Event("input"));"""
    text = shown(write_front_report(folder), move).text
    assert """manifold(inputs, {"a": 0.167, "b": 0.167, "it's c": 0.666})""" in text
    (command,) = re.findall(r"cotrain front front --preference \S+ \S+", text)
    assert shlex.split(command)[-1] == "a=0.167,b=0.167,it's c=0.666"
    assert f"{found['points'][1]['valid']['a']['metric']:.4f}" in text
