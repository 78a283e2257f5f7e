"""Modules that know a concrete system: a detector or a synthesizer is named in its own folder alone.

One system may build on another, as DiffusionAD trains on per-region synthesis: that is told apart. Of the standard
library alone, so that a test reads it as well.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "exdd_ray"
HOUSES = ("methods", "synthesizers")  # a folder in them with a `method.py` or a `synthesizer.py` is one system


def leaks(package: Path = PACKAGE) -> dict[str, list[str]]:
    """Each module of no system that names some, by its path -> the systems, as `methods/classifier`."""
    return {place: named for place, named in _named(package).items() if not _of_a_system(place, package)}


def builds_on(package: Path = PACKAGE) -> dict[str, list[str]]:
    """Each module of a system that names others, by its path -> these."""
    return {place: named for place, named in _named(package).items() if _of_a_system(place, package)}


def _of_a_system(place: str, package: Path) -> bool:
    return any(place.startswith(f"{system}/") for system in _systems(package))


def _systems(package: Path) -> list[str]:
    return [
        f"{house}/{path.parent.name}"
        for house in HOUSES
        for path in sorted(package.glob(f"{house}/*/{house.removesuffix('s')}.py"))
    ]


def _named(package: Path) -> dict[str, list[str]]:
    """Each module that names systems of which it is no part.

    A module names a system by an import, or by its kind as what it compares with or looks up in a dict. A synthesizer's
    preset may be called as a detector is, so that in the houses imports alone count.
    """
    systems = _systems(package)
    found = {}
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package).as_posix()
        tree = ast.parse(file.read_text(encoding="utf-8"))
        named = {system for system in systems for module in _imports(tree) if _lies_in(module, system)}
        if not place.startswith(HOUSES):
            named |= {system for system in systems for kind in _kinds(tree) if kind == system.rpartition("/")[2]}
        foreign = sorted(system for system in named if not place.startswith(f"{system}/"))
        if foreign and place not in {f"{house}/table.py" for house in HOUSES}:
            found[place] = foreign
    return found


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _lies_in(module: str, system: str) -> bool:
    return module.split(".")[1:3] == system.split("/")


def _kinds(tree: ast.AST) -> Iterator[object]:
    """What is compared with, matched against, or a key of a dict."""
    for node in ast.walk(tree):
        compared: Sequence[ast.AST | None] = ()
        if isinstance(node, ast.Compare):
            compared = (node.left, *node.comparators)
        elif isinstance(node, ast.MatchValue):
            compared = (node.value,)
        elif isinstance(node, ast.Dict):
            compared = node.keys
        for part in compared:
            yield from (one.value for one in ast.walk(part) if isinstance(one, ast.Constant)) if part else ()


if __name__ == "__main__":
    print("\n".join(f"{place}: {', '.join(systems)}" for place, systems in leaks().items()))
