"""`exdd advise`: which detector, how many labels, and whether to synthesise, for a folder of one's own images."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exdd_ray.advice.advise import Advice
    from exdd_ray.experiment.run_plan import Outcome

_MINUTES = 10.0
_SEEDS = 5


def add_advise_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `advise` to the command line."""
    parser = subparsers.add_parser("advise", help="find out what helps on a folder of your images, within a time")
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of good and defective images")
    parser.add_argument("--minutes", type=float, default=_MINUTES, metavar="M", help=f"to take (default: {_MINUTES:g})")
    parser.add_argument("--seeds", type=int, default=_SEEDS, metavar="N", help=f"draws of images (default: {_SEEDS})")
    parser.add_argument(
        "--config",
        metavar="FILE",
        default="default",
        help="what is compared: a file, or `default` or `transformer` (configs/advice)",
    )
    parser.add_argument("--store", default="store", metavar="DIR", help="of the artifacts (default: store)")
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object on the last line")
    parser.set_defaults(run=run_advise)


def run_advise(arguments: argparse.Namespace) -> int:
    """Run what the time allows, print table and answer, write the results' folder."""
    from exdd_ray.advice.advise import advise
    from exdd_ray.advice.candidates import read_advice_config
    from exdd_ray.cli.progress import terminal_progress
    from exdd_ray.errors import ConfigError
    from exdd_ray.experiment.session import Session
    from exdd_ray.store.artifact import open_store

    if not arguments.minutes > 0 or arguments.seeds < 1:
        raise ConfigError("--minutes is above 0, and --seeds at least 1")
    session = Session(open_store(arguments.store), terminal_progress)
    root, config = arguments.root.expanduser().absolute(), read_advice_config(arguments.config)
    found = advise(root, config, 60 * arguments.minutes, arguments.seeds, session, _say)
    if found.compared is not None:
        _print_table(found)
    for sentence in found.answer:
        print(f"\n{sentence}")
    print(f"\nTo go on: {found.command}")
    if (folder := _write(found)) is not None:
        print(f"\nresults: {folder}")
    if arguments.json:
        print(json.dumps(_digest(found)))
    return 0


def _say(outcome: "Outcome") -> None:
    from exdd_ray.advice.compare import METRIC
    from exdd_ray.metrics.table import METRICS, on_validation

    planned, artifact = outcome.planned, outcome.artifact
    if artifact is None:
        told = f"failed: {outcome.error}"
    else:
        told = f"image AUROC {artifact.metadata[on_validation(METRICS[METRIC])]:.3f}"
    print(f"seed {planned.trial.config.seed}, {planned.point.name}: {told}", file=sys.stderr, flush=True)


def _print_table(found: "Advice") -> None:
    from rich.console import Console
    from rich.table import Table

    from exdd_ray.advice.words import gain, with_half

    assert found.compared is not None
    compared = found.compared
    against = compared.apart(compared.candidates[0])
    seconds = {row["name"]: row["seconds"] for row in compared.trials.to_pylist() if row["seconds"] is not None}
    table = Table("candidate", "seeds", "image AUROC", f"less that of {compared.candidates[0].name}", "seconds")
    for one in compared.candidates:
        mean, apart = compared.means[one.name], against.get(one.name)
        row = (str(mean.runs), with_half(mean), gain(apart) if apart else "", f"{seconds[one.name]:.1f}")
        table.add_row(one.name, *row, style="bold" if one is found.chosen else None)
    Console().print(table)


def _write(found: "Advice") -> Path | None:
    """The folder of the results: tables as a sweep's, and the answer."""
    from exdd_ray.experiment.sweep_results import results_folder, write_results
    from exdd_ray.runs import mark_latest

    if found.results is None:
        return None
    folder = results_folder(found.results.loaded)
    write_results(folder, found.results)
    (folder / "advice.md").write_text(
        "\n\n".join((*found.answer, f"To go on: `{found.command}`")) + "\n", encoding="utf-8"
    )
    mark_latest(folder)
    return folder


def _digest(found: "Advice") -> dict[str, object]:
    means = {name: mean.value for name, mean in found.compared.means.items()} if found.compared else {}
    chosen = found.chosen.name if found.chosen else None
    cost = asdict(found.cost) if found.cost else None
    return {
        "chosen": chosen,
        "image_auroc": means,
        "cost": cost,
        "command": found.command,
        "answer": list(found.answer),
    }
