"""Downloads that resume and verify, archives that cannot write outside of their folder."""

import hashlib
import http.client
import lzma
import re
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from exdd_ray.data.datasets.spec import Source
from exdd_ray.errors import DataError
from exdd_ray.progress import Progress, silent

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


def download(source: Source, folder: Path, progress: Progress = silent) -> Path:
    """Fetch an archive into a folder; goes on where an interrupted download stopped.

    The bytes go to `<filename>.part`, which gets its name once it is complete and its checksum right.

    Returns:
        Path of the archive; one that is there already is verified and kept.

    Raises:
        DataError: no connection, a connection that ends early or falls silent for 30 s, a wrong checksum.
    """
    target = folder / source.filename
    if target.exists():
        if not _checksum_matches(target, source):
            raise DataError(f"{target}: not the file of {source.url} ({source.checksum}): delete or rename it")
        return target
    part = target.with_name(target.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(source.url, part, progress)
    except (OSError, http.client.HTTPException) as error:
        goes_on = "; the same command goes on where it stopped" if part.exists() else ""
        raise DataError(f"{source.url}: {_one_line(error)}{goes_on}") from error
    if not _checksum_matches(part, source):
        part.unlink()
        raise DataError(f"{source.url}: the download does not have the checksum {source.checksum} and was discarded")
    return part.rename(target)


def unpack(archives: Sequence[Path], folder: Path) -> None:
    """Unpack zip and tar files (also .gz, .xz, .bz2) together into a new folder, all or nothing.

    A single folder that holds everything else in the archives is left out of the paths.

    Raises:
        DataError: the folder exists and is not empty; an archive is damaged or needs more space than there is; a member
            would be written outside of the folder, or is a device or a link that leads outside.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: exists and is not empty")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        for archive in archives:
            _extract(archive, temporary)
        shutil.rmtree(temporary / "__MACOSX", ignore_errors=True)
        entries = list(temporary.iterdir())
        content = entries[0] if len(entries) == 1 and entries[0].is_dir() else temporary
        if folder.exists():
            folder.rmdir()
        content.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fetch(url: str, part: Path, progress: Progress) -> None:
    start = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, start)
    except urllib.error.HTTPError as error:
        if error.code != _RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return  # nothing is missing
        start = 0
        response = _open(url, start)
    with response:
        resumed = response.status == _PARTIAL_CONTENT
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise ConnectionError("the server sent another range than asked for")
        start = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with part.open("ab" if resumed else "wb") as file:
            chunks = iter(lambda: response.read(_CHUNK), b"")
            with progress(f"{part.stem}, bytes", (total or start) - start) as advance:
                for chunk in chunks:
                    file.write(chunk)
                    advance(len(chunk))
    size = part.stat().st_size
    if total is not None and size != total:
        raise ConnectionError(f"the connection ended after {size} of {total} bytes")


def _open(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "exdd-ray"} | ({"Range": f"bytes={start}-"} if start else {})
    response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    if not isinstance(response, http.client.HTTPResponse):
        raise DataError(f"{url}: not a web address")
    return response


def _checksum_matches(path: Path, source: Source) -> bool:
    if source.checksum is None:
        return True
    algorithm, digest = source.checksum.split(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest() == digest


def _extract(archive: Path, folder: Path) -> None:
    try:
        if tarfile.is_tarfile(archive):
            _extract_tar(archive, folder)
        elif zipfile.is_zipfile(archive):
            _extract_zip(archive, folder)
        else:
            raise DataError(f"{archive}: neither a zip nor a tar file, or damaged")
    except _DAMAGED as error:
        raise DataError(f"{archive}: cannot be unpacked: {_one_line(error)}") from error


def _extract_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive, "r:*") as tar:
        members = tar.getmembers()
        _check_members(archive, folder, [member.name for member in members], sum(member.size for member in members))
        tar.extractall(folder, members, filter="data")


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        _check_members(archive, folder, [member.filename for member in members], sum(m.file_size for m in members))
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise DataError(f"{archive}: member {member.filename!r} is a link or a device")
        file.extractall(folder, members)


def _check_members(archive: Path, folder: Path, names: Sequence[str], size: int) -> None:
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
            raise DataError(f"{archive}: member {name!r} would be written outside of {folder.parent}")
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DataError(f"{archive}: needs {size / 1e9:.1f} GB, {folder.parent} has {free / 1e9:.1f} GB left")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
