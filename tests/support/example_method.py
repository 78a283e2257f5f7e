"""A method as another package adds it: PaDiM under a name of its own."""

from dataclasses import replace
from typing import Literal

from exdd_ray.methods.padim.config import PadimConfig
from exdd_ray.methods.padim.method import METHOD as PADIM


class OtherConfig(PadimConfig):
    """Its config."""

    kind: Literal["other"] = "other"


METHOD = replace(PADIM, config=OtherConfig)
