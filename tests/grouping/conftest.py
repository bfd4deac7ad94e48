import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def group_tables() -> Path:
    folder = Path(os.environ.get("COTRAIN_DATA", Path(__file__).parents[3] / "shared" / "data")) / "group-tables"
    if not folder.is_dir():
        pytest.skip(f"published group tables are not at {folder}; set COTRAIN_DATA to the folder that holds them")
    return folder
