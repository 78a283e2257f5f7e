"""`exdd synth` in a process of its own: what it makes stays, whatever ends it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
SYNTH = (
    sys.executable,
    "-m",
    "exdd_ray.cli.main",
    "synth",
    str(ROOT / "configs/synthesizers/miniature.yaml"),
    "synthesizer.prompts=[scratch, hole]",
    "synthesizer.count=10",
    "synthesizer.steps=4",
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


def test_a_killed_synthesis_goes_on_where_it_stopped(tmp_path):
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
    assert there in (1, 2)
    again, out = counts(tmp_path)
    assert (again["fresh"], again["samples"] + again["dropped"]) == (10 * (2 - there), 20)
    assert "contact sheet" in out
    assert counts(tmp_path, "--quality")[0]["fresh"] == 0
    folder = tmp_path / "runs" / "miniature-synthesis"
    page = (folder / "synthesis.html").read_text()
    assert "KID-surface_resnet18 (defect crops)" in page
    samples = pq.read_table(folder / "samples.parquet")
    assert samples.num_rows == again["samples"]
    assert set(samples["prompt"].to_pylist()) == {"scratch", "hole"}


def test_the_pipeline_of_sdxl_takes_the_same_path(tmp_path):
    script = ROOT / "benchmarks" / "synthesis.py"
    done = subprocess.run([sys.executable, script, "--tiny"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["sdxl_ratio_loop"] > 0
