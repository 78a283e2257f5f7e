"""Trackers as views of a sweep's results folder: logged from its tables once it has ended, or again by hand later."""

import os
import subprocess
import sys
from pathlib import Path

from exdd_ray.errors import ConfigError, UserError
from exdd_ray.experiment.sweep_config import TrackingConfig
from exdd_ray.extras import require
from exdd_ray.tracking import mlflow, tensorboard, wandb_sweep
from exdd_ray.tracking.tracked import tracked_sweep
from exdd_ray.tracking.wandb_runs import Mode, tracking_mode


def check_tracking(tracking: TrackingConfig) -> Mode | None:
    """What can be known before hours of trials: a valid WANDB_MODE, the trackers installed.

    Returns:
        The mode of W&B's runs; None where there are to be none.

    Raises:
        ConfigError: an unknown mode, or a tracker is not installed.
    """
    if tracking.mlflow is not None:
        require("mlflow", "tracking.mlflow")
    return None if tracking.wandb is None else tracking_mode()


def track_sweep(folder: Path, tracking: TrackingConfig | None = None) -> tuple[str, ...]:
    """Log the results in a sweep's folder, once more where they have been; `tracking` replaces that of its config.

    Returns:
        A line for each tracker: where to look.

    Raises:
        ConfigError: no sweep's folder, or a tracker that is not installed or has no key.
        ArtifactError: results that are not there any more, or damaged.
        UserError: a tracker's server does not answer or refuses them.
    """
    sweep = tracked_sweep(folder)
    tracking = tracking or sweep.results.config.tracking
    mode = check_tracking(tracking)
    places = []
    if tracking.tensorboard:
        places.append(f"TensorBoard: {tensorboard.log_sweep(sweep)}")
    if tracking.mlflow is not None:
        places.append(f"MLflow: {mlflow.log_sweep(sweep, tracking.mlflow)}")
    if tracking.wandb is not None and (runs := wandb_sweep.log_sweep(sweep, tracking.wandb, mode)):
        places.append(f"W&B: {len(runs)} runs, summed up in {runs[-1]}")
    return tuple(places)


def sync_sweep(folder: Path) -> int:
    """Upload the offline runs of a sweep's folder that have not been, by wandb's own sync, which shows its progress.

    Returns:
        How many there were.

    Raises:
        ConfigError: no WANDB_API_KEY, or wandb is not installed.
        UserError: no offline run; the server refuses the key or does not answer; a run could not be uploaded.
    """
    if not os.environ.get("WANDB_API_KEY"):
        raise ConfigError("`exdd track sync` needs WANDB_API_KEY")
    require("wandb", "`exdd track sync`")
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    if not files:
        raise UserError(f"{folder / 'wandb'}: no offline run")
    waiting = [file for file in files if not _synced(file)]
    if waiting:
        _verify_key()
        command = [sys.executable, "-m", "wandb", "sync", *map(str, waiting)]
        subprocess.run(command, check=False)
    if left := [file for file in waiting if not _synced(file)]:
        raise UserError(f"{len(left)} of {len(waiting)} runs are not uploaded, as {left[0].parent}")
    return len(waiting)


def _synced(file: Path) -> bool:
    return file.with_name(f"{file.name}.synced").is_file()


def _verify_key() -> None:
    """Asks the server: wandb's sync would wait for one that is not there without an end."""
    import wandb

    try:
        wandb.login(prompt=False, verify=True)
    except wandb.errors.Error as error:
        raise UserError(f"wandb: {' '.join(str(error).split())}") from error
