"""The folders of results: a new one for every run, under the name of its experiment, and a link to the latest."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from exdd_ray.errors import ConfigError, UserError
from exdd_ray.store.mirror import is_remote

LATEST = "latest"
_RUNS = Path("runs")
_TIME = "%Y-%m-%d_%H-%M-%S"
_STAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
_NTH = "~"  # before the number of one of several folders: overrides as typed have none
_ODD = re.compile(r"[^\w.+-]+")
_LONGEST = 160  # characters of the overrides: file systems take 255 bytes of a name
_NOT_OF_THE_EXPERIMENT = ("name", "output", "store", "tracking")


def new_folder(name: str, overrides: Sequence[str], output: Path | None = None) -> Path:
    """Where a run that starts now is to write; nothing is made.

    It is `output`, or else named by the time and the overrides as they were typed, as
    `runs/<name>/2026-11-27_22-33-06_defects=5`.
    """
    if output is not None:
        return output.expanduser().absolute()
    parts = [datetime.now().strftime(_TIME), _typed(overrides)]
    folder = (_RUNS / name / "_".join(filter(None, parts))).absolute()
    return next(one for one in _candidates(folder) if not one.exists())  # runs of the store's results take no second


def earlier_folders(name: str, overrides: Sequence[str]) -> list[Path]:
    """The folders of earlier runs under a name with the same overrides, the latest first."""
    suffix = f"_{typed}" if (typed := _typed(overrides)) else ""
    alike = re.compile(rf"({_STAMP.pattern}){re.escape(suffix)}(?:{_NTH}(\d+))?")
    found = ((alike.fullmatch(one.name), one) for one in (_RUNS / name).absolute().glob("*"))
    started = [((match[1], int(match[2] or 1)), one) for match, one in found if match]
    return [one for _, one in sorted(started, reverse=True)]


def in_copied_folder() -> bool:
    """Whether this process is a Ray job's, whose working folder is a copy that goes with the job."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return bool((job.get("runtime_env") or {}).get("working_dir"))


def require_lasting(store: str, output: Path | None, *, mirrored: bool = False, submitted: bool = False) -> None:
    """Raise ConfigError where a job's store or results would lie in its copied folder, and so be lost.

    Args:
        mirrored: results are also kept in a store that is a URI.
        submitted: what is run will be a job; else it is one where this process is.
    """
    if not (submitted or in_copied_folder()):
        return
    places: dict[str, str | Path | None] = {"store": store}
    if not (mirrored and is_remote(store)):
        places["output"] = output
    for key, place in places.items():
        if place is None or not (is_remote(str(place)) or Path(place).expanduser().is_absolute()):
            raise ConfigError(
                f"a job works in a copy of this folder that is lost at its end: {key}={place or ''} must be the whole "
                f"path of a folder that every node reaches, as {key}=$PWD/{key}"
            )


def require_free(folder: Path) -> None:
    """Raise UserError where a folder cannot be made, or holds anything: no results are overwritten."""
    try:
        held = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error
    if held:
        raise UserError(f"{folder}: holds {held[0]!r}, and nothing is overwritten: choose another folder (output=...)")


def write_whole(folder: Path, write: Callable[[Path], None]) -> Path:
    """The folder that `write` has filled, all or none: this one, or `<folder>~2` and so on where one is there by now.

    Raises UserError where it cannot be written.
    """
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        unfinished.mkdir(parents=True)
        write(unfinished)
        return _first(folder, unfinished.rename)  # over nothing, or an empty folder
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def claim(folder: Path) -> Path:
    """Make a folder that was not there before: this one, or `<folder>~2` and so on.

    Raises UserError where it cannot be made.
    """
    try:
        return _first(folder, lambda free: free.mkdir(parents=True))
    except OSError as error:
        raise _unwritable(folder, error) from error


def mark_latest(folder: Path) -> None:
    """Let the link `latest` beside a run's folder point to it; a folder that is not named by its time has none.

    Nor has one on a file system without links: its path is printed.
    """
    if _STAMP.match(folder.name):
        new = folder.with_name(f".{LATEST}.{os.getpid()}")
        with suppress(OSError):
            new.symlink_to(folder.name)
            new.replace(folder.with_name(LATEST))


def _first(folder: Path, take: Callable[[Path], object]) -> Path:
    """The first of `folder`, `<folder>~2` and so on that can be taken."""
    for candidate in _candidates(folder):
        try:
            take(candidate)
        except OSError:
            if not candidate.exists():
                raise
        else:
            return candidate
    raise AssertionError("there is always another")


def _candidates(folder: Path) -> Iterator[Path]:
    yield folder
    for number in count(2):
        yield folder.with_name(f"{folder.name}{_NTH}{number}")


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder}: cannot write the results: {error.strerror or error}")


def _typed(overrides: Sequence[str]) -> str:
    """Overrides as a part of a file's name: those of the experiment, of a path its last part, no quotes or spaces."""
    words = []
    for key, _, value in (one.partition("=") for one in overrides):
        if key.partition(".")[0] not in _NOT_OF_THE_EXPERIMENT:
            last = value.rstrip("/").rpartition("/")[2]
            words.append(f"{'.'.join(key.split('.')[-2:])}={_ODD.sub('-', last).strip('-')}")
    return "_".join(words)[:_LONGEST]
