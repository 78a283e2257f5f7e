"""`exdd synth`: make an experiment's synthetic defects and look at them, without training."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exdd_ray.cli.run import KINDS, add_experiment, config_and_overrides

if TYPE_CHECKING:
    from exdd_ray.experiment.backend import Backend
    from exdd_ray.experiment.session import Session
    from exdd_ray.experiment.synth import SynthesisResult
    from exdd_ray.metrics.quality.config import QualityConfig
    from exdd_ray.metrics.quality.evaluate import QualityReport
    from exdd_ray.report.contact_sheet import SynthesisSet


def add_synth_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `synth` to the command line."""
    parser = subparsers.add_parser(
        "synth", help="make an experiment's synthetic defects and a contact sheet of them", add_help=False
    )
    add_experiment(parser, KINDS[::-1])
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="make them on a Ray cluster: `auto`, an address, or (alone) one started here",
    )
    parser.add_argument(
        "--quality",
        action="store_true",
        help="measure them against the dataset's real defects (the keys `quality.` say how)",
    )
    parser.add_argument("--wandb", metavar="PROJECT", help="upload them as a W&B table")
    parser.add_argument("--json", action="store_true", help="print the counts as one JSON object on the last line")
    parser.set_defaults(run=run_synth)


def run_synth(arguments: argparse.Namespace) -> int:
    """Make what is missing, print the counts, write `synthesis.html` and `samples.parquet`."""
    from exdd_ray.experiment.space import load_run
    from exdd_ray.runs import mark_latest, new_folder, require_free, require_lasting, write_whole

    loaded = load_run(*config_and_overrides(arguments, KINDS[::-1]))
    require_lasting(loaded.sweep.store, loaded.sweep.output)
    folder = new_folder(f"{loaded.sweep.name}-synthesis", loaded.overrides, loaded.sweep.output)
    require_free(folder)

    from exdd_ray.cli.progress import show_log, terminal_progress
    from exdd_ray.experiment.session import Session
    from exdd_ray.experiment.synth import run_syntheses, write_samples
    from exdd_ray.metrics.quality.config import QualityConfig
    from exdd_ray.metrics.quality.evaluate import check_quality
    from exdd_ray.report.contact_sheet import write_contact_sheet
    from exdd_ray.store.artifact import open_store
    from exdd_ray.tracking.synthesis import log_synthesis
    from exdd_ray.tracking.wandb_runs import tracking_mode

    mode = tracking_mode() if arguments.wandb else None
    quality = loaded.sweep.quality or (QualityConfig() if arguments.quality else None)
    if quality is not None:
        check_quality(quality)
    store = open_store(loaded.sweep.store)
    show_log("exdd_ray.training")
    session = Session(store, terminal_progress, _backend(arguments.ray))
    results = run_syntheses(loaded.trials, session)
    sets = [_shown(result, quality, session) for result in results]

    def write(into: Path) -> None:
        write_samples(into / "samples.parquet", results)
        write_contact_sheet(into / "synthesis.html", loaded.sweep.name, sets)

    folder = write_whole(folder, write)
    mark_latest(folder)
    for result, shown in zip(results, sets, strict=True):
        _print(result, shown)
    if arguments.wandb:
        for place in log_synthesis(arguments.wandb, loaded.sweep.name, sets, folder, mode):
            print(f"W&B: {place}")
    print(f"contact sheet: {folder / 'synthesis.html'}")
    if arguments.json:
        print(json.dumps(_counts(results)))
    return 0


def _backend(address: str | None) -> "Backend":
    from exdd_ray.experiment.backend import LOCAL

    if address is None:
        return LOCAL
    from exdd_ray.on_ray.backend import run_backend

    return run_backend(address)


def _shown(result: "SynthesisResult", quality: "QualityConfig | None", session: "Session") -> "SynthesisSet":
    from exdd_ray.report.contact_sheet import SynthesisSet, Timing

    config, fresh = result.trial.config, result.synthesis.fresh
    assert config.synthesizer is not None
    report, remarks = _measured(result, quality, session)
    return SynthesisSet(
        trial=result.trial.name,
        dataset=config.dataset.name,
        category=result.category,
        seed=config.seed,
        config=config.synthesizer,
        synthesis=result.synthesis,
        timing=Timing(fresh, result.seconds) if fresh else None,
        quality=report,
        remarks=result.remarks + remarks,
    )


def _measured(
    result: "SynthesisResult", quality: "QualityConfig | None", session: "Session"
) -> "tuple[QualityReport | None, tuple[str, ...]]":
    """The quality of the samples, or a remark that says why it could not be measured: the samples are good without."""
    from exdd_ray.errors import UserError

    try:
        return None if quality is None else result.quality(quality, session), ()
    except UserError as error:
        return None, (f"quality not measured: {error}",)


def _print(result: "SynthesisResult", shown: "SynthesisSet") -> None:
    synthesis = result.synthesis
    speed = f", {synthesis.fresh / result.seconds:.2f} images/s" if synthesis.fresh else ""
    made = f"{synthesis.fresh} made now in {result.seconds:.1f} s{speed}"
    print(f"{result.title}: {len(synthesis.samples)} samples ({made})")
    for part, its in synthesis.parts.items():
        dropped = f", {sum(its.dropped.values())} dropped" if its.dropped else ""
        lacking = f", {its.lacking} lacking" if its.lacking else ""
        print(f"  {part}: {len(its.samples)} samples{dropped}{lacking}")
    for figure in shown.quality.figures if shown.quality else ():
        of = f"{figure.n_synthetic} synthetic" + f" and {figure.n_real} real" * (figure.n_real > 0)
        print(f"  {figure.name}: {figure.value:.4g} ({of} images; {figure.note})")
    for remark in shown.remarks:
        print(f"note: {remark}")


def _counts(results: Sequence["SynthesisResult"]) -> dict[str, object]:
    return {
        "samples": sum(len(result.synthesis.samples) for result in results),
        "fresh": sum(result.synthesis.fresh for result in results),
        "dropped": sum(sum(result.synthesis.dropped.values()) for result in results),
        "seconds": round(sum(result.seconds for result in results), 2),
    }
