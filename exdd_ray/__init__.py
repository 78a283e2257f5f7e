"""Surface-defect detection experiments: make defects, model normality and defects, find out what works.

Nothing heavy is imported until one of the names is asked for; Ray is not before something runs on a cluster.

    >>> from exdd_ray import Experiment, run
    >>> run(Experiment())  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exdd_ray.api import detector, fit, load_config, load_sweep, run, sweep, synthesizer
    from exdd_ray.data.config import DatasetConfig as Dataset
    from exdd_ray.data.datasets import load_dataset
    from exdd_ray.experiment.config import ExperimentConfig as Experiment
    from exdd_ray.report.results import Results, read_results
    from exdd_ray.store.artifact import open_store

__version__ = "0.1.0"
__all__ = [
    "Dataset",
    "Experiment",
    "Results",
    "detector",
    "fit",
    "load_config",
    "load_dataset",
    "load_sweep",
    "open_store",
    "read_results",
    "run",
    "sweep",
    "synthesizer",
]
_HOMES = {
    "Dataset": "data.config:DatasetConfig",
    "Experiment": "experiment.config:ExperimentConfig",
    "Results": "report.results:Results",
    "load_dataset": "data.datasets:load_dataset",
    "open_store": "store.artifact:open_store",
    "read_results": "report.results:read_results",
}


def __getattr__(name: str) -> object:
    """One of the names above, from where it lives."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES.get(name, f"api:{name}").partition(":")
    found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found


def __dir__() -> list[str]:
    return [*globals(), *__all__]
