"""Config of how predictions are measured."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from exdd_ray.config.base import Frozen


class EvaluationConfig(Frozen):
    """What is measured.

    Attributes:
        resolution: pixel metrics at the network's `input` size (as published ones are), or each image's `native` one.
        mask_resize: `nearest`, or `eroded` (bilinear, by way of the working size, only full pixels kept: as released
            with ExDD and with DiffusionAD).
        fpr_limit: of the area under the per-region overlap.
        false_alarm_rate: share of the normal images that may be called defective, where recall is measured at it.
        bootstrap: resamples behind the intervals of the image metrics.
    """

    resolution: Literal["input", "native"] = "input"
    mask_resize: Literal["nearest", "eroded"] = "nearest"
    fpr_limit: float = Field(0.3, gt=0, le=1)
    false_alarm_rate: float = Field(0.05, gt=0, lt=1)
    bootstrap: int = Field(1000, ge=0)

    def aside(self) -> Iterator[str]:
        """What the resolution does not use."""
        if self.resolution == "native":
            yield "mask_resize"


STANDARD = EvaluationConfig()
