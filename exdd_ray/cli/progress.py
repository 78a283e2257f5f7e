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
    TimeRemainingColumn,
)
from rich.text import Text

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


class _Rate(ProgressColumn):
    """Items a second of late."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g}/s")


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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate())
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
    first: tuple[int, float] | None = None  # steps done and when: a run that goes on begins with those of the last one

    def advance(steps: int) -> None:
        nonlocal done, said, first
        done += steps
        now = time.monotonic()
        if first is None:
            first = done, now
        elif now - said > _EVERY and done > first[0]:
            said = now
            rate = (done - first[0]) / (now - first[1])
            pace = f"{now - started:.0f} s, {rate:.3g}/s, {(total - done) / rate:.0f} s left"
            print(f"{label}: {done}/{total}, {pace}", file=sys.stderr, flush=True)

    return advance
