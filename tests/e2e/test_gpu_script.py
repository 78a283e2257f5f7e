"""The script for a bare machine with a GPU, at toy size: what is absent or too slow loses its own part alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


def run_without(folder, modules, *arguments):
    """Output lines and exit code where these modules cannot be imported, in the script and in all that it starts."""
    (folder / "sitecustomize.py").write_text("import sys\n" + "".join(f"sys.modules[{m!r}] = None\n" for m in modules))
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--tiny", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.stdout.splitlines(), done.returncode


def test_all_figures_without_ray_or_pyarrow(tmp_path):
    absent = ("ray", "pyarrow", "rich", "faiss", "wandb")
    lines, code = run_without(tmp_path, absent, "--parts", "search,ties,coreset,coreset_large,patchcore,diffusionad")
    figures = json.loads(lines[-1])
    assert figures["skipped"] == {}
    assert figures["lost"] == {}
    assert code == 0
    assert figures["search_float32_recall"] == figures["search_bfloat16_recall"] == 1
    assert figures["coreset_identical"] is True
    measured = (
        "diffusionad_step",
        "search_cdist",
        "ties_bfloat16",
        "coreset_40_loop",
        "coreset_large",
        "patchcore_1",
        "patchcore_16",
    )
    assert all(figures[f"{name}_seconds"] > 0 for name in measured)


def test_a_part_that_is_not_done_in_time_ends_alone(tmp_path):
    lines, code = run_without(tmp_path, ("ray",), "--parts", "search,coreset", "--seconds", "0.05")
    figures = json.loads(lines[-1])
    assert code == 1
    assert set(figures["lost"]) == {"search", "coreset"}
    assert all("not done in" in reason for reason in figures["lost"].values())


def test_a_part_that_fails_says_why_and_the_next_one_runs(tmp_path):
    lines, code = run_without(tmp_path, ("exdd_ray.banks.scoring",), "--parts", "patchcore,ties")
    figures = json.loads(lines[-1])
    assert code == 1
    assert "exdd_ray.banks.scoring" in figures["lost"]["patchcore"]
    assert figures["ties_float32_seconds"] > 0
