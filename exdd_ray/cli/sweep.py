"""`exdd sweep`, and what the scripts in `sweeps/` share: plan, run, compare."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exdd_ray.cli.help import add_help
from exdd_ray.config.bundled import SWEEPS, find_config

if TYPE_CHECKING:
    from exdd_ray.experiment.session import Session
    from exdd_ray.experiment.space import LoadedSweep
    from exdd_ray.experiment.sweep_results import SweepResults


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


def named_dataset(name: str) -> dict[str, str]:
    """Dotted keys of a dataset as scripts take it: NAME, NAME/CATEGORY, or a folder of one's own.

    Raises ConfigError for a path at which there is no folder.
    """
    from exdd_ray.errors import ConfigError

    if Path(name).is_dir():
        return {"dataset.name": "folder", "dataset.root": str(Path(name).resolve())}
    if name.startswith(("/", ".", "~")):
        raise ConfigError(f"{name}: no such folder")
    known, _, category = name.partition("/")
    return {"dataset.name": known, **({"dataset.category": category} if category else {})}


def run_script(
    arguments: argparse.Namespace, over: Mapping[str, Any], then: "Callable[[SweepResults], None] | None" = None
) -> int:
    """Run a script's sweep, `over` merged over its file; the exit code is that of `exdd`.

    Args:
        then: prints more of the results.
    """
    from exdd_ray.cli.command import run_command

    return run_command(lambda: run_sweep_with(arguments, over, then), debug=arguments.debug)


def run_sweep_with(
    arguments: argparse.Namespace,
    over: Mapping[str, Any] | None = None,
    then: "Callable[[SweepResults], None] | None" = None,
) -> int:
    """Check a sweep, then run it here or as a job; `then` prints more of the results."""
    from exdd_ray.experiment.space import load_sweep
    from exdd_ray.runs import in_copied_folder, require_lasting

    loaded = load_sweep(find_config(arguments.config, [SWEEPS]), arguments.overrides, dict(over or {}))
    submitted = arguments.submit is not None and not in_copied_folder()  # the job has the same words, and runs
    require_lasting(loaded.sweep.store, loaded.sweep.output, mirrored=True, submitted=submitted)
    return _submit(arguments, script=over is not None) if submitted else _run(loaded, arguments, then)


def _run(
    loaded: "LoadedSweep", arguments: argparse.Namespace, then: "Callable[[SweepResults], None] | None" = None
) -> int:
    """Plan a sweep, print the plan, run it, write and print the results."""
    from exdd_ray.cli.printing import print_failures, print_plan, print_sweep
    from exdd_ray.cli.progress import terminal_progress
    from exdd_ray.experiment.sweep import plan_sweep, run_sweep
    from exdd_ray.experiment.sweep_results import RESULTS, digest_of, forget_search, results_folder, write_results
    from exdd_ray.report.sweep_page import write_sweep_report
    from exdd_ray.runs import mark_latest
    from exdd_ray.tracking.trackers import check_tracking, track_sweep

    session = _session(loaded, arguments)
    plan = plan_sweep(loaded, session)
    print_plan(plan, loaded)
    if arguments.plan:
        return 0
    check_tracking(loaded.sweep.tracking)
    folder = results_folder(loaded, resume=arguments.resume)
    if not arguments.resume:
        forget_search(folder)
    results = run_sweep(loaded, plan, session, folder)
    write_results(folder, results)
    places = track_sweep(folder)
    with terminal_progress("writing the report", 1) as advance:
        write_sweep_report(folder)
        advance(1)
    if (mirror := session.store.mirror) is not None:
        mirror.keep(folder, f"results/{loaded.sweep.name}/{folder.name}", RESULTS)
    mark_latest(folder)
    print_sweep(results)
    print_failures(results, traces=arguments.debug)
    if then is not None:
        then(results)
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


def _session(loaded: "LoadedSweep", arguments: argparse.Namespace) -> "Session":
    """A session whose work is done in this process, or on a Ray cluster."""
    from exdd_ray.cli.progress import terminal_progress
    from exdd_ray.experiment.session import Session
    from exdd_ray.store.artifact import open_store

    session = Session(open_store(loaded.sweep.store), terminal_progress)
    if not arguments.here:
        from exdd_ray.on_ray.backend import HERE, sweep_backend

        address = arguments.ray or (None if os.environ.get("RAY_ADDRESS") else HERE)  # None: as inside of a job
        session.backend = sweep_backend(session.store, address, loaded.sweep.tuner.at_once)
    return session
