"""Progress on the terminal: a bar for what takes longer than two seconds, plain lines where there is no terminal."""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from exdd_ray.progress import Advance

_PATIENCE = 2.0
_EVERY = 20.0
_AT_ONCE = 1.0  # seconds: what is said to be done within was in the store


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


class Pace:
    """Steps done, and how fast: the mean since the start, as chunks that end together say nothing of their own.

    What is done at once was there before, of a run that goes on: it is no part of the rate.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self._before = total, 0, 0
        self._started = time.monotonic()

    def advance(self, steps: int) -> None:
        """Count steps that are done now."""
        self.done += steps
        if self.seconds < _AT_ONCE:
            self._before = self.done

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def __str__(self) -> str:
        """The rate, and the time left by it; of the first step on, nothing before."""
        made = self.done - self._before
        if not made:
            return ""
        rate = made / self.seconds
        shown = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        return f"{shown}/s, {max(self.total - self.done, 0) / rate:.0f} s left"


class _PaceColumn(ProgressColumn):
    """Shows a pace."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:
        del task
        return Text(str(self._pace))


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
    pace = Pace(total)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, _PaceColumn(pace), console=console, transient=True)
    task = bar.add_task(label, total=total)
    timer = threading.Timer(_PATIENCE, bar.start)
    timer.daemon = True
    timer.start()

    def advance(steps: int) -> None:
        pace.advance(steps)
        bar.advance(task, steps)

    try:
        yield advance
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def _lines(label: str, total: int) -> Advance:
    pace, said = Pace(total), 0.0

    def advance(steps: int) -> None:
        nonlocal said
        pace.advance(steps)
        if pace.seconds - said > _EVERY:
            said = pace.seconds
            parts = (f"{label}: {pace.done}/{total}", f"{said:.0f} s", str(pace))
            print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)

    return advance
