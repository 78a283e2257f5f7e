"""`exdd sweep`, and what the scripts in `sweeps/` share: plan, run, compare."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exdd_ray.cli.help import add_help
from exdd_ray.config.bundled import SWEEPS, find_config

if TYPE_CHECKING:
    from exdd_ray.errors import Fault
    from exdd_ray.experiment.plan import Plan, PlannedTrial
    from exdd_ray.experiment.run_plan import TrialRunner
    from exdd_ray.experiment.session import Session
    from exdd_ray.experiment.space import LoadedSweep, Point
    from exdd_ray.experiment.sweep_results import SweepResults
    from exdd_ray.metrics.difference import Difference
    from exdd_ray.progress import Advance

LOCAL = "local"


def add_sweep_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `sweep` to the command line."""
    parser = subparsers.add_parser(
        "sweep", help="run an experiment at many points, compare them, and report", add_help=False
    )
    parser.add_argument("config", metavar="CONFIG", help="a YAML file with a space, or the name of a bundled one")
    add_sweep_options(parser)
    add_help(parser, [SWEEPS], sweep=True)
    parser.set_defaults(run=run_sweep_with)


def add_sweep_options(parser: argparse.ArgumentParser) -> None:
    """Add what every sweep takes: how it is run, and overrides of its config."""
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="as dataset.name=ksdd2 or seeds=[0,1,2]"
    )
    parser.add_argument("--plan", action="store_true", help="print what would be made and what the store has, and stop")
    parser.add_argument("--resume", action="store_true", help="go on with an adaptive search that was cut off")
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="a Ray cluster: `auto` or an address (default: that of the job or of RAY_ADDRESS, else one started here)",
    )
    parser.add_argument(
        "--submit",
        metavar="URL",
        help="check the sweep here, then run it as a job of the Ray cluster whose dashboard this is, on a copy of this "
        "folder without what git ignores",
    )
    parser.add_argument("--here", action="store_true", help="without Ray: one trial after another in this process")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")


def add_script_options(parser: argparse.ArgumentParser, config: str) -> None:
    """Add what every script takes: the sweep's file, by default a bundled one, and the common options."""
    parser.add_argument("--config", metavar="FILE", default=config, help=f"a sweep's file or name (default: {config})")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    add_sweep_options(parser)
    add_help(parser, [SWEEPS], sweep=True)


def run_script(arguments: argparse.Namespace, over: Mapping[str, Any]) -> int:
    """Run a script's sweep, `over` merged over its file; the exit code is that of `exdd`."""
    from exdd_ray.cli.main import run_command

    return run_command(lambda: run_sweep_with(arguments, over), debug=arguments.debug)


def run_sweep_with(arguments: argparse.Namespace, over: Mapping[str, Any] | None = None) -> int:
    """Check a sweep, then run it here or as a job."""
    from exdd_ray.experiment.space import load_sweep
    from exdd_ray.runs import in_copied_folder, require_lasting

    loaded = load_sweep(find_config(arguments.config, [SWEEPS]), arguments.overrides, dict(over or {}))
    submitted = arguments.submit is not None and not in_copied_folder()  # the job has the same words, and runs
    require_lasting(loaded.sweep.store, loaded.sweep.output, mirrored=True, submitted=submitted)
    return _submit(arguments, script=over is not None) if submitted else _run(loaded, arguments)


