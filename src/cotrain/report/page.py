"""Writes a study's folder as one page that needs nothing but a browser."""

import dataclasses
from pathlib import Path
from typing import Any

from cotrain.extras import require
from cotrain.files import write_text
from cotrain.report import wording
from cotrain.report.arm_plots import front_figure, relative_loss_figure
from cotrain.report.contents import Study, read_study
from cotrain.report.density_maps import MAX_PANELS, data_map_figures
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
from cotrain.report.tables import cost_rows, named_values, score_columns, score_rows, step_rows, task_rows
from cotrain.version import __version__

ASSETS = Path(__file__).parent
PAGE = "report.html"


def write_report(folder: Path) -> Path:
    """Writes `report.html` into a study's folder, from the files that are there.

    The page is one file: pictures, their library (plotly.js) and the style are inside it, and its content
    security policy forbids every load. The same folder gives the same bytes.

    Args:
        folder: A study's folder whose groups are chosen. Parts that the study has not reached (the check, the
            data maps) are said to be missing on the page.

    Returns:
        The path of the page. It is written whole, or an older page survives.

    Raises:
        StudyError: If the folder is no study, or one of its files is damaged; the message names the file.
        ImportError: If jinja2 or plotly is not installed; the message holds the command.
    """
    folder = Path(folder)
    jinja2 = require("jinja2", extra="report")
    plotly = require("plotly.offline", extra="report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(PAGE).render(
        **page_values(read_study(folder)),
        style=(ASSETS / "report.css").read_text(encoding="utf-8"),
        script=(ASSETS / "report.js").read_text(encoding="utf-8"),
        plotly=plotly.get_plotlyjs(),
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def page_values(study: Study) -> dict[str, Any]:
    """Everything the template shows; its pictures are keyed by the id of their place in the page."""
    panels = data_map_figures(study)
    figures = {
        "relative-loss": relative_loss_figure(study.check) if study.check else None,
        "front": front_figure(study.front),
        "gains": gain_figure(study),
        "affinity": affinity_figure(study),
        "label-correlation": control_figure(study, "label_correlation"),
        "gradient-cosine": control_figure(study, "gradient_cosine"),
        **{f"map-{t}": panel for t, panel in panels},
    }
    everyone = range(len(study.tasks))
    return {
        "study": study,
        "check": study.check,
        "figures": {k: dataclasses.asdict(figure) for k, figure in figures.items() if figure is not None},
        "palettes": {"light": dict(LIGHT), "dark": dict(DARK)},
        "light": css_variables(LIGHT),
        "dark": css_variables(DARK),
        "score_columns": score_columns(study.check) if study.check else [],
        "score_rows": score_rows(study, study.check) if study.check else [],
        "group_columns": group_columns(study),
        "group_rows": group_rows(study),
        "panels": [(f"map-{t}", study.tasks[t]) for t, _ in panels],
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
        "version": __version__,
    }
