"""`exdd report`: write the page of a sweep or a run again, from its results."""

import argparse
from pathlib import Path

TABLES = "tables.html"


def add_report_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `report` to the command line."""
    parser = subparsers.add_parser("report", help="write the page of a sweep or a run again, from its results")
    parser.add_argument("folder", type=Path, metavar="DIR", help="its results, as runs/<name>/latest")
    parser.set_defaults(run=report_results)


def report_results(arguments: argparse.Namespace) -> int:
    """Write the page into the folder and print its path.

    A run's folder holds scores, and no pictures: its report stays as the run wrote it, and `tables.html` beside it is
    made of the tables.
    """
    from exdd_ray.errors import ConfigError
    from exdd_ray.experiment.sweep_results import TRIALS
    from exdd_ray.report.run_folder import RESULTS

    folder = arguments.folder
    if not any((folder / name).is_file() for name in (RESULTS, TRIALS)):
        raise ConfigError(f"{folder}: not the results of a run or a sweep (it has no {RESULTS} and no {TRIALS})")
    if (folder / RESULTS).is_file():
        from exdd_ray.report.compare_page import write_comparison

        write_comparison(folder / TABLES, [folder])
        print(f"tables: {folder / TABLES} (with pictures, as the run wrote it: {folder / 'report.html'})")
        return 0
    return _report_sweep(folder)


def _report_sweep(folder: Path) -> int:
    from exdd_ray.experiment.sweep_results import REPORT
    from exdd_ray.report.sweep_page import write_sweep_report

    write_sweep_report(folder)
    print(f"report: {folder / REPORT}")
    return 0
