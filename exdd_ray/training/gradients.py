"""The gradients of one step: a batch in micro-batches, halved when memory runs out, shared between processes."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from exdd_ray.device import out_of_memory
from exdd_ray.store.hashes import digest
from exdd_ray.training.learner import Learner, Sample, TrainingError

if TYPE_CHECKING:
    from accelerate import Accelerator

_log = logging.getLogger(__name__)


def accumulate(accelerator: "Accelerator", learner: Learner[Sample], step: int, micro_batch: int) -> tuple[float, int]:
    """Leave the gradients of the mean loss over a step's batch in the parameters.

    Out of memory, the micro-batch is halved and the step begins again: its batch stays what it is.

    Returns:
        The loss, and the micro-batch now in use.

    Raises:
        TrainingError: a loss or gradient that is not finite; not enough memory for a micro-batch of one; BatchNorm that
            sees a single value.
    """
    from accelerate.utils.memory import clear_device_cache

    samples = learner.draw(step)
    buffers = _buffers(learner)
    while True:
        torch.manual_seed(_step_seed(learner.seed, step, accelerator.process_index))
        try:
            loss = _in_micro_batches(accelerator, learner, samples, step, micro_batch)
            break
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise TrainingError(
                f"step {step}: BatchNorm has a single value to learn from: take another batch or larger images, or set "
                "detector.batchnorm=frozen where there is such a key"
            ) from error
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if micro_batch == 1:
                raise TrainingError(
                    f"step {step}: out of memory with a micro-batch of one image: lower the size of the images"
                ) from error
        micro_batch = (min(micro_batch, len(samples)) + 1) // 2
        _log.warning("step %d: out of memory: micro-batches of %d from now on, batch unchanged", step, micro_batch)
        clear_device_cache(garbage_collection=True)
        for buffer, before in buffers:
            buffer.copy_(before)
    return _shared(accelerator, learner, loss, step), micro_batch


@contextmanager
def no_memory_for(what: str, remedy: str = "lower the size of the images, or of the network") -> Iterator[None]:
    """Raises TrainingError for lack of memory."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(f"{what}: out of memory: {remedy}") from error


def parameters_of(learner: Learner[Sample]) -> list[Tensor]:
    """All that the optimisers change."""
    groups = (group for optimizer in learner.optimizers for group in optimizer.param_groups)
    return [parameter for group in groups for parameter in group["params"]]


def _in_micro_batches(
    accelerator: "Accelerator", learner: Learner[Sample], samples: Sequence[Sample], step: int, micro_batch: int
) -> Tensor:
    for module in learner.modules.values():
        module.zero_grad(set_to_none=True)
    own = samples[accelerator.process_index :: accelerator.num_processes]
    total = torch.zeros((), device=accelerator.device)
    for start in range(0, len(own), micro_batch):
        part = own[start : start + micro_batch]
        with accelerator.autocast():
            loss = learner.loss(part, step) * (len(part) / len(samples))
        if not math.isfinite(loss.item()):
            raise TrainingError(f"step {step}: the loss is {loss.item()}")
        accelerator.backward(loss)
        total += loss.detach()
    return total


def _shared(accelerator: "Accelerator", learner: Learner[Sample], loss: Tensor, step: int) -> float:
    """The loss of all processes, after summing their gradients."""
    parameters = parameters_of(learner)
    if accelerator.num_processes > 1:
        loss = accelerator.reduce(loss, reduction="sum")
        for parameter in parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = accelerator.reduce(gradient, reduction="sum")
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not bool(torch.isfinite(get_total_norm(gradients))):
        raise TrainingError(f"step {step}: a gradient is not finite (the loss is {loss.item():g})")
    return float(loss)


def _step_seed(seed: int, step: int, process: int) -> int:
    return int(digest([seed, step, process])[:15], 16)


def _buffers(learner: Learner[Sample]) -> list[tuple[Tensor, Tensor]]:
    """Buffers and what they hold: the running statistics that a micro-batch changes."""
    return [(buffer, buffer.clone()) for module in learner.modules.values() for buffer in module.buffers()]
