"""The errors that a user can mend: printed as one line, exit code 2, no traceback."""


class UserError(Exception):
    """A mistake in what was asked for or given; the message is one line that names the file or key and the reason."""


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


def one_line(error: BaseException) -> str:
    """An error's first line; with its type, where it is none of a user's."""
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
