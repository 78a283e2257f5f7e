import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Head:
    """A Ray head that cluster/local.sh has started, and the environment with its token, for who submits jobs."""

    address: str
    env: Mapping[str, str]

    def submit(self, *command, working_dir, seconds, env=None):
        """`ray job submit` until the job has ended; its log is the output."""
        submit = ["ray", "job", "submit", "--address", self.address, "--working-dir", str(working_dir), "--", *command]
        return subprocess.run(submit, env=env or self.env, capture_output=True, text=True, timeout=seconds)


@pytest.fixture(scope="session")
def head():
    """A head of two CPUs, with a token, in a folder, on ports and in a process group of its own."""
    folder = Path(tempfile.mkdtemp(prefix="exdd-", dir="/tmp"))  # sockets lie in it: their paths must be short
    env = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "EXDD_DASHBOARD"))}
    env |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),  # no token of the user's is found
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "auth_token"),
    }
    dashboard, client = free_ports(2)
    place = {"EXDD_DASHBOARD_PORT": str(dashboard), "EXDD_RAY_PORT": "0", "EXDD_RAY_TEMP": str(folder / "ray")}
    command = [str(ROOT / "cluster/local.sh"), "--num-cpus=2", f"--ray-client-server-port={client}"]
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=env | place, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_until_started(process, log)
        yield Head(f"http://127.0.0.1:{dashboard}", env)
        process.terminate()  # this process alone: the others are its to end
        process.wait(60)
        wait_until_gone(process.pid)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until_started(process, log, seconds=90):
    end = time.monotonic() + seconds
    while "Ray runtime started" not in log.read_text():
        if process.poll() is not None:
            pytest.fail(f"the head ended with {process.returncode}: {log.read_text()[-2000:]}")
        if time.monotonic() > end:
            pytest.fail(f"the head did not start in {seconds} s: {log.read_text()[-2000:]}")
        time.sleep(0.2)


def wait_until_gone(group, seconds=30):
    """Fail where processes of a group outlive the one that led it."""
    end = time.monotonic() + seconds
    with suppress(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.2)
        pytest.fail(f"processes that the head started were there {seconds} s after it")
