import pytest
import torch

from exdd_ray.device import compute_device
from exdd_ray.errors import ConfigError


def test_the_environment_decides(monkeypatch):
    monkeypatch.delenv("EXDD_DEVICE", raising=False)
    assert compute_device() == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setenv("EXDD_DEVICE", "cpu")
    assert compute_device() == "cpu"
    monkeypatch.setenv("EXDD_DEVICE", "tpu")
    with pytest.raises(ConfigError, match="one of cpu, cuda, auto"):
        compute_device()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("EXDD_DEVICE", "cuda")
    with pytest.raises(ConfigError, match="no CUDA device"):
        compute_device()
