"""Submitting a sweep: what is wrong with it is said here, before anything is sent."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLACES = ("store=/x/store", "output=/x/out")


def submitted(address, *options, folder=ROOT):
    """The one line that a script says in a folder."""
    command = [sys.executable, str(ROOT / "sweeps/synth_count.py"), "--submit", address, *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--counts", "0", "ten", *PLACES), "invalid int value: 'ten'"),
        (("detecter.system=exdd", *PLACES), "did you mean 'detector.system'"),
        (("synthesizer.kind=paint", *PLACES), "synthesizer.kind"),
        (PLACES[:1], "output= must be the whole path"),
        (("store=here", *PLACES[1:]), "store=here must be the whole path"),
        (PLACES, "Connection refused"),
    ],
)
def test_a_mistake_is_said_before_anything_is_sent(options, said):
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    assert said in submitted(f"http://127.0.0.1:{free}", *options)


def test_what_does_not_answer_as_a_dashboard(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        said = submitted(f"http://127.0.0.1:{silent.getsockname()[1]}", *PLACES)
        assert time.monotonic() - started < 30
    assert "no dashboard of a Ray cluster" in said
    assert "unknown url type" in submitted("127.0.0.1:8265", *PLACES)
    assert "is not in this folder" in submitted("http://127.0.0.1:8265", *PLACES, folder=tmp_path)
