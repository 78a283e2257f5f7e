"""Config of the training loop."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen


class TrainConfig(Frozen):
    """How networks are trained.

    Attributes:
        batch: samples of a step (the effective batch).
        micro_batch: samples that the device holds at once, their gradients summed; None takes the whole batch. Halved,
            and said so, when the device runs out of memory. BatchNorm, where it trains, sees micro-batches.
        checkpoint_every: steps between two checkpoints.
        validate_every: steps between two validations, where there is something to validate on.
        precision: of the forward pass; the weights are float32.
        device: `auto` takes CUDA where it is.
        workers: processes that share every batch; more than one needs a Ray cluster. BatchNorm, where it trains, sees
            their shares.
        cpus: that a process reserves of a Ray cluster; None is as many as it has threads, on CUDA one.
        gpus: that a process on CUDA reserves of a Ray cluster; a fraction shares one.
        max_grad_norm: of a step's gradients, which are scaled down to it; None leaves them.
        ema: decay of an exponential moving average of the weights, which is then what is validated and used.
    """

    batch: int = Field(32, ge=1)
    micro_batch: int | None = Field(None, ge=1)
    checkpoint_every: int = Field(200, ge=1)
    validate_every: int = Field(200, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = Field(1, ge=1)
    cpus: float | None = Field(None, gt=0)
    gpus: float = Field(1.0, gt=0)
    max_grad_norm: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _batch_can_be_parted(self) -> "TrainConfig":
        if self.micro_batch is not None and self.micro_batch > self.batch:
            raise ValueError(f"micro_batch {self.micro_batch} is larger than batch {self.batch}")
        if self.workers > self.batch:
            raise ValueError(f"{self.workers} workers cannot share a batch of {self.batch}")
        return self

    def aside(self) -> Iterator[str]:
        """How often a run is saved, what it reserves; and the device, of which a key names the one that `auto` is."""
        yield from ("checkpoint_every", "device", "cpus", "gpus")
