"""Finishing a run: its results and its page, in a folder of their own."""

from pathlib import Path

from exdd_ray.experiment.sweep_results import SweepResults, require_a_result, write_results
from exdd_ray.report.page import write_run_report
from exdd_ray.runs import mark_latest, write_whole


def write_run(folder: Path, results: SweepResults) -> Path:
    """Write the results and the report of a run, all or none, and give the folder, as `write_whole`.

    Raises UserError where every trial failed, or the folder cannot be written.
    """
    require_a_result(results)

    def write(into: Path) -> None:
        write_results(into, results)
        write_run_report(into)

    written = write_whole(folder, write)
    mark_latest(written)
    return written
