"""Fine-tunings side by side: each of one process is a Ray task on its share of a node."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import ray
import torch
from ray.util.queue import Queue

from exdd_ray.device import CPU
from exdd_ray.errors import ConfigError, Fault, UserError, fault_of, told_of
from exdd_ray.on_ray.cluster import RESTARTS, most_of, one_line_errors, require_gpus
from exdd_ray.on_ray.log import told_to, workers_log
from exdd_ray.on_ray.train import train_on_ray
from exdd_ray.progress import Advance, Progress
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.fits import Fit
from exdd_ray.training.config import TrainConfig
from exdd_ray.training.device import device_of


def fine_tune_on_ray(fits: Sequence[Fit], store: Store, progress: Progress) -> list[Exception]:
    """Train on the connected cluster, whose nodes reach the store by its path; a FitRunner.

    Those of one process are side by side, as many at once as there is room for. On CPUs each has as many threads as it
    reserves, an equal share: with as many it would compute the same here, bit by bit, and with more than cores they
    would wait for each other. One whose worker is lost goes on in another. Those of several processes have the cluster
    to themselves, one after another, when the others are done.
    """
    wide = [fit for fit in fits if fit.config.workers > 1]
    narrow = [fit for fit in fits if fit.config.workers == 1]
    failed = _side_by_side(narrow, store, progress) if narrow else []
    for fit in wide:
        try:
            train_on_ray(partial(fit.train, store.again()), fit.config, store)
        except Exception as error:  # whatever it is, the others go on
            failed.append(error)
    return failed


def _side_by_side(fits: Sequence[Fit], store: Store, progress: Progress) -> list[Exception]:
    failed, running = list[Exception](), dict[Any, Fit]()
    with workers_log() as log, progress("fine-tuning", len(fits)) as advance:
        threads = max(1, int(most_of("CPU")) // len(fits))
        for fit in fits:
            try:
                running[_begin(fit, threads, store, log)] = fit
            except UserError as error:
                failed.append(error)
        advance(len(failed))
        return failed + _followed(running, advance)


def _begin(fit: Fit, threads: int, store: Store, log: Queue) -> Any:
    """A reference to why a fit failed, which is None where it did not. Raises UserError where no node has its share."""
    with told_of(fit.name):
        cpus, gpus = _share(fit.config, threads)
    task = ray.remote(_train).options(
        name=fit.name or "fine-tuning", num_cpus=cpus, num_gpus=gpus, max_retries=RESTARTS
    )
    return task.remote(fit, store.again(), threads, log)


def _train(fit: Fit, store: Store, threads: int, log: Queue) -> Fault | None:
    torch.set_num_threads(threads)
    try:
        with told_to(log, f"{fit.name}: " if fit.name else ""):
            replace(fit, name="").train(store)
    except Exception as error:  # not every error survives the way to the process that waits
        return fault_of(error)
    return None


def _followed(running: Mapping[Any, Fit], advance: Advance) -> list[Exception]:
    """The errors of those that failed, when all have ended."""
    failed, left = list[Exception](), list(running)
    try:
        while left:
            (ended,), left = ray.wait(left, num_returns=1)
            told = ": ".join(filter(None, (running[ended].name, "a worker cannot train")))
            try:
                with one_line_errors(told):
                    fault = ray.get(ended)
            except UserError as error:
                failed.append(error)
            else:
                failed += [fault.told(told)] if fault else []
            advance(1)
    finally:
        for one in left:
            ray.cancel(one, force=True)
    return failed


def _share(config: TrainConfig, threads: int) -> tuple[float, float]:
    """CPUs and GPUs that a training reserves. Raises UserError for more than a node has: it would wait for ever."""
    on_cpu, most = device_of(config) == CPU, most_of("CPU")
    gpus = 0.0 if on_cpu else config.gpus
    require_gpus(gpus, "training")
    cpus = config.cpus or (threads if on_cpu else 1)
    if cpus > most:
        raise ConfigError(f"training.cpus={cpus:g}: no node of the Ray cluster has more than {most:g}")
    return cpus, gpus
