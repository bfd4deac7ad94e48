from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.report.contents import DataMaps, read_study
from cotrain.report.density_maps import BINS, MAX_PANELS, data_map_figures, density

Make = Callable[..., Path]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(0, 200), st.floats(0, 1))
def test_every_labelled_sample_is_counted_once_in_any_order(seed: int, n_samples: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0, 1, n_samples).astype(np.float32)
    variability = rng.uniform(0, 0.5, n_samples).astype(np.float32)
    confidence[rng.uniform(size=n_samples) < missing] = np.nan
    counts = density(confidence, variability, 0.5)
    assert counts.sum() == np.isfinite(confidence).sum()
    order = rng.permutation(n_samples)
    np.testing.assert_array_equal(density(confidence[order], variability[order], 0.5), counts)


def test_rows_are_confidence_and_columns_variability() -> None:
    counts = density(np.array([1.0], dtype=np.float32), np.array([0.0], dtype=np.float32), 0.5)
    assert counts[BINS - 1, 0] == 1


def test_a_task_without_labels_has_an_empty_panel(make_folder: Make) -> None:
    study = read_study(make_folder(names=("a", "b", "c")))
    assert study.maps is not None
    study.maps.confidence[:, 1] = np.nan
    panels = dict(data_map_figures(study))
    assert all(cell is None for row in panels[1].data[0]["z"] for cell in row)
    assert any(cell is not None for row in panels[0].data[0]["z"] for cell in row)


def test_axes_hold_every_sample_of_every_task(make_folder: Make) -> None:
    study = read_study(make_folder(names=("a", "b", "c")))
    assert study.maps is not None
    study.maps.variability[0, 0] = 0.7
    ranges = {tuple(figure.layout["xaxis"]["range"]) for _, figure in data_map_figures(study)}
    assert ranges == {(0.0, float(np.float32(0.7)))}


def test_panels_are_limited(make_folder: Make) -> None:
    study = read_study(make_folder(names=("a", "b")))
    maps = np.full((3, MAX_PANELS + 4), 0.5, dtype=np.float32)
    tasks = tuple(replace(study.tasks[0], name=f"t{t}") for t in range(MAX_PANELS + 4))
    study = replace(study, tasks=tasks, groups=(), maps=DataMaps(maps, maps, maps))
    assert len(data_map_figures(study)) == MAX_PANELS
    assert data_map_figures(replace(study, maps=None)) == []
