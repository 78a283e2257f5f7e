"""A progress bar for work that takes over two seconds, where a person is watching."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import TypeVar

T = TypeVar("T")

_PATIENCE_S = 2.0


def track(
    items: Iterable[T], *, total: int | None, label: str, size: Callable[[T], int] | None = None, done: int = 0
) -> Iterator[T]:
    """Pass the items on, showing a bar on standard error once two seconds have gone by; silent where it is a file.

    Args:
        items: to pass on.
        total: number of items, or of bytes where a size is given; None where it is not known.
        label: shown beside the bar.
        size: bytes of an item.
        done: of the total, before the first item.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = MofNCompleteColumn() if size is None else DownloadColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task(label, total=total, completed=done)
    start = time.monotonic()
    with ExitStack() as stack:
        shown = False
        for item in items:
            if not shown and time.monotonic() - start > _PATIENCE_S:
                stack.enter_context(progress)
                shown = True
            yield item
            progress.advance(task, 1 if size is None else size(item))
