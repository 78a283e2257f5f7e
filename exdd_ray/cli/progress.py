"""Progress on the terminal: a bar for what takes longer than two seconds, plain lines where there is no terminal."""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from exdd_ray.progress import Advance

_PATIENCE = 2.0
_EVERY = 20.0


class _Stderr(logging.Handler):
    """Prints to what is stderr at the time, so that a bar stays below."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


_stderr = _Stderr()


def show_log(name: str) -> None:
    """Print what a logger says, from INFO on, to stderr."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    logger.addHandler(_stderr)


@contextmanager
def terminal_progress(label: str, total: int) -> Iterator[Advance]:
    """Opens a bar on stderr once two seconds have passed."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _bar(console, label, total) as advance:
            yield advance
    else:
        yield _lines(label, total)


@contextmanager
def _bar(console: Console, label: str, total: int) -> Iterator[Advance]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True)
    task = bar.add_task(label, total=total)
    timer = threading.Timer(_PATIENCE, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda steps: bar.advance(task, steps)
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def _lines(label: str, total: int) -> Advance:
    started = said = time.monotonic()
    done = 0

    def advance(steps: int) -> None:
        nonlocal done, said
        done += steps
        now = time.monotonic()
        if now - said > _EVERY:
            said = now
            left = (now - started) / done * (total - done)
            print(f"{label}: {done}/{total}, {now - started:.0f} s, {left:.0f} s left", file=sys.stderr, flush=True)

    return advance
