"""Which code made a number: part of the key of what is made again in seconds."""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from exdd_ray.errors import ConfigError


@cache
def code_digest(*names: str) -> str:
    """Hash of the source files of modules, and of all modules of packages, as they lie on the disk.

    A comment counts as code does: what is made again for nothing costs seconds, what is not made again is wrong.

    Args:
        names: as `exdd_ray.metrics`.

    Raises ConfigError for a name that is no module with a source.
    """
    found = hashlib.blake2b(digest_size=20)
    for name in names:
        for path in _files(name):
            found.update(f"{name} {path.name}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def _files(name: str) -> list[Path]:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ConfigError(f"{name} is no module with a source file")
    origin = Path(spec.origin)
    return sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
