"""What is trained: networks, optimisers, the samples of a step and their loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from exdd_ray.errors import DataError, UserError

Sample = TypeVar("Sample")
Value = float | tuple[float, ...]  # of networks that are validated; higher is better


class TrainingError(UserError):
    """Training that cannot go on: a loss that is not finite, no memory, a checkpoint of something else."""


@dataclass(frozen=True)
class Learner(Generic[Sample]):
    """What is trained. Everything random in it follows from the step's number, so that a killed run can go on.

    Attributes:
        modules: name -> network; their parameters and buffers are the checkpoint. Before each step they are set to
            training mode; a loss that wants a part in evaluation mode sets it itself.
        optimizers: stepped once a step, in this order.
        schedulers: of the optimisers, in their order; None for a constant rate.
        draw: step, from 0 -> samples of the step (the effective batch).
        loss: (samples of a micro-batch, step) -> scalar, the mean over that micro-batch. Its noise comes from
            generators seeded by the step and the sample, so that micro-batching changes nothing; the global generator
            is seeded at each step, for layers as dropout.
        seed: of the global generator.
    """

    modules: Mapping[str, nn.Module]
    optimizers: Sequence[Optimizer]
    schedulers: Sequence[LRScheduler | None]
    draw: Callable[[int], Sequence[Sample]]
    loss: Callable[[Sequence[Sample], int], Tensor]
    seed: int = 0


@dataclass(frozen=True)
class ShuffledBatches:
    """Positions of the samples of each step: all of `count` once an epoch, in an order of the epoch's own.

    Attributes:
        count: samples there are.
        batch: samples of a step.
        seed: of the orders.
        drop_last: whether an epoch leaves out what does not fill a batch.

    Raises:
        DataError: fewer samples than a batch.
    """

    count: int
    batch: int
    seed: int
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.count < self.batch:
            raise DataError(f"{self.count} training images are fewer than a batch of {self.batch}: lower the batch")

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.count // self.batch if self.drop_last else -(-self.count // self.batch)

    def __call__(self, step: int) -> np.ndarray:
        """Positions [batch] of a step's samples; fewer at the end of an epoch unless it is dropped."""
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        return order[place * self.batch : (place + 1) * self.batch]