def _run(loaded: "LoadedSweep", arguments: argparse.Namespace) -> int:
    """Plan a sweep, print the plan, run it, write and print the results."""
    from exdd_ray.cli.progress import terminal_progress
    from exdd_ray.experiment.sweep import plan_sweep, run_sweep
    from exdd_ray.experiment.sweep_results import RESULTS, digest_of, remove_unfinished, results_folder, write_sweep
    from exdd_ray.report.sweep_page import write_sweep_report
    from exdd_ray.runs import mark_latest
    from exdd_ray.tracking.sweep import check_tracking, track_sweep

    session = _workshop(loaded, arguments)
    plan = plan_sweep(loaded, session)
    _print_plan(plan, loaded)
    if arguments.plan:
        return 0
    check_tracking(loaded.sweep.tracking)
    folder = results_folder(loaded, resume=arguments.resume)
    remove_unfinished(folder, keep_search=arguments.resume)
    search = None if arguments.here else _search(folder, arguments)
    results = run_sweep(loaded, plan, session, run=_runner(loaded, folder, arguments), search=search)
    write_sweep(folder, results)
    places = track_sweep(folder)
    with terminal_progress("writing the report", 1) as advance:
        write_sweep_report(folder)
        advance(1)
    if (mirror := session.store.mirror) is not None:
        mirror.keep(folder, f"results/{loaded.sweep.name}/{folder.name}", RESULTS)
    mark_latest(folder)
    print_sweep(results)
    _print_traces(results, shown=arguments.debug)
    for place in places:
        print(f"logged: {place}")
    print(f"{results.seconds:.1f} s; report: {folder / 'report.html'}")
    if arguments.json:
        print(json.dumps({**digest_of(results), "seconds": round(results.seconds, 3)}))
    return 0 if results.chosen else 1


def _submit(arguments: argparse.Namespace, *, script: bool) -> int:
    """Run the line that this process was given as a job; its exit code."""
    from exdd_ray.errors import ConfigError
    from exdd_ray.on_ray.jobs import submit

    program = ["-m", "exdd_ray.cli.main"]
    if script:
        program = [os.path.relpath(sys.argv[0])]
        if program[0].startswith(os.pardir):
            raise ConfigError(f"{program[0]} is not in this folder, which is what goes along with a job")
    return submit(arguments.submit, ["python", *program, *arguments.words], Path.cwd())


def _workshop(loaded: "LoadedSweep", arguments: argparse.Namespace) -> "Session":
    """Where stages are made: this process, or a Ray cluster."""
    from exdd_ray.cli.progress import terminal_progress
    from exdd_ray.cli.run import cluster_workshop
    from exdd_ray.experiment.session import Session
    from exdd_ray.store.artifact import open_store

    store = open_store(loaded.sweep.store)
    address = _address(arguments)
    if arguments.here or address == LOCAL:  # a cluster of this machine alone has nothing to add to the stages
        return Session(store, terminal_progress)
    from exdd_ray.on_ray.cluster import connect, require_shared

    connect(address)
    if store.mirror is None:
        store.root.mkdir(parents=True, exist_ok=True)
        require_shared(store.root)
    return cluster_workshop(store)


def _runner(loaded: "LoadedSweep", folder: Path, arguments: argparse.Namespace) -> "TrialRunner | None":
    """Who runs the trials: Ray Tune, or None: this process, one after another."""
    if arguments.here:
        return None

    def run(trials: "Sequence[PlannedTrial]", session: "Session", advance: "Advance") -> "Mapping[str, Fault]":
        from exdd_ray.on_ray.cluster import connect
        from exdd_ray.on_ray.tune import TuneTrials, tune_storage

        connect(_address(arguments))  # a cluster of this machine is started here, when there are trials to run
        return TuneTrials(tune_storage(session, folder), loaded.sweep.searcher.at_once)(trials, session, advance)

    return run


def _address(arguments: argparse.Namespace) -> str | None:
    """None is what the environment says, as inside of a job."""
    return arguments.ray or (None if os.environ.get("RAY_ADDRESS") else LOCAL)


def _search(folder: Path, arguments: argparse.Namespace) -> Any:
    def search(loaded: "LoadedSweep", session: "Session", advance: "Advance") -> "list[Point]":
        from exdd_ray.on_ray.cluster import connect
        from exdd_ray.on_ray.search import search_asha, search_tpe

        connect(_address(arguments))
        kinds = {"tpe": search_tpe, "asha": search_asha}
        return kinds[loaded.sweep.searcher.kind](loaded, session, folder, advance)

    return search


