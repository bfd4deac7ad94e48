import subprocess
import sys

PROGRAM = """
import sys
from importlib import import_module
for name in ("cotrain.affinity", "cotrain.aggregation", "cotrain.grouping", "cotrain.pareto", "cotrain.cli"):
    import_module(name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_what_takes_seconds_to_load_is_only_loaded_when_it_is_used():
    loaded = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "scipy"} <= set(loaded)
    assert not {
        "torchmetrics",
        "lightning_fabric",
        "sklearn",
        "pandas",
        "skrub",
        "plotly",
        "torchjd",
        "transformers",
    } & {*loaded}
