"""The table of methods: those in this package, and those that installed packages add by an entry point.

An entry point of the group `exdd_ray.methods` names a `Method`, as `mine = "my_package.method:METHOD"`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from exdd_ray.config.systems import load_systems
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.methods.method import Method

# the first is what a config without a kind is
BUILT_IN = ("patch_bank", "padim", "classifier", "diffusionad", "localiser", "supersimplenet")


@cache
def methods() -> Mapping[str, Method[Any]]:
    """Every method by its kind. Raises ConfigError as `load_systems`."""
    return load_systems(Method, "exdd_ray.methods", BUILT_IN)


def method_of(config: DetectorConfig) -> Method[Any]:
    """The method that a config is of."""
    return methods()[config.kind]
