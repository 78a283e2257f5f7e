"""The docs site: Sphinx over the pages here, the docstrings, the configs' keys and the READMEs beside the code."""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))

from generated import write_pages  # noqa: E402

project = "exdd_ray"
author = "The exdd_ray maintainers"
copyright = f"2026, {author}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = project
exclude_patterns = ["_build"]
myst_heading_anchors = 3
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
suppress_warnings = ["ref.python"]  # names that several modules have, in types
_CODE = re.compile(r"(`[^`]*`)")


def setup(app: Any) -> None:
    """Write the pages that are made, and read docstrings as the code writes them."""
    app.connect("builder-inited", lambda _: write_pages(ROOT, DOCS / "_generated"))
    app.connect("autodoc-process-docstring", _escape, priority=100)
    app.connect("autodoc-process-signature", _no_signature_of_configs)
    app.connect("autodoc-skip-member", _skip)


def _escape(*event: Any) -> None:
    """Code in single backticks is a literal; what is a sign of reStructuredText is an ordinary one elsewhere."""
    lines: list[str] = event[-1]
    parts = _CODE.split("\n".join(lines))
    lines[:] = "".join(f"`{part}`" if part.startswith("`") else _plain(part) for part in parts).split("\n")


def _plain(part: str) -> str:
    return re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", re.sub(r"([*|\\])", r"\\\1", part))


def _no_signature_of_configs(*event: Any) -> tuple[str, None] | None:
    """A config's keys stand in its docstring."""
    documented = event[3]
    return ("", None) if inspect.isclass(documented) and issubclass(documented, BaseModel) else None


def _skip(*event: Any) -> bool:
    """Pydantic's own, beside what is skipped by default."""
    return event[4] or event[2] == "model_config"
