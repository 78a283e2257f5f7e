"""What a method gives of a fitted detector for it to leave the lab."""

from dataclasses import dataclass

from torch import nn

from exdd_ray.line.geometry import Geometry


@dataclass(frozen=True)
class Portable:
    """A detector as one module.

    Attributes:
        module: from prepared images [B x 3 x h x w] to scores [B] and anomaly maps [B x h x w].
        geometry: how images are prepared.
        size: (h, w).
    """

    module: nn.Module
    geometry: Geometry
    size: tuple[int, int]
