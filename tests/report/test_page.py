import json
import re
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cotrain.report import write_report
from cotrain.report.contents import read_study
from cotrain.report.page import page_values
from cotrain.report.palette import DARK, LIGHT
from cotrain.study.config import TRAINING_METHODS, Method

MEGABYTE = 1_000_000
AWKWARD = ('<b>&"x', "a</script>b", "@ink", "$x$", "%{y}", "noise'{{ 1 }}")

Make = Callable[..., Path]


class Page(HTMLParser):
    """The page taken apart: tags with attributes, visible text, and the content of scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.headings: list[str] = []
        self.scripts: dict[str, str] = {}
        self.inside = ""
        self.script_id = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        self.script_id = dict(attrs).get("id") or ""

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[self.script_id] = self.scripts.get(self.script_id, "") + data
        elif self.inside != "style":
            self.pieces.append(data)
        if self.inside in ("h1", "h2", "h3"):
            self.headings.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.pieces))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_writes_into_the_folder_and_returns_the_path(make_folder: Make) -> None:
    folder = make_folder()
    assert write_report(folder) == folder / "report.html"


def test_same_folder_gives_the_same_bytes(make_clustered: Make) -> None:
    folder = make_clustered()
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_loads_nothing_from_anywhere(make_folder: Make, make_clustered: Make) -> None:
    page = page_of(make_folder())
    loads = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(value is not None and value.startswith("#") for value in loads)
    assert not page.named("link")
    assert not page.named("img")
    images = page_of(make_clustered()).named("img")
    assert len(images) == 2 * 15
    assert all((image["src"] or "").startswith("data:image/png;base64,") and image["alt"] for image in images)
    policy = page.named("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert (policy["content"] or "").startswith("default-src 'none';")
    assert "http" not in (policy["content"] or "")


def test_holds_the_plot_library_once(make_folder: Make) -> None:
    text = write_report(make_folder()).read_text(encoding="utf-8")
    assert len(re.findall(r"\* plotly\.js v\d", text)) == 1


def test_verdict_stands_before_everything_else(make_folder: Make) -> None:
    page = page_of(make_folder())
    assert page.headings == [
        "Train in 3 groups: 6 % less loss than alone",
        "Does training together pay?",
        "Each task on the test data",
        "Who trains with whom",
        "Predicted and realised gains, predictions unverified",
        "How tasks act on each other",
        "Controls",
        "Data maps",
        "The tasks",
        "Cost",
        "Set-up",
        "Configuration",
        "Versions",
        "Machine",
        "Seeds",
    ]
    assert page.text.index("They beat each of 3 random covers") < page.text.index("Does training together pay?")


@pytest.mark.parametrize(
    "words",
    [
        "Correlation of predicted and realised gain: +0.43 over 60 entries; within tasks +0.12",
        "AUC 0.510",
        "base rate 0.10",
        "0.940 [0.910, 0.970]",
        "185,175",
        "Measuring cost 1.6 plain training steps",
        "all steps 3 min",
        "2.13.0+cpu",
        "pair mean of lookahead affinity",
        "mean score (which is no gain) 0.0421, proven best (HiGHS)",
        "left out: cannot be told from chance",
    ],
)
def test_says_what_the_files_say(make_folder: Make, words: str) -> None:
    assert words in page_of(make_folder()).text


def test_every_picture_has_its_place_and_its_description(make_clustered: Make) -> None:
    page = page_of(make_clustered())
    places = [tag for _, tag in page.tags if "data-figure" in tag]
    figures = json.loads(page.scripts["figures"])
    assert {place["data-figure"] for place in places} == set(figures)
    assert all(place["role"] == "img" and place["aria-label"] for place in places)


def test_every_colour_is_in_both_palettes(make_clustered: Make) -> None:
    page = page_of(make_clustered())
    roles = {
        value[1:]
        for key, value in leaves(json.loads(page.scripts["figures"]))
        if key.endswith(("color", "colorscale")) and isinstance(value, str)
    }
    assert roles
    assert roles <= set(LIGHT)
    assert json.loads(page.scripts["palettes"]) == {"light": LIGHT, "dark": DARK}


def test_plotly_accepts_every_figure(make_clustered: Make) -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    for figure in page_values(read_study(make_clustered()))["figures"].values():
        painted = json.loads(re.sub(r'"@[a-z-]+"', '"#123456"', json.dumps(figure)))
        graph_objects.Figure(data=painted["data"], layout=painted["layout"])


def test_names_are_text_and_never_markup(make_clustered: Make) -> None:
    page = page_of(make_clustered(names=AWKWARD))
    for name in AWKWARD:
        assert page.text.count(name) >= 3
    assert len(page.named("script")) == 4
    assert all("x" not in attributes for attributes in page.named("b"))
    axis = json.loads(page.scripts["figures"])["affinity"]["layout"]["xaxis"]["ticktext"]
    assert '&lt;b&gt;&amp;"x' in axis


def test_forty_tasks_stay_light(make_folder: Make) -> None:
    path = write_report(make_folder(names=[f"task {t}" for t in range(40)], n_samples=5_000))
    assert path.stat().st_size < 8 * MEGABYTE
    page = Page(path.read_text(encoding="utf-8"))
    assert sum(name.startswith("map-") for name in json.loads(page.scripts["figures"])) == 40


def test_one_seed_has_no_spread(make_folder: Make) -> None:
    text = page_of(make_folder(seeds=(5,))).text
    assert "One seed only" in text
    assert "±: standard deviation" not in text
    assert "0.940 [" not in text


def test_without_a_check_nothing_is_claimed_to_be_realised(make_folder: Make) -> None:
    page = page_of(make_folder(check="none"))
    assert "Groups proposed, none of them checked" in page.text
    assert "Predicted gains" in page.text
    for claim in ("Predicted and realised", "Each task on the test data", "Does training together pay?"):
        assert claim not in page.text
    assert not {"relative-loss", "front"} & set(json.loads(page.scripts["figures"]))


def test_without_any_verdict_nothing_is_recommended(make_folder: Make) -> None:
    folder = make_folder()
    (folder / "metrics.json").unlink()
    assert "Not checked yet: nothing is recommended" in page_of(folder).text


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("data_maps.safetensors", "No data maps were recorded."),
        ("gains.csv", "no group of two or more tasks with a prediction"),
        ("front.csv", "Random cover 1"),
        ("events.jsonl", "Measuring cost"),
    ],
)
def test_does_without_optional_files(make_folder: Make, missing: str, words: str) -> None:
    folder = make_folder()
    (folder / missing).unlink()
    assert words in page_of(folder).text


def test_does_without_the_optional_parts_of_the_metrics(make_folder: Make) -> None:
    folder = make_folder()
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["prediction"], metrics["relative_loss"], metrics["verdict"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    text = page_of(folder).text
    assert "No total loss relative to the single tasks was recorded." in text
    assert "Correlation of predicted and realised" not in text


def test_screen_dark_and_paper_each_have_their_style(make_folder: Make) -> None:
    text = write_report(make_folder()).read_text(encoding="utf-8")
    dark = text.index("@media screen and (prefers-color-scheme: dark)")
    assert text.index(f"--page: {LIGHT['page']}") < dark < text.index(f"--page: {DARK['page']}")
    assert "@media print" in text


def test_affinity_that_was_never_observed_is_an_empty_cell(make_folder: Make) -> None:
    folder = make_folder(names=("a", "b", "c"))
    rows = (folder / "affinity.csv").read_text().splitlines()
    rows[2] = "a,b,,,0,,"
    (folder / "affinity.csv").write_text("\n".join(rows) + "\n")
    figures = json.loads(page_of(folder).scripts["figures"])
    for trace in figures["affinity"]["data"]:
        assert trace["z"][0][1] is None
        assert trace["z"][1][0] is not None


def test_clusters_have_their_section(make_clustered: Make) -> None:
    page = page_of(make_clustered())
    place = page.headings.index("Clusters")
    assert page.headings[place - 1 : place + 5] == [
        "Who trains with whom",
        "Clusters",
        "How many clusters",
        "Controls of the clusters",
        "Ways to use the clusters",
        "Predicted and realised gains, predictions unverified",
    ]
    assert {"memberships", "tree", "sizes", "ways"} <= set(json.loads(page.scripts["figures"]))
    assert "#clusters" in [link["href"] for link in page.named("a")]


@pytest.mark.parametrize(
    "words",
    [
        "agree with an adjusted Rand index (ARI) of 0.88",
        "the best of them with an ARI of 0.77",
        "1.699, calibrated",
        "65% of the variance",
        "Left out as noise, for they cannot be told from chance: coin_flip.",
        "so they take no cluster, and the largest group serves them: not_closed_loop.",
        "is_0, is_3, is_6, is_9, upside_down is_1",
        "Groups by label correlation",
        "1.310 [1.290, 1.330]",
        "One wider network 1 3.01 0.890 [0.870, 0.910]",
        "Chosen by clustering the tasks: kinship in combined features of the data maps of 3 runs; clusters.",
        "The groups are not chosen from this map.",
        "were not chosen for these predictions",
        "The other controls are as many groups",
        "controls (diamonds) and random covers",
        "with the range of that number",
    ],
)
def test_says_what_the_clusters_are(make_clustered: Make, words: str) -> None:
    assert words in page_of(make_clustered()).text


def test_nothing_is_said_of_clusters_where_there_are_none(make_folder: Make) -> None:
    page = page_of(make_folder())
    for words in ("Clusters", "clusters", "The other controls", "diamonds", "with the range of that number"):
        assert words not in page.text
    assert "#clusters" not in [link["href"] for link in page.named("a")]


def test_clusters_are_not_said_to_have_a_value_or_a_bound(make_clustered: Make) -> None:
    text = page_of(make_clustered()).text
    assert "there is no value and no bound" in text
    assert "gap" not in text


def test_what_was_trained_to_learn_has_its_section(make_searched: Make) -> None:
    page = page_of(make_searched())
    place = page.headings.index("What was trained to learn")
    assert page.headings[place - 1 : place + 2] == [
        "Who trains with whom",
        "What was trained to learn",
        "Predicted and realised gains",
    ]
    assert "trainings" in json.loads(page.scripts["figures"])
    assert "#trainings" in [link["href"] for link in page.named("a")]


@pytest.mark.parametrize(
    "words",
    [
        "31 of 34 trainings allowed were made (14 of single tasks, 17 of groups of two or more), and it ended there",
        "Chosen among the 31 groups that were trained, by their validation losses: total loss saved over single tasks"
        " 0.0421, proven best (HiGHS).",
        "is_0 +0.100, is_1 −0.050 largest expected improvement –",
        "best choice by prediction network 3",
        "it only helped to predict what to train",
        "A group that was trained to learn has its gain on the validation data for a prediction.",
        "On the dotted line a gain came out as predicted.",
    ],
)
def test_says_what_was_trained_to_learn(make_searched: Make, words: str) -> None:
    assert words in page_of(make_searched()).text


def test_pictures_of_a_search_have_their_place_and_plotly_accepts_them(make_searched: Make) -> None:
    folder = make_searched(names=AWKWARD)
    page = page_of(folder)
    figures = json.loads(page.scripts["figures"])
    places = {tag["data-figure"] for _, tag in page.tags if "data-figure" in tag}
    assert places == set(figures)
    assert len(page.named("script")) == 4
    graph_objects = pytest.importorskip("plotly.graph_objects")
    painted = json.loads(re.sub(r'"@[a-z-]+"', '"#123456"', json.dumps(figures["trainings"])))
    graph_objects.Figure(data=painted["data"], layout=painted["layout"])


def test_many_trained_groups_are_said_to_be_cut(make_searched: Make) -> None:
    text = page_of(make_searched(names=[f"t{t}" for t in range(41)], n_samples=5)).text
    assert re.search(r"Shown are 30 of \d+ groups, the chosen ones first; all are in trainings\.json\.", text)
    assert "Shown are 30 of" not in page_of(make_searched()).text


def test_trainings_of_single_tasks_alone_have_no_table(make_searched: Make) -> None:
    nothing = {"rounds": [], "losses": [], "settled": False}
    page = page_of(make_searched(trainings=nothing))
    assert "No group was trained: it takes two tasks" in page.text
    assert "trainings" not in json.loads(page.scripts["figures"])
    assert "Why trained" not in page.text


@pytest.mark.parametrize("check", ["full", "none"])
@pytest.mark.parametrize("method", get_args(Method))
def test_predictions_are_unverified_where_no_group_was_trained(
    make_folder: Make, make_searched: Make, method: str, check: str
) -> None:
    trains = method in TRAINING_METHODS
    page = page_of((make_searched if trains else make_folder)(method=method, check=check))
    assert ("unverified" in page.text) != trains
    (heading,) = (heading for heading in page.headings if heading.startswith("Predicted"))
    assert heading.endswith("gains" if trains else ", predictions unverified")
    axis = json.loads(page.scripts["figures"])["gains"]["layout"]["xaxis"]["title"]["text"]
    assert axis.endswith("unverified") != trains
    assert ("Affinity is measured over one step" in page.text) != (method in ("search", "pairs", "linearized"))


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("search", "The groups below come from the validation losses of groups that were trained once."),
        ("linearized", "The groups below come from the linearised network of one measuring run. No network"),
        ("transference", "The groups below come from the affinity of one measuring run. No network"),
    ],
)
def test_without_any_verdict_it_is_said_where_the_groups_come_from(
    make_folder: Make, make_searched: Make, method: str, words: str
) -> None:
    folder = (make_searched if method == "search" else make_folder)(method=method)
    (folder / "metrics.json").unlink()
    assert words in page_of(folder).text


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("pairs", "The groups are not chosen from this map."),
        ("linearized", "The groups are not chosen from this map."),
        ("affinity-clusters", "The groups are clusters of the affinity and were not chosen for these predictions."),
    ],
)
def test_says_what_the_affinity_has_to_do_with_the_groups(make_folder: Make, method: str, words: str) -> None:
    assert words in page_of(make_folder(method=method)).text
    assert words not in page_of(make_folder(method="transference")).text


def test_random_covers_are_explained_only_if_there_are_any(make_folder: Make) -> None:
    folder = make_folder()
    assert "A random cover has the sizes" in page_of(folder).text
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["arms"] = {name: arm for name, arm in metrics["arms"].items() if not name.startswith("random-")}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert "A random cover has the sizes" not in page_of(folder).text


def test_clusters_without_a_check_have_no_losses(make_clustered: Make) -> None:
    page = page_of(make_clustered(check="none"))
    assert "Controls of the clusters" in page.headings
    assert "Ways to use the clusters" not in page.headings
    assert "Relative loss" not in page.text


def test_clusters_without_a_verdict_name_where_the_groups_come_from(make_clustered: Make) -> None:
    folder = make_clustered()
    (folder / "metrics.json").unlink()
    assert "The groups below come from the data maps of the measuring runs." in page_of(folder).text


def test_one_seed_leaves_no_intervals_in_the_tables_of_clusters(make_clustered: Make) -> None:
    text = page_of(make_clustered(seeds=(5,))).text
    assert "Relative loss Hard 3 3 0.940 Soft" in text
    assert "ARI Relative loss Chosen groups" in text


def test_many_tasks_in_clusters_are_said_to_be_cut(make_clustered: Make) -> None:
    names = [f"task {t}" for t in range(125)]
    text = page_of(make_clustered(names=names, n_samples=5)).text
    assert "Shown are the 120 tasks that are divided most; all are in clusters.json." in text
    assert "and 21 more" in text


def test_clusters_do_without_tree_sizes_and_images(make_clustered: Make) -> None:
    folder = make_clustered(clusters={"tree": {"tasks": [], "linkage": []}, "sizes": []})
    (folder / "thumbnails.safetensors").unlink()
    page = page_of(folder)
    assert not {"tree", "sizes"} & set(json.loads(page.scripts["figures"]))
    assert "How many clusters" not in page.headings
    assert not page.named("img")
    assert "with the range of that number" not in page.text


def test_strips_say_what_cannot_be_seen(make_clustered: Make) -> None:
    folder = make_clustered()
    places = load_file(folder / "thumbnails.safetensors")["hardest_places"]
    page = page_of(folder)
    first = page.named("img")[0]
    assert first["alt"] == first["title"]
    assert all(f"{confidence:.2f}, {variability:.2f}" in (first["alt"] or "") for confidence, variability in places[0])
    assert first["class"] == "tiny"


def test_sixty_tasks_with_colour_images_stay_light(make_clustered: Make) -> None:
    folder = make_clustered(names=[f"task {t}" for t in range(60)], n_samples=2_000)
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = load_file(folder / "thumbnails.safetensors")
    for name in ("hardest", "most_ambiguous"):
        tensors[name] = rng.integers(0, 256, (60, 8, 64, 64, 3), dtype=np.uint8)
    save_file(tensors, folder / "thumbnails.safetensors")
    assert write_report(folder).stat().st_size < 12 * MEGABYTE


def test_names_the_command_when_the_extra_is_missing(make_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=re.escape('pip install "cotrain[report]"')):
        write_report(make_folder())


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every scalar in nested JSON, with the key that it or the list around it stands under."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, key)
    else:
        yield key, value
