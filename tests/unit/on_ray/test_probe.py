"""An address where no Ray cluster is: said within seconds, on one line."""

import socket
import subprocess
import sys
import time

import pytest

from exdd_ray.errors import UserError
from exdd_ray.on_ray.probe import require_cluster


@pytest.fixture
def listener():
    """Something that listens and is no Ray: its port."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


def refused(address):
    started = time.monotonic()
    with pytest.raises(UserError) as error:
        require_cluster(address)
    assert time.monotonic() - started < 15
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_where_nothing_listens(form, listener, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.create_server(("0.0.0.0", 0)) as server:
        free = server.getsockname()[1]
    address = form.format(free)
    assert refused(address).startswith(f"no Ray cluster at {address}")
    assert "Connection refused" in refused(address)
    assert "what listens there is none" in refused(form.format(listener))
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert f"127.0.0.1:{free}" in refused(None)


@pytest.mark.parametrize("address", ["no.such.host.invalid:6379", "foo", "127.0.0.1", "127.0.0.1:port", "ray://x"])
def test_what_is_no_address(address, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert f"no Ray cluster at {address}" in refused(address)


def test_connecting_asks_first(listener):
    code = f"from exdd_ray.on_ray.cluster import connect; connect('127.0.0.1:{listener}')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "UserError: no Ray cluster at 127.0.0.1" in run.stderr.splitlines()[-1]
