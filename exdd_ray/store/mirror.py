"""A store's artifacts on a file system that is not mounted, such as an object store: kept there, fetched from there."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exdd_ray.errors import UserError
from exdd_ray.store.folders import MANIFEST

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


@dataclass(frozen=True)
class Mirror:
    """A folder of a pyarrow file system; an artifact is there once its manifest is, which is written last.

    Attributes:
        uri: as `s3://bucket/store`, with the file system's options as pyarrow reads them.
    """

    uri: str

    def manifest(self, place: str) -> dict[str, Any] | None:
        """The manifest of the artifact at a place, if it is there.

        Raises UserError where the file system does not answer.
        """
        system, root = self._open()
        try:
            with system.open_input_stream(f"{root}/{place}/{MANIFEST}") as file:
                found: dict[str, Any] = json.loads(file.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._error(error) from error
        return found

    def fetch(self, place: str, folder: Path) -> bool:
        """Copies the artifact at a place into a folder, its manifest last: whether it is there."""
        if (manifest := self.manifest(place)) is None:
            return False
        self._copy([*manifest["files"], MANIFEST], place, folder, upwards=False)
        return True

    def keep(self, folder: Path, place: str, names: Sequence[str] | None = None) -> None:
        """Copies a folder, or its files of these names, to a place, the manifest last.

        Raises UserError where that cannot be done.
        """
        if names is None:
            names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        ordered = sorted(names, key=lambda name: name == MANIFEST)
        self._copy(ordered, place, folder, upwards=True)

    def _copy(self, names: list[str], place: str, folder: Path, *, upwards: bool) -> None:
        from pyarrow.fs import LocalFileSystem, copy_files

        system, root = self._open()
        try:
            for name in names:
                far, near = f"{root}/{place}/{name}", folder / name
                if upwards:
                    system.create_dir(far.rpartition("/")[0], recursive=True)
                    copy_files(str(near), far, source_filesystem=LocalFileSystem(), destination_filesystem=system)
                else:
                    near.parent.mkdir(parents=True, exist_ok=True)
                    copy_files(far, str(near), source_filesystem=system, destination_filesystem=LocalFileSystem())
        except OSError as error:
            raise self._error(error) from error

    def _open(self) -> "tuple[FileSystem, str]":
        from pyarrow.fs import FileSystem

        try:
            system, root = FileSystem.from_uri(self.uri)
        except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's, by what is wrong with the URI
            raise self._error(error) from error
        return system, root.rstrip("/")

    def _error(self, error: Exception) -> UserError:
        return UserError(f"{self.uri.partition('?')[0]}: {' '.join(str(error).split())}")


def is_remote(place: str) -> bool:
    """Whether a store's place is a URI, and not a path."""
    return "://" in place


def cache_folder(uri: str) -> Path:
    """Where this machine keeps what it made for, or fetched from, a remote store: EXDD_CACHE, or the user's cache."""
    home = Path(os.environ.get("EXDD_CACHE") or Path.home() / ".cache" / "exdd_ray")
    return home / hashlib.blake2b(uri.encode(), digest_size=8).hexdigest()
