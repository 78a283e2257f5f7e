"""Finishing a run or a sweep: its results and its page, in a folder of their own."""

from pathlib import Path

from exdd_ray.experiment.session import Session
from exdd_ray.experiment.sweep_results import RESULTS, SweepResults, require_a_result, write_results
from exdd_ray.report.page import write_run_report
from exdd_ray.report.sweep_page import write_sweep_report
from exdd_ray.runs import mark_latest, write_whole
from exdd_ray.tracking.trackers import track_sweep


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


def write_sweep(folder: Path, results: SweepResults, session: Session) -> tuple[str, ...]:
    """Write the results and the report of a sweep, log it to its trackers, and keep it beside a store that is a URI.

    Returns:
        A line for each tracker: where to look.

    Raises:
        ConfigError: a tracker that is not installed or has no key.
        UserError: the folder cannot be written, or a tracker's server refuses the results.
    """
    write_results(folder, results)
    places = track_sweep(folder)
    with session.progress("writing the report", 1) as advance:
        write_sweep_report(folder)
        advance(1)
    if (mirror := session.store.mirror) is not None:
        mirror.keep(folder, f"results/{results.loaded.sweep.name}/{folder.name}", RESULTS)
    mark_latest(folder)
    return places
