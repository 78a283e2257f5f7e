"""Running a command: users' mistakes end in one line and exit code 2."""

import sys
from collections.abc import Callable

from exdd_ray.cli.parser import leave_unread
from exdd_ray.errors import UserError

USER_MISTAKE = 2
INTERRUPTED = 130


def run_command(command: Callable[[], int], *, debug: bool = False) -> int:
    """A command's exit code, or that of its error, which is told in one line."""
    try:
        return int(command())
    except UserError as error:
        if debug:
            print(error.trace, file=sys.stderr)
            raise
        print(f"exdd: {error}{' (--debug shows the traceback)' * bool(error.trace)}", file=sys.stderr)
        return USER_MISTAKE
    except KeyboardInterrupt:
        print("exdd: interrupted; what was finished is in the store", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        leave_unread()
        return 0
