"""What holds for the package as a whole."""

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "exdd_ray"
HEAVY = ("ray", "diffusers", "transformers", "faiss", "wandb")


def imported_by(code):
    check = f"import sys; {code}; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.split())


def core_modules():
    files = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py" and "on_ray" not in path.parts)
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]


def test_the_core_imports_neither_ray_nor_other_heavy_libraries():
    modules = [name.removesuffix(".__init__") for name in core_modules()]
    assert len(modules) > 40
    assert not imported_by(f"import {', '.join(modules)}") & set(HEAVY)


def test_the_package_itself_is_light():
    assert not imported_by("import exdd_ray") & {*HEAVY, "torch", "numpy", "pyarrow", "pydantic"}


def test_help_imports_nothing_heavy():
    loaded = imported_by("from exdd_ray.cli.main import build_parser; build_parser().format_help()")
    assert not loaded & {*HEAVY, "torch", "pyarrow", "sklearn", "scipy", "rich", "pydantic"}


def test_the_line_needs_no_more_than_torch_numpy_pillow_and_safetensors():
    loaded = imported_by("import exdd_ray.line.detector, exdd_ray.line.score")
    assert not loaded & {*HEAVY, "pydantic", "pyarrow", "scipy", "sklearn", "torchvision", "timm", "accelerate", "yaml"}
