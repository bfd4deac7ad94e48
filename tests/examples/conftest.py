"""Makes the modules of examples that are folders importable, as running the folder does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "multi_task_rl"))
