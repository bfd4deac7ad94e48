import json
import math

import pytest
import torch

from cotrain.affinity import Affinity
from cotrain.affinity.affinity_plot import robust_limit


def example(n=5, tasks=None, **changes):
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(n, n, generator=g, dtype=torch.float64).fill_diagonal_(1000.0)
    stderr = torch.rand(n, n, generator=g, dtype=torch.float64)
    if n > 3:
        matrix[1, 2], stderr[1, 3] = math.nan, math.nan
    tasks = tasks or tuple(f"task {i}" for i in range(n))
    parts = {"observations": torch.arange(n * n).reshape(n, n), "rule": "Adam <step>", **changes}
    return Affinity(matrix, stderr, tasks, "lookahead", 12, **parts)


def test_sources_are_rows_and_the_diagonal_is_left_out():
    affinity = example()
    trace = affinity.plot().data[0]
    z = torch.tensor(trace.z)
    pairs = ~torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close(z[pairs], affinity.matrix[pairs], rtol=0, atol=0, equal_nan=True)
    assert z.diag().isnan().all()
    assert affinity.matrix[0, 0] == 1000  # the affinity itself stays as it is
    assert trace.x == trace.y == affinity.tasks
    layout = affinity.plot().layout
    assert layout.yaxis.autorange == "reversed"  # the first task is the first row
    assert layout.xaxis.title.text.startswith("target")
    assert layout.yaxis.title.text.startswith("source")


def test_colours_are_centred_on_0_and_do_not_see_the_diagonal():
    affinity = example(12)
    trace = affinity.plot().data[0]
    assert trace.zmin == -trace.zmax
    assert 0 < trace.zmax < 10
    assert trace.colorscale[2][0] == 0.5
    sizes = affinity.matrix.clone().fill_diagonal_(torch.nan)
    within = sizes[sizes.isfinite()].abs() <= trace.zmax
    assert 0.95 <= within.double().mean() < 1
    assert trace.colorbar.ticktext[0].startswith("≤ -")
    assert trace.colorbar.tickvals[-1] == trace.zmax


def test_the_limit_where_there_is_little():
    assert robust_limit(torch.tensor([math.nan, math.inf])) == 1
    assert robust_limit(torch.zeros(4)) == 1
    assert robust_limit(torch.tensor([-3.0])) == 3
    assert robust_limit(torch.cat([torch.zeros(99), torch.tensor([-2.0])])) == 2  # more than 95 % are 0


def test_pointing_at_a_cell():
    affinity = example()
    trace = affinity.plot().data[0]
    assert trace.customdata[0][1] == f" ± {affinity.stderr[0, 1]:.2g}<br>1 observations"
    assert trace.customdata[1][3] == "<br>8 observations"  # without an error bar
    assert "%{y} → %{x}" in trace.hovertemplate
    assert trace.hoverongaps is False


@pytest.mark.parametrize(("n", "named"), [(60, True), (61, False)])
def test_names_stand_at_the_axes_up_to_60_tasks(n, named):
    layout = example(n).plot().layout
    assert layout.xaxis.showticklabels is layout.yaxis.showticklabels is named
    room = layout.margin
    assert layout.width - room.l - room.r == layout.height - room.t - room.b  # square cells


def test_names_are_text_and_short_at_the_axes():
    long = "<b>a & b</b> " + "x" * 50
    layout = example(2, (long, "short")).plot().layout
    assert layout.xaxis.ticktext[0].startswith("&lt;b&gt;a &amp; b&lt;/b&gt; x")
    assert layout.xaxis.ticktext[0].endswith("x…")
    assert len(layout.xaxis.ticktext[0]) < 50
    figure = example(2, (long, "short")).plot()
    assert figure.data[0].x[0] == "&lt;b&gt;a &amp; b&lt;/b&gt; " + "x" * 50
    assert "Adam &lt;step&gt;" in layout.title.text


def test_names_that_are_alike_at_the_axes_stay_apart():
    names = ("x" * 40 + "1", "x" * 40 + "2")
    assert len(set(example(2, names).plot().data[0].x)) == 2


def test_what_it_shows_is_written_above():
    figure = example().normalised().plot()
    assert "Affinity of 5 tasks, normalised" in figure.layout.title.text
    assert "12 batches" in figure.layout.title.text
    assert "standard deviations" in figure.data[0].colorbar.title.text
    assert "relative fall" in example().symmetrised().plot().data[0].colorbar.title.text


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_tasks(n):
    json.loads(example(n, tuple("ab"[:n])).plot().to_json())


def test_a_page_that_needs_no_network(tmp_path):
    path = tmp_path / "map.html"
    figure = example().plot(path)
    text = path.read_text(encoding="utf-8")
    assert "task 4" in text
    assert len(text) > 1_000_000  # the library is inside
    assert figure.data[0].type == "heatmap"
    with pytest.raises(ValueError, match=r"saved as an \.html file\. Got .*map\.png"):
        example().plot(tmp_path / "map.png")
    assert list(tmp_path.iterdir()) == [path]


def test_without_plotly_the_error_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="plotly")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ImportError, match=r'pip install "cotrain\[report\]"'):
        example().plot()
