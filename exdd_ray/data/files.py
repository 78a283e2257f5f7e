"""Which files of a folder are a dataset's: images by their extension, without what other programs leave there."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from exdd_ray.store.folders import MANIFEST, UNFINISHED

# The still images that Pillow decodes.
_STILL = """
    png jpg jpeg jpe jfif bmp dib tif tiff webp gif avif jp2 j2k j2c jpx jpf ppm pgm pbm pnm pfm tga qoi sgi pcx ras dds
    im mpo"""
IMAGE_SUFFIXES = frozenset(f".{ending}" for ending in _STILL.split())
_TEXTS_AND_ARCHIVES = """
    txt md csv tsv json jsonl yaml yml xml html htm pdf doc docx xls xlsx ini cfg toml log db py ipynb pkl pyb parquet
    zip tar gz xz 7z rar"""
_DOCUMENTS = frozenset(f".{ending}" for ending in _TEXTS_AND_ARCHIVES.split())
_FOREIGN = frozenset({"@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found", "__pycache__"})
_RUN_FILE = "resolved.yaml"


def is_image(path: Path) -> bool:
    """By its extension, in either case; hidden files are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def list_images(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted; empty for a folder that does not exist."""
    return sorted(path for path in folder.iterdir() if is_image(path)) if folder.is_dir() else []


def list_folders(folder: Path) -> list[Path]:
    """Folders directly in a folder, sorted, without foreign ones; empty for a folder that does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _is_foreign(path))


def walk_files(folder: Path) -> Iterator[Path]:
    """The files in a folder and those in it, without hidden ones and those in foreign folders."""
    yield from sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    for inner in list_folders(folder):
        yield from walk_files(inner)


def images_under(folder: Path) -> tuple[str, ...]:
    """The image files that are now in a folder and those in it, sorted; none where there is no such folder."""
    return tuple(sorted(str(path) for path in walk_files(folder) if is_image(path))) if folder.is_dir() else ()


def unread_notes(root: Path) -> tuple[str, ...]:
    """The note on files under a root that are neither images that can be read nor documents: raw photographs, say."""
    others = (path for path in walk_files(root) if path.suffix and not is_image(path))
    files = [path for path in others if path.suffix.lower() not in _DOCUMENTS]
    endings = ", ".join(sorted({path.suffix.lower() for path in files}))
    if not files:
        return ()
    return (f"{len(files)} files are of no kind that is read ({endings}, the first: {files[0].relative_to(root)})",)


def found_text(folder: Path) -> str:
    """The first entries of a folder, for error messages."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return "found " + (", ".join(islice(names, 6)) + (", ..." if len(names) > 6 else "") if names else "nothing")


def _is_foreign(folder: Path) -> bool:
    """Hidden, left by a file server or an archive, or this project's own store or results."""
    if folder.name.startswith(".") or folder.name.lower() in _FOREIGN:
        return True
    results = (_RUN_FILE, f"*/{_RUN_FILE}", f"*/*/{_RUN_FILE}")
    store = (folder / UNFINISHED).is_dir() and any(folder.glob(f"*/*/*/{MANIFEST}"))
    return store or any(next(folder.glob(pattern), None) is not None for pattern in results)
