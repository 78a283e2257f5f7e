"""cluster/slurm.sh for real, as Slurm runs it where one node was allocated."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

ROOT = Path(__file__).parents[2]
ANSWER = "import ray, sys; ray.init(); print('answer', ray.get(ray.remote(lambda: 41 + 1).remote())); sys.exit(3)"


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="exdd-", dir="/tmp"))  # sockets lie in it: their paths must be short
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.skipif(sys.platform != "linux", reason="Slurm's nodes run Linux")
def test_slurm_runs_the_command_and_leaves_nothing(folder):
    allocated = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "2"}
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | allocated
    env |= {"EXDD_SHARED": str(folder), "RAY_TMPDIR": str(folder), "HOME": str(folder)}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "log").open("w") as out:
        command = ["timeout", "120", "cluster/slurm.sh", "python", "-c", ANSWER]
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=out, stderr=out)
    log = (folder / "log").read_text()
    assert done.returncode == 3, log
    assert "answer 42" in log.splitlines()
    assert list(folder.glob(".ray-token-*")) == []
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in processes
