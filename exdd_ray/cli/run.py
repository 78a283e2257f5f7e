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
    from exdd_ray.experiment.result import TrialResult
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
        help="with --ray: run N trials that train networks at the same time, each on its share of the CPUs and GPUs",
    )
    parser.add_argument("--json", action="store_true", help="print the metrics as one JSON object on the last line")
    parser.set_defaults(run=run_experiment)


def config_and_overrides(arguments: argparse.Namespace, kinds: Sequence[str] = KINDS) -> tuple[Path, list[str]]:
    """The experiment that the arguments name, among others a bundled one of these kinds; the demo if they name none."""
    return find_config(DEMO if arguments.config is None else arguments.config, kinds), arguments.overrides


def run_experiment(arguments: argparse.Namespace) -> int:
    """Run all trials, print the table, write the results' folder."""
    from exdd_ray.experiment.load import load_run
    from exdd_ray.runs import mark_latest, new_folder, require_free, require_lasting

    started = time.perf_counter()
    loaded = load_run(*config_and_overrides(arguments))
    require_lasting(loaded.run.store, loaded.run.output)
    folder = new_folder(loaded.run.name, loaded.overrides, loaded.run.output)
    require_free(folder)

    from exdd_ray.cli.progress import show_log, terminal_progress
    from exdd_ray.cli.tables import print_results
    from exdd_ray.experiment.run import run_trials, summary, write_results
    from exdd_ray.store.artifact import open_store

    store = open_store(loaded.run.store)
    show_log("exdd_ray.training")
    results = run_trials(loaded.trials, _workshop(store, arguments.ray, arguments.at_once), _say_progress)
    with terminal_progress("writing the report", 1) as advance:
        folder = write_results(folder, loaded, results)
        advance(1)
    mark_latest(folder)
    seconds = time.perf_counter() - started
    print_results(results)
    print(f"{len(store.made)} artifacts made, {len(store.reused)} read from {store.root}; {seconds:.1f} s")
    print(f"report: {folder / 'report.html'}")
    if arguments.json:
        print(json.dumps({**summary(results), "seconds": round(seconds, 3)}))
    return 0


def _workshop(store: "Store", address: str | None, at_once: int | None) -> "Session":
    """A session whose work is done on a Ray cluster, or in this process where there is no address."""
    from exdd_ray.cli.progress import terminal_progress
    from exdd_ray.errors import ConfigError
    from exdd_ray.experiment.session import Session

    if address is None:
        if at_once is not None:
            raise ConfigError("--at-once needs a Ray cluster: --ray")
        return Session(store, terminal_progress)
    from exdd_ray.on_ray.cluster import connect
    from exdd_ray.on_ray.trials import RayTrials

    connect(address)
    session = cluster_workshop(store)
    session.ahead = None if at_once is None else RayTrials(at_once)
    return session


def cluster_workshop(store: "Store") -> "Session":
    """A session whose work is done on the connected Ray cluster."""
    from exdd_ray.cli.progress import terminal_progress
    from exdd_ray.device import CPU, compute_device
    from exdd_ray.experiment.session import Session
    from exdd_ray.on_ray.bank import RaySearch
    from exdd_ray.on_ray.cluster import cluster_device
    from exdd_ray.on_ray.embed import RaySlices
    from exdd_ray.on_ray.orders import RayOrders
    from exdd_ray.on_ray.synthesis import RayChunks
    from exdd_ray.on_ray.train import train_on_ray

    session = Session(store, terminal_progress, run=RaySlices(), paint=RayChunks(), train=train_on_ray)
    session.device = cluster_device()
    if compute_device() == CPU:  # banks on Ray are the CPUs' work: this process's GPU is not to wait for them
        session.order, session.search = RayOrders(), RaySearch()
    return session


def _say_progress(result: "TrialResult") -> None:
    found, images = result.detection, len(result.predictions.rows)
    told = f"image AUROC {found.auroc:.4f}" if found else f"scores of {images} images"
    print(f"{result.trial.name}, {result.category}: {told}", file=sys.stderr, flush=True)
