import argparse
import hashlib
import io
import re
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from exdd_ray.cli import data as cli
from exdd_ray.data.datasets import DATASETS
from exdd_ray.data.datasets.spec import Source
from exdd_ray.data.download import download, unpack
from exdd_ray.errors import DataError

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000).astype(np.uint8).tobytes()
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


@dataclass
class Site:
    """A web server and how it behaves."""

    url: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    cut_after: int | None = None
    requests: list[str | None] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.requests.append(wanted)
            if self.path != "/data.zip":
                self.send_error(404)
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and state.ranges else 0
            if start >= len(state.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(state.content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            self.end_headers()
            self.wfile.write(state.content[start : state.cut_after])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/data.zip"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def source(site: Site, checksum: str | None = MD5) -> Source:
    return Source(url=site.url, filename="data.zip", checksum=checksum)


def test_download_is_verified_and_not_repeated(site: Site, tmp_path: Path) -> None:
    path = download(source(site), tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["data.zip"]
    download(source(site), path.parent)
    assert site.requests == [None]


def test_interrupted_download_goes_on_where_it_stopped(site: Site, tmp_path: Path) -> None:
    site.cut_after = 100_000
    with pytest.raises(DataError, match="ended after 100000 of 300000 bytes; the same command goes on"):
        download(source(site), tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.zip.part"]
    site.cut_after = None
    assert download(source(site), tmp_path).read_bytes() == CONTENT
    assert site.requests == [None, "bytes=100000-"]


def test_server_without_ranges_starts_again(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    (tmp_path / "data.zip.part").write_bytes(CONTENT[:5000])
    assert download(source(site), tmp_path).read_bytes() == CONTENT
    assert site.requests == ["bytes=5000-"]


def test_complete_part_is_taken_and_a_longer_one_is_not(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT)
    assert download(source(site), tmp_path).read_bytes() == CONTENT
    (tmp_path / "data.zip").rename(tmp_path / "data.zip.part")
    site.content = CONTENT[:1000]
    checksum = "sha256:" + hashlib.sha256(site.content).hexdigest()
    assert download(source(site, checksum), tmp_path).read_bytes() == site.content
    assert site.requests == ["bytes=300000-", "bytes=300000-", None]


def test_wrong_checksum_is_discarded(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not have the checksum md5:0+ and was discarded"):
        download(source(site, "md5:" + 32 * "0"), tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data.zip").write_bytes(b"something else")
    with pytest.raises(DataError, match="delete or rename it"):
        download(source(site), tmp_path)


def test_network_failures_are_one_line(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="404"):
        download(Source(url=site.url + "x", filename="a.zip"), tmp_path)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.zip"
        with pytest.raises(DataError, match="refused") as failure:
            download(Source(url=url, filename="a.zip"), tmp_path)
    assert "\n" not in str(failure.value)
    with pytest.raises(DataError, match="not a web address"):
        download(Source(url=Path(__file__).as_uri(), filename="a.zip"), tmp_path)


def make_zip(path: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, name)
    return path


def make_tar(path: Path, members: list[tarfile.TarInfo], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for member in members:
            content = io.BytesIO(b"x" * member.size)
            file.addfile(member, content if member.isfile() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 3 if kind == tarfile.REGTYPE else 0
    return info


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_unpack_keeps_several_entries_and_strips_a_single_folder(tmp_path: Path) -> None:
    flat = make_zip(tmp_path / "a.zip", ["train/1.png", "test/2.png"])
    unpack([flat], tmp_path / "a")
    assert files(tmp_path / "a") == ["test/2.png", "train/1.png"]
    wrapped = make_zip(tmp_path / "b.zip", ["repo-master/MT_Free/1.png", "repo-master/a.md", "__MACOSX/._a.md"])
    unpack([wrapped], tmp_path / "b")
    assert files(tmp_path / "b") == ["MT_Free/1.png", "a.md"]
    (tmp_path / "c").mkdir()
    unpack([make_zip(tmp_path / f"{n}.zip", [f"Class{n}/1.png"]) for n in (1, 2)], tmp_path / "c")
    assert files(tmp_path / "c") == ["Class1/1.png", "Class2/1.png"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_unpack_tar(tmp_path: Path, mode: str) -> None:
    members = [member("a/b.png"), member("c.png"), member("a/link.png", tarfile.SYMTYPE, "b.png")]
    unpack([make_tar(tmp_path / "x", members, mode)], tmp_path / "out")
    assert files(tmp_path / "out") == ["a/b.png", "a/link.png", "c.png"]


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/evil.png", "..\\evil.png", "C:\\evil.png"])
def test_members_outside_are_refused(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    for archive in (make_zip(inside / "x.zip", ["ok.png", name]), make_tar(inside / "x.tar", [member(name)])):
        with pytest.raises(DataError, match="would be written outside"):
            unpack([archive], inside / "out")
    assert sorted(path.name for path in inside.iterdir()) == ["x.tar", "x.zip"]
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


@pytest.mark.parametrize(
    "members",
    [
        [member("link", tarfile.SYMTYPE, "/etc"), member("link/evil")],
        [member("link", tarfile.SYMTYPE, "../.."), member("link/evil")],
        [member("hard", tarfile.LNKTYPE, "../secret")],
        [member("null", tarfile.CHRTYPE)],
        [member("pipe", tarfile.FIFOTYPE)],
    ],
)
def test_tar_links_and_devices_are_refused(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    (tmp_path / "secret").write_text("mine")
    inside = tmp_path / "inside"
    inside.mkdir()
    archive = make_tar(inside / "x.tar", members)
    with pytest.raises(DataError, match=r"x\.tar: cannot be unpacked"):
        unpack([archive], inside / "out")
    assert [path.name for path in inside.iterdir()] == ["x.tar"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside", "secret"]


def test_zip_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(link, "/etc")
    with pytest.raises(DataError, match="'link' is a link or a device"):
        unpack([tmp_path / "x.zip"], tmp_path / "out")


def test_damaged_and_foreign_archives(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", [f"{i}.png" for i in range(50)])
    content = bytearray(archive.read_bytes())
    content[36] ^= 255  # in the first member's bytes
    archive.write_bytes(bytes(content))
    with pytest.raises(DataError, match="cannot be unpacked: Bad CRC"):
        unpack([archive], tmp_path / "out")
    (tmp_path / "page.zip").write_text("<html>please log in</html>")
    with pytest.raises(DataError, match="neither a zip nor a tar file"):
        unpack([tmp_path / "page.zip"], tmp_path / "out")
    whole = make_tar(tmp_path / "x.tar.gz", [member(f"{i}.png") for i in range(50)], "w:gz")
    whole.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"x\.tar\.gz"):
        unpack([whole], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unpack_does_not_touch_a_folder_with_files(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(DataError, match="exists and is not empty"):
        unpack([make_zip(tmp_path / "x.zip", ["a.png"])], tmp_path / "out")
    assert files(tmp_path / "out") == ["mine.txt"]


def exdd(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_data_parser(parser.add_subparsers())
    args = parser.parse_args(["data", *arguments])
    code: int = args.run(args)
    return code


def test_get_asks_for_the_licence_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(DataError, match="licence of ksdd2 is not accepted"):
        exdd("get", "ksdd2", "--to", str(tmp_path / "k"))
    assert "CC BY-NC-SA 4.0" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_get_without_an_address_says_where_to_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exdd("get", "mvtec_ad", "--to", str(tmp_path / "m")) == 2
    out = capsys.readouterr().out
    assert DATASETS["mvtec_ad"].homepage in out
    assert str(tmp_path / "m") in out


def test_get_downloads_and_unpacks(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = make_zip(tmp_path / "made.zip", ["repo-master/MT_Free/Imgs/1.jpg"])
    site.content = archive.read_bytes()
    spec = DATASETS["magnetic_tile"]
    monkeypatch.setitem(DATASETS, spec.name, type(spec)(**{**spec.__dict__, "sources": (source(site, checksum=None),)}))
    assert exdd("get", "magnetic_tile", "--to", str(tmp_path / "tiles"), "--accept-licence") == 0
    assert files(tmp_path / "tiles") == ["MT_Free/Imgs/1.jpg"]
    assert str(tmp_path / "tiles") in capsys.readouterr().out
    with pytest.raises(DataError, match="exists and is not empty; --to names another folder"):
        exdd("get", "magnetic_tile", "--to", str(tmp_path / "tiles"), "--accept-licence")
