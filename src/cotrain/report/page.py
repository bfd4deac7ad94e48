"""Writes a study's folder as one page that needs nothing but a browser."""

import dataclasses
from pathlib import Path
from typing import Any

from cotrain.errors import StudyError
from cotrain.extras import require
from cotrain.files import write_text
from cotrain.report import wording
from cotrain.report.aggregations import aggregation_columns, aggregation_figure, aggregation_rows, choice_figures
from cotrain.report.arm_plots import front_figure, relative_loss_figure
from cotrain.report.cluster_plots import MAX_TASKS as MAX_MEMBERS
from cotrain.report.cluster_plots import membership_figure, size_figure, tree_figure
from cotrain.report.cluster_words import absent_sentences, cluster_sentences, control_rows, cut_agreement
from cotrain.report.clusters import Clusters
from cotrain.report.contents import Study, read_study
from cotrain.report.density_maps import MAX_PANELS, data_map_figures
from cotrain.report.figure import Figure
from cotrain.report.gain_plot import gain_figure, has_realised
from cotrain.report.group_chart import group_columns, group_rows
from cotrain.report.heat_maps import (
    MAX_TASKS,
    SIDE_BY_SIDE,
    affinity_figure,
    agreement,
    control_figure,
    distinct_share,
    off_diagonal,
    robust_limit,
)
from cotrain.report.palette import DARK, LIGHT, css_variables
from cotrain.report.pareto import read_pareto
from cotrain.report.pareto_plots import front_picture
from cotrain.report.pareto_values import front_values
from cotrain.report.results import ALL_IN_ONE, GROUPED, RANDOM, SINGLE
from cotrain.report.selection import selection_sentences
from cotrain.report.tables import (
    cost_rows,
    named_values,
    score_columns,
    score_rows,
    score_rows_of,
    step_rows,
    task_rows,
)
from cotrain.report.thumbnails import strips
from cotrain.report.training_plot import training_figure
from cotrain.report.trainings import MAX_ROWS, training_rows, training_sentence
from cotrain.report.ways import way_figure, way_rows, ways_of
from cotrain.version import __version__

ASSETS = Path(__file__).parent
PAGE, FRONT_PAGE = "report.html", "front.html"
TEMPLATES = {PAGE: "report.html", FRONT_PAGE: "pareto_page.html"}


def write_report(folder: Path) -> Path:
    """Writes `report.html` into a study's folder, from the files that are there.

    The page is one file: pictures, their library (plotly.js) and the style are inside it, and its content
    security policy forbids every load. The same folder gives the same bytes.

    Args:
        folder: A study's folder whose groups are chosen. Parts that the study has not reached (the check, the
            data maps) are said to be missing on the page; clusters have a section only if there are any.

    Returns:
        The path of the page. It is written whole, or an older page survives.

    Raises:
        StudyError: If the folder is no study, or one of its files is damaged; the message names the file.
        ImportError: If jinja2 or plotly is not installed; the message holds the command.
    """
    folder = Path(folder)
    return _write(folder, PAGE, page_values(read_study(folder)))


def write_front_report(folder: Path) -> Path:
    """Writes `front.html` into the folder of a front that is no study's; as `write_report` in all else.

    Raises:
        StudyError: If there is no front, or one of its files is damaged; the message names the file.
        ImportError: If jinja2 or plotly is not installed; the message holds the command.
    """
    folder = Path(folder)
    front = read_pareto(folder)
    if front is None:
        raise StudyError(f"{folder} holds no finished front. Finish it: cotrain front {folder}")
    picture = front_picture(front)
    values = {"pareto": front_values(front, picture), "figures": {"pareto": dataclasses.asdict(picture.figure)}}
    return _write(folder, FRONT_PAGE, {**values, **_look()})


def _write(folder: Path, page: str, values: dict[str, Any]) -> Path:
    jinja2 = require("jinja2", extra="report")
    plotly = require("plotly.offline", extra="report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(TEMPLATES[page]).render(
        **values, style=_joined(".css"), script=_joined(".js"), plotly=plotly.get_plotlyjs()
    )
    write_text(folder / page, text)
    return folder / page


def _joined(suffix: str) -> str:
    """Style or script of everything that a page may show."""
    return "\n".join((ASSETS / f"{name}{suffix}").read_text(encoding="utf-8") for name in ("report", "pareto"))


