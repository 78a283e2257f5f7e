"""Trained networks as artifacts of the store: trained once, a killed run goes on."""

import fcntl
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from exdd_ray.config.base import identity
from exdd_ray.device import CPU
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Artifact, Recipe, Store
from exdd_ray.training.checkpoint import WEIGHTS, read_modules, write_modules
from exdd_ray.training.config import TrainConfig
from exdd_ray.training.device import device_of
from exdd_ray.training.learner import Learner, Sample, Value
from exdd_ray.training.loop import TrainResult, train
from exdd_ray.training.processes import from_first, is_first, wait_for_all

LOSSES = "losses.json"
_log = logging.getLogger(__name__)


def trained(
    learner: Learner[Sample],
    steps: int,
    *,
    config: TrainConfig,
    recipe: Recipe,
    store: Store,
    validate: Callable[[], Value] | None = None,
    keep_latest: bool = False,
    describe: Callable[[], Mapping[str, Any]] | None = None,
    collect: Callable[[Path, Path], None] | None = None,
    progress: Progress = silent,
    remote: Callable[[], None] | None = None,
) -> Artifact:
    """The trained modules of a recipe: found in the store, or trained; they hold the chosen weights on return.

    A run that is cut off leaves its checkpoints in the store's `unfinished` folder, and the next one goes on from them.
    A second process that wants the same recipe waits for the first. Where the processes of a distributed run call this
    together, they train together, and the first one writes.

    Args:
        validate, keep_latest: as in `train`.
        recipe: must name all that the result depends on, the steps too: `training_recipe` has the loop's part.
        describe: what else the artifact's metadata shall hold, found with the chosen weights.
        collect: writes what else the artifact shall hold, given its folder and that of the checkpoints, of which all
            are then kept until the run is done.
        remote: makes what the store lacks, in other processes; None is this one, or those that call this together.
    """
    if remote is not None and store.find(recipe.key) is None:
        remote()
    checkpoints = store.root / "unfinished" / recipe.key

    def run() -> TrainResult:
        return train(
            learner,
            steps,
            config=config,
            checkpoints=checkpoints,
            validate=validate,
            keep_latest=keep_latest,
            keep_all=collect is not None,
            progress=progress,
        )

    def build(folder: Path) -> Mapping[str, Any]:
        result = run()
        write_modules(folder / WEIGHTS, learner.modules)
        if collect is not None:
            collect(folder, checkpoints)
        (folder / LOSSES).write_text(json.dumps(result.losses), encoding="utf-8")
        chosen = {"steps": steps, "best_step": result.best_step, "best_value": result.best_value}
        return {**chosen, "micro_batch": result.micro_batch, **(describe() if describe else {})}

    if from_first(store.find(recipe.key) is None):
        _make_together(recipe, store, checkpoints, build, run)
    found = store.make(recipe, build)
    restore(found, learner.modules)
    return found


def _make_together(
    recipe: Recipe,
    store: Store,
    checkpoints: Path,
    build: Callable[[Path], Mapping[str, Any]],
    run: Callable[[], object],
) -> None:
    """The first of the processes that call this makes the artifact, unless another run has; all of them train."""
    with _alone(checkpoints) if is_first() else nullcontext():
        missing = from_first(store.find(recipe.key) is None)
        if is_first():
            store.make(recipe, build)
            shutil.rmtree(checkpoints, ignore_errors=True)
        elif missing:
            run()
        wait_for_all()


def restore(artifact: Artifact, modules: Mapping[str, nn.Module]) -> None:
    """Fill networks from a trained artifact, and put them in evaluation mode. Raises TrainingError for other ones."""
    read_modules(artifact.file(WEIGHTS), modules)
    for module in modules.values():
        module.eval()


def memory_remark(artifact: Artifact, config: TrainConfig) -> tuple[str, ...]:
    """The remark on a training that had to halve its micro-batches."""
    asked, used = config.micro_batch or config.batch, artifact.metadata["micro_batch"]
    said = f"out of memory: trained with micro-batches of {used}, not {asked}; the batch is unchanged"
    return (said,) * (used < asked)


def training_recipe(config: TrainConfig) -> dict[str, Any]:
    """The part of a recipe that the loop's config is."""
    device = device_of(config)
    return {**identity(config), **({} if device == CPU else {"device": device})}


@contextmanager
def _alone(checkpoints: Path) -> Iterator[None]:
    """Holds the lock of a run, which the system frees when the process ends, however it ends."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    lock = checkpoints.with_name(f"{checkpoints.name}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("another process trains the same model: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
