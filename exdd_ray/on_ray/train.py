"""Training on Ray Train: the loop of one process in every worker, each with its share of a batch."""

import logging
import os
import shutil
from collections.abc import Callable
from functools import partial

import ray.train
import torch
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue

from exdd_ray.device import CUDA
from exdd_ray.errors import Fault, UserError, fault_of
from exdd_ray.on_ray.cluster import one_thread_workers, require_gpu
from exdd_ray.on_ray.log import told_to, workers_log
from exdd_ray.store.artifact import Store
from exdd_ray.training.config import TrainConfig
from exdd_ray.training.device import device_of


def train_on_ray(fit: Callable[[], object], config: TrainConfig, store: Store) -> None:
    """Call a fit in `config.workers` workers at once, which train together; a Trainer for a session.

    What they train is then in the store, which every worker reaches by its path. The threads of this process are shared
    out among the workers, so that a single one computes what this process would, bit by bit. A run that was cut off
    goes on. Losses, rates and warnings of the first worker are logged here as they come.

    Raises UserError, on one line, for what a worker cannot do, or a GPU that the cluster does not have.
    """
    device = device_of(config)
    require_gpu(device)
    cpus = config.cpus or one_thread_workers(config.workers)[1]
    gpus = {"GPU": config.gpus} if device == CUDA else {}
    threads = max(1, torch.get_num_threads() // config.workers)
    place = store.root.resolve() / "unfinished" / f"ray-train-{os.getpid()}"

    scaling = ray.train.ScalingConfig(
        num_workers=config.workers, use_gpu=device == CUDA, resources_per_worker={"CPU": cpus, **gpus}
    )
    try:
        with workers_log() as log:
            TorchTrainer(
                partial(_work, fit, threads),
                train_loop_config={"log": log},
                scaling_config=scaling,
                run_config=ray.train.RunConfig(name="fit", storage_path=str(place)),
            ).fit()
    except ray.train.WorkerGroupError as error:
        raise _fault(error).told("a worker cannot train") from error
    except ray.train.ControllerError as error:
        raise fault_of(error.controller_failure).told("training on Ray failed") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _work(fit: Callable[[], object], threads: int, given: dict[str, Queue]) -> None:
    torch.set_num_threads(threads)
    first = ray.train.get_context().get_world_rank() == 0
    try:
        with told_to(given["log"], level=logging.INFO if first else logging.WARNING):
            fit()
    except Exception as error:  # not every error survives the way to the process that waits
        fault = fault_of(error)
        told = UserError(fault.line)
        told.trace = fault.trace
        raise told from error


def _fault(error: ray.train.WorkerGroupError) -> Fault:
    """The user's error among the workers' failures; the others may only have lost a worker."""
    causes = [getattr(failure, "_base_exc", failure) for failure in error.worker_failures.values()]
    return fault_of(next((cause for cause in causes if isinstance(cause, UserError)), causes[0]))