def _look() -> dict[str, Any]:
    """What every page has: colours, and who wrote it."""
    return {
        "palettes": {"light": dict(LIGHT), "dark": dict(DARK)},
        "light": css_variables(LIGHT),
        "dark": css_variables(DARK),
        "version": __version__,
    }


def page_values(study: Study) -> dict[str, Any]:
    """Everything the template shows; its pictures are keyed by the id of their place in the page."""
    panels = data_map_figures(study)
    chosen = choice_figures(study.aggregations)
    picture = front_picture(study.pareto) if study.pareto else None
    figures = {
        "pareto": picture.figure if picture else None,
        "relative-loss": relative_loss_figure(study.check) if study.check else None,
        "front": front_figure(study.front),
        "aggregations": aggregation_figure(study.aggregations),
        **{name: figure for name, _, figure in chosen},
        "trainings": training_figure(study.trainings) if study.trainings else None,
        "gains": gain_figure(study),
        "affinity": affinity_figure(study),
        "label-correlation": control_figure(study, "label_correlation"),
        "gradient-cosine": control_figure(study, "gradient_cosine"),
        **{f"map-{t}": panel for t, panel in panels},
        **(_cluster_figures(study, study.clusters) if study.clusters else {}),
    }
    everyone = range(len(study.tasks))
    arms = {arm.name for arm in study.check.arms} if study.check else set()
    return {
        "study": study,
        "check": study.check,
        "figures": {k: dataclasses.asdict(figure) for k, figure in figures.items() if figure is not None},
        "pareto": front_values(study.pareto, picture) if study.pareto and picture else None,
        "score_columns": score_columns(study.check) if study.check else [],
        "score_rows": score_rows(study, study.check) if study.check else [],
        "choices": [(name, heading) for name, heading, _ in chosen],
        "aggregation_rows": aggregation_rows(study.aggregations),
        "aggregation_scores": [
            (title, columns, score_rows_of(study, study.check.scoring, compared))
            for title, columns, compared in aggregation_columns(study.check, study.aggregations)
        ]
        if study.check
        else [],
        "has_covers": any(name.startswith(RANDOM) for name in arms),
        "has_controls": any(not name.startswith(RANDOM) for name in arms - {SINGLE, ALL_IN_ONE, GROUPED}),
        "group_columns": group_columns(study),
        "group_rows": group_rows(study),
        "selection": selection_sentences(study.selection, study.trainings),
        "training_sentence": training_sentence(study.trainings) if study.trainings else "",
        "training_rows": (
            training_rows(study.trainings, [group.trains for group in study.groups]) if study.trainings else []
        ),
        "max_trained": MAX_ROWS,
        "clusters": _cluster_values(study, study.clusters) if study.clusters else None,
        "panels": [(f"map-{t}", study.tasks[t], strips(study.thumbnails, t)) for t, _ in panels],
        "max_panels": MAX_PANELS,
        "max_heat_map": MAX_TASKS,
        "control_columns": 2 if len(study.tasks) <= SIDE_BY_SIDE else 1,
        "affinity_limit": robust_limit(off_diagonal(study.pairs["affinity"], everyone)),
        "distinct_share": distinct_share(study),
        "agreement": {name: agreement(study, name) for name in ("label_correlation", "gradient_cosine")},
        "has_realised": has_realised(study),
        "cost_rows": cost_rows(study.check) if study.check else [],
        "step_rows": step_rows(study),
        "task_rows": task_rows(study),
        "configuration": named_values(study.configuration),
        "versions": named_values(study.measure.get("versions") or {}),
        "machine": named_values(study.measure.get("machine") or {}),
        "words": wording,
        **_look(),
    }


def _cluster_figures(study: Study, clusters: Clusters) -> dict[str, Figure | None]:
    return {
        "memberships": membership_figure(study, clusters),
        "tree": tree_figure(clusters, study.names),
        "sizes": size_figure(clusters),
        "ways": way_figure(ways_of(study.check)),
    }


def _cluster_values(study: Study, clusters: Clusters) -> dict[str, Any]:
    """What the section on clusters says beside its pictures."""
    return {
        "features": clusters.features,
        "runs": clusters.runs,
        "n_clusters": clusters.n_clusters,
        "n_members": int((clusters.labels >= 0).sum()),
        "max_members": MAX_MEMBERS,
        "sentences": cluster_sentences(study, clusters),
        "absent": absent_sentences(study, clusters),
        "cut_agreement": cut_agreement(clusters, study.names),
        "controls": control_rows(study, clusters),
        "ways": way_rows(ways_of(study.check)),
    }
