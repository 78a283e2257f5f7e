"""Without any extra the demo runs, and what needs a missing package says in one line which extra brings it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from exdd_ray.extras import EXTRAS

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SMALL = ["procedural.materials=[wood]", "procedural.normal_train=6", "procedural.normal_test=4"]
SMALL += ["procedural.defects_per_kind=3", "bootstrap=20", "resize=[64,64]"]
COMMANDS = {
    "faiss": ["run", "demo", "search.index=hnsw", *SMALL],
    "lpips": ["synth", "cutpaste", "--quality", "quality.perceptual=squeeze", *SMALL],
    "mlflow": ["sweep", "neighborhood", "--here", "tracking.mlflow=sqlite:///a.db", *SMALL],
    "optuna": ["sweep", "neighborhood", "--here", "tuner={kind: tpe, points: 3}", *SMALL],
    "timm": ["run", "demo", "features.backbone=timm/resnet18", *SMALL],
    "torch_fidelity": ["synth", "cutpaste", "--quality", *SMALL],
    "wandb": ["synth", "cutpaste", "--wandb", "project", *SMALL],
}
HIDDEN = f"""
import contextlib, io, json, sys
from exdd_ray.cli.main import main

sys.modules |= dict.fromkeys({list(EXTRAS)})
said = {{"demo": main({["run", "demo", "synthesizer.count=8", *SMALL]})}}
for package, words in {COMMANDS}.items():
    if package == "lpips":
        del sys.modules["torch_fidelity"]
    with contextlib.redirect_stderr(io.StringIO()) as error:
        code = main(words)
    said[package] = [code, error.getvalue().splitlines()[-1]]
    sys.modules |= dict.fromkeys({list(EXTRAS)})
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What a process says that has none of the packages."""
    place = tmp_path_factory.mktemp("hidden")
    done = subprocess.run([sys.executable, "-c", HIDDEN], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_demo_runs_without_any_extra(said):
    assert said["demo"] == 0


@pytest.mark.parametrize("package", COMMANDS)
def test_a_missing_package_is_named_with_its_extra(said, package):
    code, line = said[package]
    extra = EXTRAS[package]
    assert code == 2
    assert line.endswith(f" needs exdd_ray[{extra}]: pip install 'exdd-ray[{extra}]'")


def test_extras_bring_what_is_asked_for_and_all_brings_every_one():
    extras = {name: list(map(Requirement, texts)) for name, texts in PROJECT["optional-dependencies"].items()}
    for package, extra in EXTRAS.items():
        assert any(
            one.name.removesuffix("-cpu").removesuffix("-skinny") == package.replace("_", "-") for one in extras[extra]
        )
    (every,) = extras.pop("all")
    assert every.extras == extras.keys() == set(EXTRAS.values())
