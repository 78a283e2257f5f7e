"""Hashes of the files that artifacts are made from: computed again only where a file has changed."""

import os
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from exdd_ray.store.hashes import digest, file_digest

_READERS = 8
_UNREADABLE = "unreadable"
_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system: a file that is younger may change unseen
_Stamp = tuple[int, int, int, int]
_known: dict[str, tuple[_Stamp, str]] = {}  # path -> what its file looked like, and its hash


def content_digests(files: Sequence[str | Path]) -> list[str]:
    """Hashes of files' bytes; of one that cannot be read the reason, for who needs it will say so.

    A folder stands for the files in it, whatever their names: an image's masks may lie in one.
    """
    names = [str(file) for file in files]
    unknown = [name for name in dict.fromkeys(names) if not _is_known(name)]
    found: dict[str, str] = {}
    if unknown:
        with ThreadPoolExecutor(_READERS) as pool:
            found = dict(zip(unknown, pool.map(_hash, unknown), strict=True))
    return [found[name] if name in found else _known[name][1] for name in names]


def telling_apart(files: Sequence[str]) -> list[str]:
    """Hashes of files' bytes; of one that cannot be read its path, as it is no copy of another such file."""
    known = zip(files, content_digests(files), strict=True)
    return [file if content.startswith(_UNREADABLE) else content for file, content in known]


def content_digest(file: str | Path) -> str:
    """Hash of one file's bytes, or of those in a folder. Raises OSError where it cannot be read."""
    name = str(file)
    if _is_known(name):
        return _known[name][1]
    status = Path(name).stat()
    if stat.S_ISDIR(status.st_mode):
        files = [path for path in Path(name).iterdir() if path.is_file() and not path.name.startswith(".")]
        return digest(sorted(content_digest(path) for path in files))
    found = file_digest(Path(name))
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:
        _known[name] = (_stamp(status), found)
    return found


def _is_known(name: str) -> bool:
    if name not in _known:
        return False
    try:
        status = os.stat(name)  # noqa: PTH116 -- thousands of files at a time: a Path takes longer than its stat
    except OSError:
        return False
    return _known[name][0] == _stamp(status)


def _stamp(status: os.stat_result) -> _Stamp:
    """Size, place and times; the time of the last change of all is one that no copying tool sets back."""
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _hash(name: str) -> str:
    try:
        return content_digest(name)
    except OSError as error:
        return f"{_UNREADABLE}: {error.strerror}"
