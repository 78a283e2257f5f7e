"""Packages that a user can do without: each comes with an extra, and is asked for before hours of work."""

from importlib.util import find_spec

from exdd_ray.errors import ConfigError

EXTRAS = {
    "faiss": "faiss",
    "lpips": "quality",
    "mlflow": "mlflow",
    "optuna": "optuna",
    "timm": "timm",
    "torch_fidelity": "quality",
    "wandb": "wandb",
    "wandb_workspaces": "dashboard",
}


def require(package: str, what: str) -> None:
    """Raise ConfigError where a package is not installed; its line names the extra that brings it.

    Args:
        package: a key of EXTRAS, as it is imported.
        what: needs it, as `tracking.mlflow`.
    """
    if find_spec(package) is None:
        extra = EXTRAS[package]
        raise ConfigError(f"{what} needs exdd_ray[{extra}]: pip install 'exdd-ray[{extra}]'")
