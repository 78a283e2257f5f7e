"""Systems by name: those of a package of this project, and those that installed packages add by an entry point."""

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, TypeVar

from exdd_ray.errors import ConfigError, one_line


class System(Protocol):
    """What a system is known by."""

    @property
    def kind(self) -> str:
        """Its name in configs."""


S = TypeVar("S", bound=System)


def load_systems(of: type[S], package: str, built_in: Sequence[str]) -> dict[str, S]:
    """Every system of a class by its kind, the package's own first.

    Args:
        of: the class, as Method; a system is METHOD in `method.py` of its folder, or in a module alone.
        package: that holds them, and the group of the entry points.
        built_in: names of the package's folders and modules.

    Raises ConfigError for an entry point that is no such system, cannot be loaded, or takes the name of another.
    """
    table = {name: _built_in(of, f"{package}.{name}") for name in built_in}
    for entry in entry_points(group=package):
        found, where = _loaded(entry), f"the entry point {entry.name} ({entry.value}) of {package}"
        if not isinstance(found, of):
            raise ConfigError(f"{where} is not a {of.__name__}")
        if found.kind in table:
            raise ConfigError(f"{where} is a second {found.kind!r}")
        table[found.kind] = found
    return table


def _built_in(of: type[S], name: str) -> S:
    module = import_module(name)
    home = import_module(f"{name}.{of.__name__.lower()}") if hasattr(module, "__path__") else module
    system: S = getattr(home, of.__name__.upper())
    return system


def _loaded(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:  # of another package's code
        raise ConfigError(
            f"the entry point {entry.name} ({entry.value}) cannot be loaded: {one_line(error)}"
        ) from error
