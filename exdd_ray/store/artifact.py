"""Artifacts: published whole or not at all, checked when they are opened, made once."""

import errno
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from exdd_ray.errors import ArtifactError, UserError
from exdd_ray.store.folders import UNFINISHED, discard, publish, read_metadata, remove_abandoned, write_manifest
from exdd_ray.store.hashes import digest
from exdd_ray.store.mirror import Mirror, cache_folder, is_remote


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
        mirror: keeps every artifact too, and gives those that the folder lacks; None is the folder alone.
        made: keys of the artifacts that this object made, in order.
        reused: keys of the artifacts that it found, in order.
    """

    def __init__(self, root: Path, mirror: Mirror | None = None) -> None:
        self.root = root
        self.mirror = mirror
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

    def again(self) -> "Store":
        """The same store with nothing opened: what another process can be given."""
        return Store(self.root.resolve(), self.mirror)

    def folder(self, key: str) -> Path:
        """Where the artifact of a key lies, or would. Raises ArtifactError for what is no artifact's key."""
        if not _KEY.fullmatch(key):
            raise ArtifactError(f"{key!r} is not the key of an artifact (a stage and 40 hexadecimal digits)")
        return self.root / _place(key)

    def peek(self, key: str) -> Artifact | None:
        """The artifact, if its manifest and files are there at their sizes; unchecked, so not to be read."""
        try:
            folder = self.folder(key)
            return self._opened.get(key) or Artifact(key, folder, read_metadata(folder, contents=False))
        except ArtifactError:
            manifest = None if self.mirror is None else self.mirror.manifest(_place(key))
            return None if manifest is None else Artifact(key, self.folder(key), manifest["metadata"])

    def find(self, key: str) -> Artifact | None:
        """The artifact, if it is in the store whole; one that fails its checksums is moved out of the way.

        Raises UserError where it cannot be read for another reason.
        """
        self._recorded.add(key)
        if key in self._opened:
            return self._opened[key]
        folder = self.folder(key)
        if not folder.is_dir() and not self._fetched(key):
            return None
        try:
            artifact = Artifact(key, folder, read_metadata(folder))
        except ArtifactError:
            discard(folder)
            return None
        self.reused.append(key)
        self._opened[key] = artifact
        return artifact

    def _fetched(self, key: str) -> bool:
        """Whether the mirror had the artifact; it is in the folder then."""
        if self.mirror is None or self.mirror.manifest(_place(key)) is None:
            return False
        temporary = self._temporary(key)
        try:
            if found := self.mirror.fetch(_place(key), temporary):
                publish(temporary, self.folder(key))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return found

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
            write_manifest(temporary, {"key": recipe.key, **vars(recipe)}, metadata)
            publish(temporary, self.folder(recipe.key))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                raise UserError(f"{self.root}: cannot write to the store: {error.strerror}") from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        if self.mirror is not None:
            self.mirror.keep(self.folder(recipe.key), _place(recipe.key))
        self.made.append(recipe.key)
        artifact = Artifact(recipe.key, self.folder(recipe.key), metadata)
        self._opened[recipe.key] = artifact
        return artifact

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        file = self.root / UNFINISHED / f"{key}.making"
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
        place = self.root / UNFINISHED
        folder = place / f"{socket.gethostname()}~{os.getpid()}~{os.urandom(4).hex()}~{key}"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"{self.root}: cannot write to the store: {error.strerror}") from error
        remove_abandoned(place)
        return folder


def open_store(place: str) -> Store:
    """The store at a path, or at a URI of a file system that pyarrow knows, with a folder of this machine before it."""
    if is_remote(place):
        return Store(cache_folder(place), Mirror(place))
    return Store(Path(place).expanduser().absolute())


def _place(key: str) -> str:
    """Where in a store the artifact of a key lies."""
    stage, _, name = key.rpartition("-")
    return f"{stage}/{name[:2]}/{name}"
