"""`exdd run`."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exdd_ray.cli.help import add_help
from exdd_ray.config.bundled import EXPERIMENTS, SYNTHESIZERS, find_config

if TYPE_CHECKING:
    from exdd_ray.experiment.run_plan import Outcome
    from exdd_ray.experiment.session import Session
    from exdd_ray.store.artifact import Store


DEMO = "demo"
KINDS = (EXPERIMENTS, SYNTHESIZERS)


def add_experiment(parser: argparse.ArgumentParser, kinds: Sequence[str] = KINDS) -> None:
    """Add the arguments that name an experiment: a config and overrides."""
    parser.add_argument(
        "config", nargs="?", metavar="CONFIG", help="a YAML file, or a bundled one's name (default: demo)"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as bank.negative.rate=0.02")
    add_help(parser, kinds)


def add_run_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `run` to the command line."""
    parser = subparsers.add_parser("run", help="run an experiment and write its report", add_help=False)
    add_experiment(parser)
    parser.add_argument("--plan", action="store_true", help="print what would be made and what the store has, and stop")
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="synthesize, embed, train, and make and search banks on Ray: `auto`, an address, or alone: started here",
    )
    parser.add_argument(
        "--at-once",
        type=int,
        metavar="N",
        help="with --ray: run N trials at the same time, each on its share of the CPUs and GPUs",
    )
    parser.add_argument("--json", action="store_true", help="print the metrics as one JSON object on the last line")
    parser.set_defaults(run=run_experiment)


def config_and_overrides(arguments: argparse.Namespace, kinds: Sequence[str] = KINDS) -> tuple[Path, list[str]]:
    """The experiment that the arguments name, among others a bundled one of these kinds; the demo if they name none."""
    return find_config(DEMO if arguments.config is None else arguments.config, kinds), arguments.overrides


def run_experiment(arguments: argparse.Namespace) -> int:
    """Plan a run, run what the store lacks of it, print the table, write the results' folder."""
    from exdd_ray.experiment.space import load_run
    from exdd_ray.runs import new_folder, require_free, require_lasting

    started = time.perf_counter()
    loaded = load_run(*config_and_overrides(arguments))
    require_lasting(loaded.sweep.store, loaded.sweep.output)
    folder = new_folder(loaded.sweep.name, loaded.overrides, loaded.sweep.output)
    if not arguments.plan:
        require_free(folder)

    from exdd_ray.cli.printing import print_failures, print_plan, print_run
    from exdd_ray.cli.progress import show_log, terminal_progress
    from exdd_ray.experiment.sweep import plan_sweep, run_sweep
    from exdd_ray.experiment.sweep_results import digest_of
    from exdd_ray.report.write import write_run
    from exdd_ray.store.artifact import open_store

    store = open_store(loaded.sweep.store)
    show_log("exdd_ray.training")
    session = _session(store, arguments.ray, arguments.at_once)
    plan = plan_sweep(loaded, session)
    if arguments.plan:
        print_plan(plan, loaded)
        return 0
    results = run_sweep(loaded, plan, session, told=_say)
    with terminal_progress("writing the report", 1) as advance:
        folder = write_run(folder, results)
        advance(1)
    seconds = time.perf_counter() - started
    print_run(results)
    print_failures(results, traces=arguments.debug)
    print(f"{len(store.made)} artifacts made, {len(store.reused)} read from {store.root}; {seconds:.1f} s")
    print(f"report: {folder / 'report.html'}")
    if arguments.json:
        print(json.dumps({**digest_of(results), "seconds": round(seconds, 3)}))
    return 1 if results.reasons else 0


def _session(store: "Store", address: str | None, at_once: int | None) -> "Session":
    """A session whose work is done in this process, or on a Ray cluster where there is an address."""
    from exdd_ray.cli.progress import terminal_progress
    from exdd_ray.errors import ConfigError
    from exdd_ray.experiment.session import Session

    session = Session(store, terminal_progress)
    if address is not None:
        from exdd_ray.on_ray.backend import run_backend

        session.backend = run_backend(address, at_once)
    elif at_once is not None:
        raise ConfigError("--at-once needs a Ray cluster: --ray")
    return session


def _say(outcome: "Outcome") -> None:
    """Print what a trial gave as soon as it has ended."""
    planned, artifact = outcome.planned, outcome.artifact
    if artifact is None:
        told = f"failed: {outcome.error}"
    elif (auroc := artifact.metadata["image_auroc"]) is not None:
        told = f"image AUROC {auroc:.4f}"
    else:
        told = "scores without metrics"
    print(f"{planned.trial.name}, {planned.category}: {told}", file=sys.stderr, flush=True)
