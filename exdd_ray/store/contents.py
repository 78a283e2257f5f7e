"""Hashes of the files that artifacts are made from: computed again only where a file's size or time has changed."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from exdd_ray.store.hashes import file_digest

_READERS = 8
_known: dict[str, tuple[int, int, str]] = {}  # path -> size, time and hash


def content_digests(files: Sequence[str | Path]) -> list[str]:
    """Hashes of files' bytes; of one that cannot be read the reason, for who needs it will say so."""
    names = [str(file) for file in files]
    unknown = [name for name in dict.fromkeys(names) if not _is_known(name)]
    if unknown:
        with ThreadPoolExecutor(_READERS) as pool:
            found = dict(zip(unknown, pool.map(_hash, unknown), strict=True))
    return [found[name] if unknown and name in found else _known[name][2] for name in names]


def content_digest(file: str | Path) -> str:
    """Hash of one file's bytes. Raises OSError where it cannot be read."""
    name = str(file)
    if not _is_known(name):
        status = Path(name).stat()
        _known[name] = (status.st_size, status.st_mtime_ns, file_digest(Path(name)))
    return _known[name][2]


def _is_known(name: str) -> bool:
    if name not in _known:
        return False
    try:
        status = os.stat(name)  # noqa: PTH116 -- thousands of files at a time: a Path takes longer than its stat
    except OSError:
        return False
    return _known[name][:2] == (status.st_size, status.st_mtime_ns)


def _hash(name: str) -> str:
    try:
        return content_digest(name)
    except OSError as error:
        return f"unreadable: {error.strerror}"
