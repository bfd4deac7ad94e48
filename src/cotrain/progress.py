"""Progress of long work: a callback that the work calls, and a bar that listens to it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Listener", "progress_bar", "share_of", "silent"]

Listener = Callable[[int, int, str], None]
"""Called as listener(done, total, note): units of work done, units in all, and a few words on the state."""


def silent(done: int, total: int, note: str) -> None:
    """Listen and show nothing: the default of the library's functions."""


def share_of(progress: Listener, before: int, here: int, of: int, unit: str) -> Listener:
    """The progress of `here` of several equal parts, `before` others being done, as progress of the whole.

    Args:
        progress: Of the whole.
        before: Parts that are done.
        here: Parts whose progress the listener is told.
        of: Parts in all.
        unit: What the parts are, in the plural, for the note.
    """
    which = f"{unit} {before + 1}-{before + here} of {of}" if here > 1 else f"{unit} {before + 1} of {of}"

    def listen(done: int, total: int, note: str) -> None:
        progress(before * total + here * done, of * total, f"{note}, {which}" if of > 1 else note)

    return listen


@contextmanager
def progress_bar(description: str, console: Console | None = None) -> Iterator[Listener]:
    """Show one bar on standard error while the body runs.

    Args:
        description: What is being done, in a few words.
        console: Where to draw; standard error by default, so that results on standard output can be piped.

    Yields:
        A listener for `fit(progress=...)` and everything else that takes one.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    console = console or Console(file=sys.stderr)
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(escape(description), total=None, note="")

        def listen(done: int, total: int, note: str) -> None:
            bars.update(bar, completed=done, total=total, note=escape(note))

        yield listen
