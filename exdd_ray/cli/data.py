"""`exdd data`: which datasets are known, what is wrong with one on disk, how to get one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from exdd_ray.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from exdd_ray.data.check import DataReport
    from exdd_ray.data.datasets.spec import Collection

_SHOWN = 10  # findings of one kind that are listed in full
_NOT_DOWNLOADABLE = 2


def add_data_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `data list`, `data check` and `data get` to the command line."""
    data = subparsers.add_parser("data", help="datasets: list, check, get")
    commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")

    parser = commands.add_parser("list", help="the datasets that can be loaded")
    parser.set_defaults(run=run_list)

    parser = commands.add_parser("check", help="read every file of a dataset and report what is wrong")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the dataset's root folder")
    parser.add_argument("--dataset", metavar="NAME", help="its name (default: guessed from the layout)")
    parser.add_argument("--category", metavar="C", help="one category (default: all that are there)")
    parser.add_argument("--mask-threshold", type=int, metavar="N", help="as dataset.mask_threshold of a run")
    parser.add_argument("--bit-depth", type=int, metavar="N", help="as dataset.bit_depth of a run")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run_check)

    parser = commands.add_parser("get", help="download and unpack a dataset, or the textures dtd")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--to", type=Path, metavar="DIR", help="new folder (default: EXDD_DATA/NAME, or data/NAME)")
    parser.add_argument(
        "--accept-licence", action="store_true", help="accept the dataset's licence without being asked"
    )
    parser.set_defaults(run=run_get)


def run_list(_args: argparse.Namespace) -> int:
    """Print a table of the known datasets."""
    from rich.table import Table

    from exdd_ray.data.datasets import DATASETS
    from exdd_ray.data.textures import DTD

    table = Table("name", "title", "categories", "licence")
    table.add_column("download", overflow="fold")
    for spec in DATASETS.values():
        download = "exdd data get" if spec.sources else spec.homepage or "-"
        table.add_row(spec.name, spec.title, str(len(spec.categories) or "-"), spec.licence, download)
    table.add_row(DTD.name, DTD.title, "-", DTD.licence, "exdd data get")
    _console().print(table)
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Check a dataset on disk. Returns 0 where it is clean, 1 where something is wrong with it."""
    from exdd_ray.cli.progress import terminal_progress
    from exdd_ray.data.catalog import with_reading
    from exdd_ray.data.check import check_dataset
    from exdd_ray.data.datasets import check_root, guess_dataset, load_dataset
    from exdd_ray.data.files import unread_notes

    check_root(args.folder.expanduser())
    name = args.dataset or guess_dataset(args.folder.expanduser())
    if args.dataset is None:
        print(f"by its layout this is the dataset {name!r} (--dataset names another)", file=sys.stderr)
    catalog = with_reading(load_dataset(name, args.folder, args.category), args.mask_threshold, args.bit_depth)
    report = check_dataset(catalog, terminal_progress, unread_notes(args.folder.expanduser()))
    if args.json:
        print(json.dumps({**dataclasses.asdict(report), "problems": report.problems}, indent=2))
    else:
        _print_report(report)
    return 1 if report.problems else 0


def run_get(args: argparse.Namespace) -> int:
    """Download and unpack a dataset. Returns 2 where its publisher has no address to download from."""
    from exdd_ray.cli.progress import terminal_progress
    from exdd_ray.data.datasets import default_root, find_dataset
    from exdd_ray.data.download import download, unpack
    from exdd_ray.data.textures import DTD

    collection: Collection = DTD if args.name == DTD.name else find_dataset(args.name)
    folder: Path = (args.to or default_root(collection.name)).expanduser().resolve()
    if not collection.sources:
        print(f"{collection.title} cannot be downloaded from here.")
        print("\n".join(filter(None, [collection.homepage, collection.note, f"Its root would be {folder}"])))
        return _NOT_DOWNLOADABLE
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: exists and is not empty; --to names another folder")
    _accept_licence(collection, accepted=args.accept_licence)
    archives = [download(source, folder.parent, terminal_progress) for source in collection.sources]
    unpack(archives, folder)
    print(f"{collection.title} is in {folder}. {collection.note}".rstrip())
    print(f"No longer needed: {', '.join(str(archive) for archive in archives)}")
    return 0


def _accept_licence(collection: Collection, *, accepted: bool) -> None:
    print(f"{collection.title}\nlicence: {collection.licence}\n{collection.homepage}")
    if accepted:
        return
    if not sys.stdin.isatty():
        raise DataError(f"the licence of {collection.name} is not accepted: read it and give --accept-licence")
    if input("Accept the licence? [y/N] ").strip().lower() not in {"y", "yes"}:
        raise DataError(f"the licence of {collection.name} is not accepted: nothing was downloaded")


def _print_report(report: DataReport) -> None:
    from rich.table import Table

    console = _console()
    table = Table("category", "split", "label", "defect", "images")
    for count in report.counts:
        table.add_row(count.category, count.split, _LABELS[count.label], count.defect, str(count.images))
    console.print(table)
    if report.smallest is not None and report.largest is not None:
        small, large = (f"{size[1]} x {size[0]}" for size in (report.smallest, report.largest))
        modes = ", ".join(f"{mode} ({images})" for mode, images in report.modes)
        _line(console, f"sizes: {report.sizes}, from {small} to {large} (width x height); colour modes: {modes}")
    _print_findings(console, "unreadable images", (f"{t.path}: {t.reason}" for t in report.unreadable))
    _print_findings(console, "masks", (f"{t.path}: {t.reason}" for t in report.masks))
    harmful = (f"{', '.join(group.ids)}: {group.harm}" for group in report.duplicates if group.harm)
    _print_findings(console, "duplicates", harmful)
    harmless = (", ".join(group.ids) for group in report.duplicates if not group.harm)
    _print_findings(console, "duplicates in one split (not counted as problems)", harmless)
    wrong = (
        f"{w.category} {w.split or 'all splits'} {_LABELS[w.label]}: {w.found} images, officially {w.expected}"
        for w in report.wrong_counts
    )
    _print_findings(console, "counts", wrong)
    _print_findings(console, "notes", report.notes)
    _line(console, f"{report.images} images, {report.problems} problems" if report.problems else "no problems found")


_LABELS = {None: "normal and defective", -1: "unlabelled", 0: "normal", 1: "defective"}


def _print_findings(console: Console, title: str, findings: Iterable[str]) -> None:
    lines = list(findings)
    if not lines:
        return
    _line(console, f"{title}: {len(lines)}")
    for line in lines[:_SHOWN]:
        _line(console, f"  {line}")
    if len(lines) > _SHOWN:
        _line(console, f"  ... and {len(lines) - _SHOWN} more (--json lists all)")


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    from rich.console import Console

    return Console()
