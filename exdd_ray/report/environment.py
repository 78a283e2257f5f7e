"""How all pages are rendered."""

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

from exdd_ray import __version__

if TYPE_CHECKING:
    from jinja2 import Environment


def page_environment() -> "Environment":
    """The templates of the pages: everything is escaped, and a name that is not there is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("exdd_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def versions() -> str:
    """Of what computed the results."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scikit-learn"))
    return f"exdd_ray {__version__}, Python {platform.python_version()}, {packages}"
