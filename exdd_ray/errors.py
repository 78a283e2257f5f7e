"""The errors that a user can mend: printed as one line, exit code 2, no traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb, format_exception


class UserError(Exception):
    """A mistake in what was asked for or given; the message is one line that names the file or key and the reason.

    Attributes:
        trace: the traceback of a programming error in another process that is told of as a UserError here; or empty.
    """

    trace: str = ""


class ImageError(UserError):
    """An image or mask that cannot be used; counted by the callers that tolerate a few of them."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class DataError(UserError):
    """A dataset, split or set of vectors that the stage cannot work on."""


class ConfigError(UserError):
    """A configuration key or value that is unknown or contradictory."""


class ArtifactError(UserError):
    """An artifact whose files are missing, truncated or not what its manifest says."""


@contextmanager
def told_of(what: str) -> Iterator[None]:
    """A UserError raised inside begins with `what`; of an empty one it stays as it is."""
    try:
        yield
    except UserError as error:
        if what:
            error.args = (f"{what}: {error}",)
        raise


@dataclass(frozen=True)
class Fault:
    """An error on its way from a trial or a worker: one line, and the traceback of one that is none of a user's."""

    line: str
    trace: str = ""

    def told(self, what: str) -> UserError:
        """The error to raise for it here; its line begins with `what`."""
        error = UserError(f"{what}: {self.line}")
        error.trace = self.trace
        return error


def fault_of(error: BaseException) -> Fault:
    """What is to be told of an error elsewhere; exceptions themselves lose their traceback and cause on the way."""
    if isinstance(error, UserError):
        return Fault(one_line(error), error.trace)
    return Fault(one_line(error), "".join(format_exception(error)))


def one_line(error: BaseException) -> str:
    """An error's first line; with its type and place, where it is none of a user's."""
    text = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, UserError):
        return text
    frames = extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"
