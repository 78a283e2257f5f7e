"""The table of methods: those in this package, and those that installed packages add by an entry point.

An entry point of the group `exdd_ray.methods` names a `Method`, as `mine = "my_package.method:METHOD"`.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from exdd_ray.errors import ConfigError
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.methods.method import Method

GROUP = "exdd_ray.methods"
BUILT_IN = ("patch_bank", "padim", "classifier", "diffusionad")  # the first is what a config without a kind is


@cache
def methods() -> Mapping[str, Method[Any]]:
    """Every method by its kind.

    Raises ConfigError for an entry point that is no method, or one that takes the name of another.
    """
    table = {name: _built_in(name) for name in BUILT_IN}
    for entry in entry_points(group=GROUP):
        method = entry.load()
        if not isinstance(method, Method):
            raise ConfigError(f"the entry point {entry.name} ({entry.value}) of {GROUP} is not a Method")
        if method.kind in table:
            raise ConfigError(f"the entry point {entry.name} ({entry.value}) is a second method {method.kind!r}")
        table[method.kind] = method
    return table


def method_of(config: DetectorConfig) -> Method[Any]:
    """The method that a config is of."""
    return methods()[config.kind]


def _built_in(name: str) -> Method[Any]:
    """That of a folder's `method`, or of a module alone."""
    module = import_module(f"exdd_ray.methods.{name}")
    method: Method[Any] = (import_module(f"{module.__name__}.method") if hasattr(module, "__path__") else module).METHOD
    return method
