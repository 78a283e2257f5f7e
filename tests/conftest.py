import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import exdd_ray.on_ray  # noqa: F401 (before any test imports Ray: it says how workers start)  # noqa: F401 (before any test imports Ray: it says how workers start)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    folder = Path(os.environ.get("EXDD_SHARED", "../shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: set EXDD_SHARED to the folder with real images and weights")
    return folder.resolve()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: what is trained has the same bits whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
