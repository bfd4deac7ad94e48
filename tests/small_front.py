"""A front that takes a second, and how to make it."""

from contextlib import nullcontext
from pathlib import Path

from cotrain.progress import silent
from cotrain.study.front_config import FrontConfig
from cotrain.study.front_run import MANIFOLD, POINTS, RESULTS, run_front

PAIR = ("positive", "amount")
FRONT_FILES = (RESULTS, POINTS, MANIFOLD)


def small_front(data: Path | str, **changes) -> FrontConfig:
    """Two epochs over the table of `small_study.write_table`."""
    options = {
        "targets": PAIR,
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "width": 8,
        "preferences": 3,
        **changes,
    }
    return FrontConfig(str(data), **options)


def make_front(config: FrontConfig, out: Path, *, listen=silent, resume: bool = False) -> Path:
    """`run_front` without a bar; the folder."""
    run_front(config, out, bar=lambda words: nullcontext(listen), resume=resume)
    return out


def contents_of(folder: Path) -> dict[str, bytes]:
    """What must not depend on interruptions."""
    return {name: (folder / name).read_bytes() for name in FRONT_FILES}
