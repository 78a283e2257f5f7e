"""Figures that others have published, to be printed beside what is measured here."""

from typing import Any

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen
from exdd_ray.metrics.table import MEASURED


class PublishedConfig(Frozen):
    """A published figure. It is printed beside ours, marked as what it is, and is no part of any key.

    Attributes:
        metric: as `image_ap`.
        value: of the metric; a share between 0 and 1 where it is one.
        std: standard deviation over runs; None where none was told.
        source: where it was published: paper, table, row.
        of: dotted keys and values of the experiments that it is beside, `variant` among them; empty for all.
    """

    metric: str
    value: float
    std: float | None = Field(None, ge=0)
    source: str = Field(min_length=1)
    of: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _of_a_metric(self) -> "PublishedConfig":
        known = {metric.key: metric for metric in MEASURED}
        if self.metric not in known:
            raise ValueError(f"no metric is called {self.metric!r}; there are {', '.join(known)}")
        if known[self.metric].percent and not 0 <= self.value <= 1:
            raise ValueError(f"{self.metric} is a share between 0 and 1, not {self.value:g}")
        return self
