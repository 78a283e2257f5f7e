"""`exdd report`: write the page of a run or a sweep again, from its results."""

import argparse
from pathlib import Path


def add_report_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `report` to the command line."""
    parser = subparsers.add_parser("report", help="write the page of a run or a sweep again, from its results")
    parser.add_argument("folder", type=Path, metavar="DIR", help="its results, as runs/<name>/latest")
    parser.set_defaults(run=report_results)


def report_results(arguments: argparse.Namespace) -> int:
    """Write the page into the folder, with pictures from the store that the results name, and print its path."""
    from exdd_ray.experiment.sweep_results import CONFIGS, REPORT
    from exdd_ray.report.page import write_run_report
    from exdd_ray.report.sweep_page import write_sweep_report

    folder = arguments.folder
    write = write_run_report if (folder / CONFIGS["run"]).is_file() else write_sweep_report
    write(folder)
    print(f"report: {folder / REPORT}")
    return 0