def _print_plan(plan: "Plan", loaded: "LoadedSweep") -> None:
    from rich.table import Table

    from exdd_ray.cli.tables import console

    table = Table(title=f"{loaded.sweep.name}: {plan.headline}")
    for name in ("stage", "distinct", "in the store", "asked for", "about"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage in plan.stages:
        about = "" if stage.seconds is None else f"{stage.seconds:.0f} s"
        table.add_row(f"{stage.stage} ({stage.what})", str(stage.distinct), str(stage.in_store), str(stage.uses), about)
    console().print(table)
    if any(stage.seconds is None for stage in plan.stages):
        print("(stages without a time were not timed on this machine yet, or are part of the trials)")
    if loaded.sweep.searcher.kind in ("tpe", "asha"):
        print(f"(the baseline alone: {loaded.sweep.searcher.kind} chooses the other points as it goes)")
    assigned = [planned.assigned for planned in plan.trials if planned.assigned]
    for remark in dict.fromkeys(remark for one in assigned for remark in one.assignment.remarks):
        print(f"note: {remark}", file=sys.stderr)
    for reason in dict.fromkeys(planned.error for planned in plan.trials if planned.error):
        print(f"note: some trials cannot be run: {reason}", file=sys.stderr)


def print_sweep(results: "SweepResults") -> None:
    """One line a point: means with intervals in percent, and what differs from the baseline."""
    from rich.table import Table

    from exdd_ray.cli.tables import console
    from exdd_ray.experiment.summary import judged_by

    sweep = results.loaded.sweep
    shown = dict.fromkeys([judged_by(sweep.objectives[0], sweep), "image_auroc", "pixel_auroc", "pixel_ap"])
    several = any(mean.half is not None for point in results.points for mean in point.means.values())
    spread = " ± half of the 95 % interval over seeds" if several else ""
    table = Table(title=f"percent: mean{spread}; difference from the baseline in image AUROC")
    for name in ("point", "runs", *(name.replace("_", " ") for name in shown), "difference", ""):
        table.add_column(name, justify="left" if name in ("point", "") else "right")
    for point in results.points:
        marks = ", ".join(filter(None, ["baseline" * point.baseline, "chosen" * point.chosen]))
        runs = f"{point.runs}" + f" ({point.failed} failed)" * bool(point.failed)
        cells = (_cell(name, point.means.get(name)) for name in shown)
        table.add_row(point.name, runs, *cells, _difference(point.differences.get("image_auroc")), marks)
    console().print(table)
    if results.chosen is None and not results.reasons:
        print(f"no point can be chosen: {judged_by(sweep.objectives[0], sweep)} could not be measured")
    for reason, count in results.reasons.items():
        print(f"{count} failed: {reason}")
    if sweep.select == "test":
        print("warning: the best trial was chosen on the test images (select=test)")


def _print_traces(results: "SweepResults", *, shown: bool) -> None:
    """The tracebacks of trials that failed by programming errors, or where they are to be found."""
    if results.traces and not shown:
        print("(--debug shows the tracebacks; trials.parquet keeps them)", file=sys.stderr)
    for reason, trace in results.traces.items() if shown else ():
        print(f"{reason}\n{trace}", file=sys.stderr)


def _cell(metric: str, mean: Any) -> str:
    from exdd_ray.metrics.table import known_metric

    if mean is None:
        return "-"
    known = known_metric(metric)
    spread = "" if mean.half is None or known.level == "cost" else f" ± {known.text(mean.half)}"
    return f"{known.text(mean.value)}{spread}"


def _difference(apart: "Difference | None") -> str:
    if apart is None:
        return ""
    alone = {"seeds": ", one seed", "images": ", seeds alone", None: ""}[apart.unmeasured]
    tested = "untested" if apart.p is None else f"p {apart.p:.3f}{alone}" if apart.clear else "noise"
    return f"{100 * apart.mean.value:+.2f} ({tested})"
