"""`exdd track`: a sweep's results in W&B, TensorBoard and MLflow, after the sweep."""

import argparse
from pathlib import Path


def add_track_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `track` to the command line."""
    parser = subparsers.add_parser("track", help="log a sweep's results to trackers, upload offline runs")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    log = actions.add_parser("log", help="log the results (again); without options, to the trackers of the sweep")
    log.add_argument("--wandb", metavar="PROJECT", help="to this project of W&B")
    log.add_argument("--tensorboard", action="store_true", help="write event files into the folder")
    log.add_argument("--mlflow", metavar="URI", help="to this store: a server, or sqlite:///FILE")
    log.set_defaults(run=log_results)
    sync = actions.add_parser("sync", help="upload the W&B runs that stayed offline")
    sync.set_defaults(run=sync_runs)
    dashboard = actions.add_parser("dashboard", help="save a W&B workspace that compares the trials")
    dashboard.add_argument("--project", help="of W&B (default: the sweep's tracking.wandb)")
    dashboard.set_defaults(run=save_workspace)
    for action in actions.choices.values():
        action.add_argument("folder", type=Path, metavar="SWEEP_DIR", help="the results' folder of a sweep")


def log_results(arguments: argparse.Namespace) -> int:
    """Log to the trackers that the options name, or to those of the sweep's own config."""
    from exdd_ray.errors import ConfigError
    from exdd_ray.experiment.sweep_config import TrackingConfig
    from exdd_ray.report.sweep_data import read_sweep
    from exdd_ray.tracking.trackers import track_sweep

    asked = TrackingConfig(wandb=arguments.wandb, tensorboard=arguments.tensorboard, mlflow=arguments.mlflow)
    tracking = read_sweep(arguments.folder).config.tracking if asked == TrackingConfig() else asked
    if tracking == TrackingConfig():
        raise ConfigError("no tracker: say --wandb PROJECT, --tensorboard or --mlflow URI, or set the sweep's tracking")
    for place in track_sweep(arguments.folder, tracking):
        print(place)
    return 0


def sync_runs(arguments: argparse.Namespace) -> int:
    """Upload what stayed offline."""
    from exdd_ray.tracking.trackers import sync_sweep

    print(f"{sync_sweep(arguments.folder)} runs uploaded")
    return 0


def save_workspace(arguments: argparse.Namespace) -> int:
    """Save the workspace, print its address."""
    from exdd_ray.tracking.dashboard import save_dashboard

    print(f"dashboard: {save_dashboard(arguments.folder, arguments.project)}")
    return 0
