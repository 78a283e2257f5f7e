"""`exdd compare`: finished runs on one page."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exdd_ray.report.compare_page import Comparison


def add_compare_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `compare` to the command line."""
    parser = subparsers.add_parser("compare", help="compare finished runs: configs, metrics, what is more than noise")
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN_DIR", help="the first is compared with")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", default=Path("compare.html"), help="where to write (default: compare.html)"
    )
    parser.set_defaults(run=compare_runs)


def compare_runs(arguments: argparse.Namespace) -> int:
    """Write the page, print its table and its path."""
    from exdd_ray.report.compare_page import write_comparison

    print_comparison(write_comparison(arguments.page, arguments.folders))
    print(f"page: {arguments.page}")
    return 0


def print_comparison(found: "Comparison") -> None:
    """Differing keys, metrics with the differences from the first trial, and the images tested on."""
    from rich.table import Table

    from exdd_ray.cli.printing import console, print_published
    from exdd_ray.report.sweep_tables import metric_cell

    if found.keys:
        table = Table("key")
        for point in found.points:
            table.add_column(point.name, overflow="fold")
        for key, values in found.keys:
            table.add_row(key, *values)
        console().print(table)
    table = Table(title="percent; below: the difference from the first")
    table.add_column("trial", overflow="fold")
    for metric in found.metrics:
        table.add_column(metric.title, justify="right")
    for point in found.points:
        cells = (metric_cell(point, metric) for metric in found.metrics)
        table.add_row(point.name, *("\n".join(filter(None, [c.text, c.below, c.verdict])) for c in cells))
    console().print(table)
    print_published(found.published)
    for point, images in zip(found.points, found.images, strict=True):
        print(f"{point.name}: tested on {images}")
    for flag in found.flags:
        print(f"note: {flag.text}{f' ({flag.where})' if flag.where else ''}")
