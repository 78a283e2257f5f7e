"""Pages made of the code: all keys, datasets, every package's API, and the READMEs of methods and synthesizers."""

import inspect
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

PACKAGES = (
    "data",
    "features",
    "banks",
    "methods",
    "synthesizers",
    "training",
    "metrics",
    "store",
    "config",
    "experiment",
    "report",
    "tracking",
    "on_ray",
)


def write_pages(root: Path, folder: Path) -> None:
    """Write all of them into a folder, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = {
        "keys": "\n".join(_keys()),
        "datasets": "\n".join(_datasets()),
        **{f"api/{name}": _api(root, name) for name in PACKAGES},
    }
    readmes = {f"{path.parent.parent.name}/{path.parent.name}": path for path in root.glob("exdd_ray/*/*/README.md")}
    pages |= {name: _included(path, folder / name) for name, path in readmes.items()}
    pages["systems"] = "\n".join(["# Methods and synthesizers\n", "```{toctree}", *sorted(readmes), "```\n"])
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def _included(path: Path, page: Path) -> str:
    return f"```{{include}} {os.path.relpath(path, page.parent)}\n```\n"


def _api(root: Path, name: str) -> str:
    """A package's page: what each of its modules has for others."""
    package = root / "exdd_ray" / name
    modules = [path.relative_to(root).with_suffix("") for path in sorted(package.rglob("*.py"))]
    shown = [".".join(path.parts).removesuffix(".__init__") for path in modules if path.name != "__main__"]
    blocks = [f"## {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```\n" for module in shown]
    return "\n".join([f"# exdd_ray.{name}\n", *blocks])


def _keys() -> Iterator[str]:
    """Every key with its default, what it may be and what it means, by the group that it is in."""
    from exdd_ray.config.keys import Key, list_keys
    from exdd_ray.experiment.sweep_config import SweepConfig

    yield (
        "# All keys\n\nMade of the configs' docstrings; `exdd run --help KEY` prints the same. Any unambiguous ending "
        "of a key will do on the command line and in `grid:`, `space:` and `variants:`; values are YAML.\n"
    )
    groups: dict[str, list[Key]] = {}
    for key in list_keys(SweepConfig):
        head = key.path.partition(".")[0] if "." in key.path else "run and sweep"
        groups.setdefault(f"{head} ({key.kind})" if key.kind else head, []).append(key)
    for title, keys in groups.items():
        yield f"\n## {title}\n\n| key | default | what |\n|---|---|---|"
        yield from (_row(key.path, key.default, key.type, key.meaning) for key in keys)


def _datasets() -> Iterator[str]:
    """Every dataset with its layout, licence and home, as its spec and the docstring of its loader have them."""
    from exdd_ray.data.datasets import DATASETS

    yield (
        "# Datasets\n\nEach is read as its publishers ship and split it: `exdd data list` shows them, "
        "`exdd data get NAME` downloads those that may be downloaded, `exdd data check DIR` reads every file and "
        "compares the counts. `dataset.name=NAME dataset.root=DIR` runs on one, "
        "`dataset.category=C` on one of its categories.\n\n"
        "Validation images that a dataset publishes are neither trained on nor tested. Where they are all normal, "
        "`dataset.split.validation_defects` adds defects of the test to choose by."
    )
    for spec in DATASETS.values():
        text = inspect.getdoc(getattr(spec.load, "func", spec.load)) or ""
        layout = re.split(r"\n\n(?:Args|Raises):", text)[0]
        facts = [f"Categories: {', '.join(spec.categories)}." if len(spec.categories) > 1 else "", spec.note]
        facts += [f"A random split leaks: {spec.related}." if spec.related else ""]
        home = f" [Homepage]({spec.homepage})." if spec.homepage else ""
        yield f"\n## `{spec.name}`: {spec.title}\n\n{layout}\n\n{' '.join(filter(None, facts))}\n"
        yield f"Licence: {spec.licence}.{home}"


def _row(path: str, default: str, type_name: str, meaning: str) -> str:
    said = meaning.replace("<", "&lt;")
    cells = [f"`{path}`", f"`{default}`" if default else "", f"{said} (`{type_name}`)"]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
