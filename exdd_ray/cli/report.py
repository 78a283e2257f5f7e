"""`exdd report`: write a sweep's report again, from its results."""

import argparse
from pathlib import Path


def add_report_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `report` to the command line."""
    parser = subparsers.add_parser("report", help="write the report of a sweep from its results")
    parser.add_argument("folder", type=Path, metavar="SWEEP_DIR", help="its results, as runs/<name>/latest")
    parser.set_defaults(run=report_sweep)


def report_sweep(arguments: argparse.Namespace) -> int:
    """Write `report.html` into the folder and print its path."""
    from exdd_ray.report.sweep_page import write_sweep_report
    from exdd_ray.sweep.results import REPORT

    write_sweep_report(arguments.folder)
    print(f"report: {arguments.folder / REPORT}")
    return 0
