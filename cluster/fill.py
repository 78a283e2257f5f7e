"""Print a cluster file with its `${NAME}` and `${NAME:-default}` replaced from the environment.

`ray up` and `kubectl` do not expand variables. Shell variables without braces, as in `$RAY_HEAD_IP`, stay as they are.
"""

import os
import re
import sys
from pathlib import Path

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def fill(text: str) -> str:
    """The text with its variables replaced; raises KeyError, with all their names, where some are not set."""
    unset = {name for name, default in _VARIABLE.findall(text) if not (os.environ.get(name) or default)}
    if unset:
        raise KeyError(*sorted(unset))
    return _VARIABLE.sub(lambda match: os.environ.get(match[1]) or match[2], text)


if __name__ == "__main__":
    try:
        print(fill("".join(Path(name).read_text(encoding="utf-8") for name in sys.argv[1:])), end="")
    except KeyError as error:
        sys.exit(f"fill.py: not set in the environment: {', '.join(error.args)} (cluster/README.md says what they are)")
    except OSError as error:
        sys.exit(f"fill.py: {error.filename}: {error.strerror}")
