"""How an artifact lies on a disk: a folder with a manifest, written beside and renamed, checked when it is opened."""

import errno
import json
import os
import shutil
import socket
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from exdd_ray.errors import ArtifactError, UserError
from exdd_ray.store.hashes import file_digest

MANIFEST = "manifest.json"
UNFINISHED = "unfinished"
_CHUNK = 1 << 20
_CRC = "crc32:"


def read_metadata(folder: Path, *, contents: bool = True) -> Mapping[str, Any]:
    """The metadata in the manifest of an artifact's folder, whose files are there at their sizes.

    Args:
        contents: check the files' checksums too.

    Raises:
        ArtifactError: it is not there whole.
        UserError: it cannot be read for another reason.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, (size, checksum) in manifest["files"].items():
            file = folder / name
            if file.stat().st_size != size or (contents and not _is_whole(file, checksum)):
                raise ArtifactError(f"{file}: damaged (its checksum differs from the manifest's)")
        metadata: Mapping[str, Any] = manifest["metadata"]
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise UserError(f"{folder}: cannot read the artifact: {error.strerror or error}") from error
        raise ArtifactError(f"{folder}: damaged artifact ({error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder}: damaged artifact ({error})") from error
    return metadata


def write_manifest(folder: Path, made_by: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write what made the files of a folder, and their checksums, beside them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        **made_by,
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


def publish(temporary: Path, folder: Path) -> None:
    """Rename a whole artifact to its place, unless another process has put it there meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process made the same artifact meanwhile, and it is as good
            raise


def discard(folder: Path) -> None:
    """Move a damaged artifact away; another process may do so too, and have made it again since."""
    grave = folder.with_name(f"{folder.name}.damaged-{os.urandom(4).hex()}")
    with suppress(FileNotFoundError):
        folder.rename(grave)
        try:
            read_metadata(grave)
            grave.rename(folder)  # made again meanwhile
        except (ArtifactError, OSError):
            shutil.rmtree(grave, ignore_errors=True)


def remove_abandoned(place: Path) -> None:
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
