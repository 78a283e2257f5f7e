"""`exdd export`: a detector of a run or sweep as a folder for the line."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exdd_ray.report.sweep_data import Row, SweepFolder


def add_export_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `export` to the command line."""
    parser = subparsers.add_parser("export", help="write a detector of a run as a folder that scores images by itself")
    parser.add_argument("results", type=Path, metavar="RUN", help="results of a run or a sweep, as runs/<name>/latest")
    parser.add_argument("folder", type=Path, metavar="OUT", help="folder to be written")
    parser.add_argument("--trial", metavar="NAME", help="which of several")
    parser.add_argument("--category", metavar="NAME", help="which of several")
    parser.add_argument("--seed", type=int, metavar="N", help="which of several (default: the first)")
    parser.add_argument("--json", action="store_true", help="print what was written as one JSON object")
    parser.set_defaults(run=run_export)


def run_export(arguments: argparse.Namespace) -> int:
    """Choose the trial, write its detector, say what the proof found."""
    from exdd_ray.cli.progress import terminal_progress
    from exdd_ray.experiment.session import Session
    from exdd_ray.export.write import export
    from exdd_ray.report.sweep_data import read_sweep, read_trials
    from exdd_ray.store.artifact import open_store

    sweep = read_sweep(arguments.results)
    (result,) = read_trials(sweep, [_chosen(arguments, sweep)])
    session = Session(open_store(sweep.config.store), terminal_progress)
    manifest = export(result, arguments.folder, session)
    proof, threshold = manifest.proof, manifest.threshold
    print(
        f"{arguments.folder}: scores {proof['images']} test images as they were evaluated (largest relative difference "
        f"{proof['largest_difference']:.1e}, {proof['flips']} verdicts differ)"
    )
    if threshold is not None:
        print(f"threshold {threshold.value:.6g}: {threshold.rule}")
    if arguments.json:
        print(json.dumps({"folder": str(arguments.folder), "proof": manifest.proof}))
    return 0


def _chosen(arguments: argparse.Namespace, sweep: "SweepFolder") -> "Row":
    """The trial that is asked for. Raises ConfigError where it is none, or one of several."""
    from exdd_ray.errors import ConfigError

    rows = [row for row in sweep.rows if row["state"] == "done"]
    for option, key in (("trial", "name"), ("category", "category"), ("seed", "seed")):
        wanted = getattr(arguments, option)
        known = list(dict.fromkeys(row[key] for row in rows))
        if wanted is not None and wanted not in known:
            raise ConfigError(f"{arguments.results}: no {option} {wanted!r}: {', '.join(map(str, known))}")
        if wanted is None and len(known) > 1 and option != "seed":
            raise ConfigError(f"{arguments.results}: say which --{option}: {', '.join(map(str, known))}")
        rows = [row for row in rows if row[key] == (known[0] if wanted is None else wanted)] if known else []
    if not rows:
        raise ConfigError(f"{arguments.results}: no trial was done")
    return rows[0]
