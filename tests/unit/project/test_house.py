"""The shape of the package: what a method or a synthesizer is made of is known in its own folder alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "exdd_ray"


def folders(family):
    return sorted(path.parent.name for path in (ROOT / family).glob("*/__init__.py"))


def imported(path):
    """Modules that a file imports from, with the names that it takes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def leaks(family):
    """Files that import the config or the value of one of a family's folders, and lie outside it."""
    found = []
    for name in folders(family):
        own, package = ROOT / family / name, f"exdd_ray.{family}.{name}"
        files = (path for path in ROOT.rglob("*.py") if own not in path.parents)
        for path in files:
            found += [
                f"{path.relative_to(ROOT)}: {module}.{taken}"
                for module, taken in imported(path)
                if f"{module}.{taken}".startswith((f"{package}.config", f"{package}.{family.removesuffix('s')}"))
            ]
    return found


@pytest.mark.parametrize("family", ["methods"])
def test_no_other_module_names_one(family):
    assert len(folders(family)) >= 3
    assert not leaks(family)


@pytest.mark.parametrize("family", ["methods", "synthesizers"])
def test_what_runs_experiments_knows_none(family):
    """One may build on another, as DiffusionAD does on per-region synthesis; nothing else takes anything from one."""
    systems = [ROOT / kind / name for kind in ("methods", "synthesizers") for name in folders(kind)]
    files = [path for path in ROOT.rglob("*.py") if not set(systems) & set(path.parents)]
    own = tuple(f"exdd_ray.{family}.{name}" for name in folders(family))
    assert len(own) >= 3
    assert len(files) > 100
    assert not [(path.name, module) for path in files for module, _ in imported(path) if module.startswith(own)]
