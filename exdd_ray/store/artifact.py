"""Artifacts: published whole or not at all, checked when they are opened, made once."""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from exdd_ray.errors import ArtifactError, UserError

MANIFEST = "manifest.json"
_CHUNK = 1 << 20
_CRC = "crc32:"


@dataclass(frozen=True)
class Recipe:
    """What makes an artifact, and so names it.

    Attributes:
        stage: the kind of artifact, as `embed`.
        version: of the stage's algorithm; raised whenever its result changes.
        config: JSON values that the result depends on.
        inputs: keys of the artifacts and content hashes of the files that are read.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Stage name and a 160-bit hash: the same on every machine."""
        made_of = {"version": self.version, "config": self.config, "inputs": self.inputs}
        return f"{self.stage}-{digest(made_of)}"


def digest(value: Any) -> str:
    """Hash of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def file_digest(path: Path) -> str:
    """Hash of a file's bytes. Raises OSError where it cannot be read."""
    hasher = hashlib.blake2b(digest_size=20)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


@dataclass(frozen=True)
class Artifact:
    """A published artifact: its key, its folder, and the metadata its maker left in the manifest."""

    key: str
    folder: Path
    metadata: Mapping[str, Any]

    def file(self, name: str) -> Path:
        """Path of one of its files."""
        return self.folder / name


_KEY = re.compile(r"[a-z][a-z0-9_-]*-[0-9a-f]{40}")


class Store:
    """A folder of artifacts.

    Attributes:
        root: the folder.
        made: keys of the artifacts that this object made, in order.
        reused: keys of the artifacts that it found, in order.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: list[str] = []
        self.reused: list[str] = []
        self._opened: dict[str, Artifact] = {}
        self._recorded: set[str] = set()

    @contextmanager
    def recording(self) -> Iterator[set[str]]:
        """Collects the keys of the artifacts that are made or opened meanwhile, by any thread."""
        before, self._recorded = self._recorded, set()
        try:
            yield self._recorded
        finally:
            before |= self._recorded
            self._recorded = before

    def folder(self, key: str) -> Path:
        """Where the artifact of a key lies, or would. Raises ArtifactError for what is no artifact's key."""
        if not _KEY.fullmatch(key):
            raise ArtifactError(f"{key!r} is not the key of an artifact (a stage and 40 hexadecimal digits)")
        stage, _, name = key.rpartition("-")
        return self.root / stage / name[:2] / name

    def peek(self, key: str) -> Artifact | None:
        """The artifact, if its manifest and files are there at their sizes; unchecked, so not to be read."""
        try:
            return self._opened.get(key) or _open(key, self.folder(key), contents=False)
        except ArtifactError:
            return None

    def find(self, key: str) -> Artifact | None:
        """The artifact, if it is in the store whole; one that fails its checksums is moved out of the way.

        Raises UserError where it cannot be read for another reason.
        """
        self._recorded.add(key)
        if key in self._opened:
            return self._opened[key]
        folder = self.folder(key)
        if not folder.is_dir():
            return None
        try:
            artifact = _open(key, folder)
        except ArtifactError:
            _discard(folder, key)
            return None
        self.reused.append(key)
        self._opened[key] = artifact
        return artifact

    def make(self, recipe: Recipe, build: Callable[[Path], Mapping[str, Any] | None]) -> Artifact:
        """The artifact of a recipe: found, or built by `build(folder)`, which may return metadata.

        Of all threads and processes that share the folder one builds it, and the others wait; where that one dies, the
        next one does. Nothing is published when `build` raises.

        Raises UserError where the disk is full or not writable.
        """
        if (found := self.find(recipe.key)) is not None:
            return found
        with self._alone(recipe.key):
            return self.find(recipe.key) or self._made(recipe, build)

    def _made(self, recipe: Recipe, build: Callable[[Path], Mapping[str, Any] | None]) -> Artifact:
        temporary = self._temporary(recipe.key)
        try:
            metadata = dict(build(temporary) or {})
            _write_manifest(temporary, recipe, metadata)
            _publish(temporary, self.folder(recipe.key))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                raise UserError(f"{self.root}: cannot write to the store: {error.strerror}") from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.made.append(recipe.key)
        artifact = Artifact(recipe.key, self.folder(recipe.key), metadata)
        self._opened[recipe.key] = artifact
        return artifact

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        file = self.root / "unfinished" / f"{key}.making"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(file)
            lock.acquire()
        except OSError as error:
            raise UserError(f"{self.root}: cannot write to the store: {error.strerror}") from error
        try:
            yield
        finally:
            file.unlink(missing_ok=True)  # who waits has it open; it finds the artifact, or builds as well as another
            lock.release()

    def _temporary(self, key: str) -> Path:
        place = self.root / "unfinished"
        folder = place / f"{socket.gethostname()}~{os.getpid()}~{os.urandom(4).hex()}~{key}"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"{self.root}: cannot write to the store: {error.strerror}") from error
        _sweep(place)
        return folder


def _open(key: str, folder: Path, *, contents: bool = True) -> Artifact:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, (size, checksum) in manifest["files"].items():
            file = folder / name
            if file.stat().st_size != size or (contents and not _is_whole(file, checksum)):
                raise ArtifactError(f"{file}: damaged (its checksum differs from the manifest's)")
        return Artifact(key, folder, manifest["metadata"])
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise UserError(f"{folder}: cannot read the artifact: {error.strerror or error}") from error
        raise ArtifactError(f"{folder}: damaged artifact ({error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder}: damaged artifact ({error})") from error


def _write_manifest(folder: Path, recipe: Recipe, metadata: Mapping[str, Any]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "key": recipe.key,
        "stage": recipe.stage,
        "version": recipe.version,
        "config": recipe.config,
        "inputs": recipe.inputs,
        "metadata": metadata,
        "files": {path.relative_to(folder).as_posix(): [path.stat().st_size, _checksum(path)] for path in files},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _checksum(path: Path) -> str:
    """CRC-32 of a file's bytes: damage is what it looks for, and a hash that withstands intent takes five times."""
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return f"{_CRC}{checksum:08x}"


def _is_whole(path: Path, checksum: str) -> bool:
    return checksum == (_checksum(path) if checksum.startswith(_CRC) else file_digest(path))  # as once written


def _publish(temporary: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process made the same artifact meanwhile, and it is as good
            raise


def _discard(folder: Path, key: str) -> None:
    """Move a damaged artifact away; another process may do so too, and have made it again since."""
    grave = folder.with_name(f"{folder.name}.damaged-{os.urandom(4).hex()}")
    with suppress(FileNotFoundError):
        folder.rename(grave)
        try:
            _open(key, grave)
            grave.rename(folder)  # made again meanwhile
        except (ArtifactError, OSError):
            shutil.rmtree(grave, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove what processes of this machine left that no longer run."""
    for folder in place.iterdir():
        host, _, rest = folder.name.partition("~")
        pid = rest.partition("~")[0]
        if host == socket.gethostname() and pid.isdigit() and not _runs(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
