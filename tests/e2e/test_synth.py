"""`exdd synth` in a process of its own: what it makes stays, whatever ends it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SYNTH = (
    sys.executable,
    "-m",
    "exdd_ray.cli.main",
    "synth",
    str(ROOT / "configs/synthesizers/miniature.yaml"),
    "synthesizer.prompts=[scratch, hole]",
    "synthesizer.count=20",
    "synthesizer.steps=2",
    "dataset.category=wood",
    "procedural.normal_train=4",
    "procedural.normal_test=2",
    "procedural.defects_per_kind=2",
    "--json",
)


def counts(folder, *more):
    done = subprocess.run([*SYNTH, *more], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


def test_a_killed_synthesis_goes_on_and_quality_that_cannot_be_measured_does_not_lose_it(tmp_path):
    chunks = tmp_path / "store" / "synthesis"
    process = subprocess.Popen(
        SYNTH,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    patience = time.monotonic() + 120
    while not list(chunks.glob("*/*")) and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(list(chunks.glob("*/*")))
    assert there == 1
    again, out = counts(tmp_path, "quality.network=squeezenet", "quality.weights=none.pth")
    assert (again["samples"], again["fresh"]) == (20, 10)
    assert "contact sheet" in out
    assert "note: quality not measured: none.pth" in out  # and the samples are there
    folder = tmp_path / "runs" / "miniature-synthesis" / "latest"
    assert "quality not measured" in (folder / "synthesis.html").read_text()
    samples = pq.read_table(folder / "samples.parquet")
    assert samples.num_rows == 20
    assert set(samples["prompt"].to_pylist()) == {"scratch", "hole"}
    assert set(samples["model"].to_pylist()) == {"miniature"}
    assert all(samples["revision"].to_pylist())
    assert counts(tmp_path, "--quality")[0]["fresh"] == 0
    assert "KID-surface_resnet18 (defect crops)" in (folder / "synthesis.html").read_text()
    assert pq.read_table(folder / "samples.parquet").equals(samples)


def test_the_pipeline_of_sdxl_takes_the_same_path(tmp_path):
    script = ROOT / "benchmarks" / "synthesis.py"
    done = subprocess.run([sys.executable, script, "--tiny"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["sdxl_ratio_loop"] > 0


def test_a_runs_report_shows_the_synthetic_defects_that_it_trained_on(tmp_path):
    small = ("features.resize=[96,96]", "bootstrap=20", "split.defects=2", "detector.system=exdd")
    run = [*SYNTH[:3], "run", *SYNTH[4:5], *small, "seeds=[0, 1]", *SYNTH[5:]]
    done = subprocess.run([*run, "synthesizer.count=6"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "runs" / "miniature" / "latest" / "report.html").read_text()
    shown = re.findall(r'<span class="sample">(.*?)</span> <span>seed (\d+)</span>', page)
    assert [name for name, _ in shown] == [
        f"inpaint/{prompt}/{i:06d}" for prompt in ("scratch", "hole") for i in range(3)
    ]
    assert counts(tmp_path, "synthesizer.count=6", "split.defects=2", "seed=0")[0]["fresh"] == 0
    samples = pq.read_table(tmp_path / "runs" / "miniature-synthesis" / "latest" / "samples.parquet")
    assert dict(shown) == dict(zip(samples["id"].to_pylist(), samples["sample_seed"].to_pylist(), strict=True))
