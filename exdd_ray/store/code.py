"""Which code made a number: part of the key of what is made again in seconds."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path

from exdd_ray.errors import ConfigError

_OURS = __name__.partition(".")[0]


@cache
def code_digest(*names: str) -> str:
    """Hash of the source files of modules, of all modules of packages, and of what they import, others' packages aside.

    A comment counts as code does: what is made again for nothing costs seconds, what is not made again is wrong.

    Args:
        names: as `exdd_ray.experiment.trial`, or a package of somebody's own.

    Raises ConfigError for a name that is no module with a source.
    """
    found = hashlib.blake2b(digest_size=20)
    for name, path in sorted(code_of(*names).items()):
        found.update(f"{name}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def code_of(*names: str) -> dict[str, Path]:
    """The modules that `code_digest` hashes, by name, each with its file. Raises ConfigError as it does."""
    roots = {top: _root(top) for top in {_OURS, *(name.partition(".")[0] for name in names)}}
    found: dict[str, Path] = {}
    waiting = [module for name in names for module in _modules(name, roots)]
    while waiting:
        name = waiting.pop()
        path = _file(name, roots)
        if path is None or name in found:
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += _imports(ast.parse(path.read_text(encoding="utf-8")), package)
    return found


def _root(top: str) -> Path:
    """Where the file or folder of a top-level module lies."""
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        raise ConfigError(f"{top} is no module with a source file")
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


def _file(name: str, roots: dict[str, Path]) -> Path | None:
    """The source file of a module; None for what is no module, or one of another's package."""
    top, *parts = name.split(".")
    if top not in roots:
        return None
    place = roots[top].joinpath(*parts)
    files = [place, place.with_name(f"{place.name}.py"), place / "__init__.py"]
    return next((file for file in files if file.suffix == ".py" and file.is_file()), None)


def _modules(name: str, roots: dict[str, Path]) -> list[str]:
    """A module, or all modules of a package."""
    file = _file(name, roots)
    if file is None:
        raise ConfigError(f"{name} is no module with a source file")
    if file.name != "__init__.py":
        return [name]
    below = (path.relative_to(file.parent).with_suffix("") for path in file.parent.rglob("*.py"))
    return [".".join([name, *path.parts]).removesuffix(".__init__") for path in below]


def _imports(node: ast.AST, package: str) -> Iterator[str]:
    """Names that a module of a package imports, of modules or of what is in them; not those for type checkers alone."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = resolve_name("." * node.level + (node.module or ""), package)
        yield from (module, *(f"{module}.{alias.name}" for alias in node.names))
    elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        for other in node.orelse:
            yield from _imports(other, package)
    else:
        for below in ast.iter_child_nodes(node):
            yield from _imports(below, package)
