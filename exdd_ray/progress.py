"""How long work reports how far it is: the core calls, the app shows."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Opens a bar of `total` steps; the value of the context is called with the number of steps done since."""

    def __call__(self, label: str, total: int) -> AbstractContextManager[Advance]:
        """Open it; the label says what is done."""


@contextmanager
def silent(label: str, total: int) -> Iterator[Advance]:
    """A progress that shows nothing."""
    del label, total
    yield _ignore


def _ignore(steps: int) -> None:
    del steps
