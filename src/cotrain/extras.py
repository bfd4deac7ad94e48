"""Optional dependencies, imported where they are used."""

import importlib
from typing import Any

__all__ = ["require"]


def require(module: str, *, extra: str) -> Any:
    """Import an optional dependency, or say how to install it.

    Args:
        module: Dotted name of the module, for example "pandas".
        extra: The extra of cotrain that installs it, for example "table".

    Returns:
        The module.

    Raises:
        ImportError: If it is not installed, with the pip command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing != module.partition(".")[0]:
            raise
        raise ImportError(
            f'This needs {missing}, which is not installed. Install it with: pip install "cotrain[{extra}]"'
        ) from error
