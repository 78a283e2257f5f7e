"""The wheel as somebody installs it, far from the repository: its own configs, by name."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = (
    "procedural.materials=[wood]",
    "procedural.normal_train=6",
    "procedural.normal_test=4",
    "procedural.size=[64,64]",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The wheel, unpacked into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def exdd(site, tmp_path):
    """Runs a command of the wheel's `exdd` in an empty folder: its standard output."""

    def call(*arguments, code=0):
        environment = {**os.environ, "PYTHONPATH": str(site)}
        command = [sys.executable, "-c", "import sys; from exdd_ray.cli.main import main; sys.exit(main())", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return call


def test_the_wheel_has_every_config_and_the_command(site):
    ours = {path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")}
    assert {path.relative_to(site / "exdd_ray") for path in (site / "exdd_ray/configs").rglob("*")} >= ours
    (entry_points,) = site.glob("*.dist-info/entry_points.txt")
    assert "exdd = exdd_ray.cli.main:main" in entry_points.read_text()


def test_an_experiment_runs_by_its_name(exdd, tmp_path):
    out = exdd("run", *SMALL, "procedural.defects_per_kind=3", "bootstrap=20", "resize=[64,64]", "count=8", "--json")
    assert len(json.loads(out.splitlines()[-1])["trials"]) == 3
    assert (tmp_path / "runs/demo/latest/report.html").exists()
    assert yaml.safe_load(exdd("config", "folder", "dataset.root=/x"))["dataset"]["root"] == "/x"
    assert yaml.safe_load(exdd("config", "configs/experiments/folder.yaml")) == yaml.safe_load(exdd("config", "folder"))
    assert "did you mean 'folder'" in exdd("config", "foldr", code=2)


def test_a_sweep_and_a_synthesizer_by_name(exdd, tmp_path):
    (tmp_path / "mine.yaml").write_text("base: neighborhood\nname: mine\n")
    for name in ("neighborhood", "mine.yaml"):
        assert "trials: " in " ".join(exdd("sweep", name, "--plan", "--here", *SMALL).split())
    out = exdd("synth", "cutpaste", "synthesizer.count=2", *SMALL, "--json")
    assert json.loads(out.splitlines()[-1])["samples"] == 2


def test_what_is_bundled_is_listed_copied_and_run_as_a_copy(exdd, tmp_path):
    assert "\n  synth_count " in exdd("config", "--list")
    assert exdd("init", "synth_count", "mine.yaml") == "mine.yaml: exdd sweep mine.yaml\n"
    assert "configs/datasets/procedural.yaml" in (tmp_path / "mine.yaml").read_text()
    assert "trials: " in " ".join(exdd("sweep", "mine.yaml", "--plan", "--here", *SMALL).split())
