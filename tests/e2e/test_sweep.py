"""Sweeps as a user starts them: scripts, a driver that is killed, a job on a cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

ROOT = Path(__file__).parents[2]
SMALL = (
    "dataset.procedural.materials=[wood]",
    "dataset.procedural.kinds=[hole,stain]",
    "dataset.procedural.size=[64,64]",
    "dataset.procedural.normal_train=10",
    "dataset.procedural.normal_test=5",
    "dataset.procedural.defects_per_kind=6",
    "dataset.split.defects=3",
    "dataset.split.validation_defects=3",
    "features.resize=[64,64]",
    "scoring.calibration=4",
    "evaluation.bootstrap=20",
    "seeds=[0,1]",
)


def command(folder, *options):
    counts = ["--counts", "0", "4", "8", "12"]
    places = [f"store={folder}/store", f"output={folder}/out"]
    return [sys.executable, "sweeps/synth_count.py", *SMALL, *places, *counts, *options]


def sweep(folder, *options, seconds=200):
    done = subprocess.run(command(folder, *options), cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def finished(folder):
    return len(list((folder / "store/trial").glob("*/*/manifest.json")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep, run through."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, json.loads(sweep(folder, "--here", "--json").stdout.splitlines()[-1])


def trials_of(folder):
    """The table of trials, without the time that they took."""
    return pq.read_table(folder / "out/trials.parquet").drop_columns(["seconds"])


def test_the_table_of_the_script(whole):
    folder, last = whole
    trials = pq.read_table(folder / "out/trials.parquet").to_pylist()
    assert [(row["name"], row["seed"]) for row in trials] == [
        (f"count={count}", seed) for count in (0, 4, 8, 12) for seed in (0, 1)
    ]
    assert [row["train_synthetic"] for row in trials] == [0, 0, 4, 4, 8, 8, 12, 12]
    assert (last["baseline"], last["failed"], last["trials"]) == ("count=0", 0, 8)
    assert "count=12" in (folder / "out/report.html").read_text()


def test_a_plan_computes_nothing(tmp_path):
    said = sweep(tmp_path, "--plan", "--here").stdout
    assert "8 trials: " in " ".join(said.split())
    assert not (tmp_path / "out").exists()
    assert {path.name for path in (tmp_path / "store").iterdir()} <= {"procedural", "unfinished"}


def test_killed_and_resumed_gives_the_table_of_the_uninterrupted(whole, tmp_path):
    process = subprocess.Popen(
        command(tmp_path, "--here"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 200
    while finished(tmp_path) < 2 and time.monotonic() < end:
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*/*/*/manifest.json")}
    assert 2 <= finished(tmp_path) < 8
    sweep(tmp_path, "--here", "--resume")
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing is done again
    trials, wanted = map(trials_of, (tmp_path, whole[0]))
    assert trials.equals(wanted)


def test_a_submitted_sweep_gives_the_same_table(whole, head, tmp_path):
    env = {key: value for key, value in head.env.items() if key != "RAY_AUTH_MODE"}  # the token is found
    submitted = command(tmp_path, "--counts", "0", "4", "seeds=[0]", "--submit", head.address)
    done = subprocess.run(submitted, cwd=ROOT, capture_output=True, text=True, timeout=400, env=env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    trials, wanted = map(trials_of, (tmp_path, whole[0]))
    assert trials.equals(wanted.take([0, 2]))  # seed 0 of the first two counts
    assert "image auroc" in done.stdout
    assert "report: " in done.stdout


def test_a_job_that_would_lose_its_results_is_refused(head):
    done = head.submit("python", "sweeps/synth_count.py", "--here", working_dir=ROOT, seconds=90)
    assert done.returncode
    assert "a copy of this folder that is lost at its end: store=store must be" in done.stdout
