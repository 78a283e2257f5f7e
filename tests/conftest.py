import os
from pathlib import Path

import pytest

import exdd_ray.edge  # noqa: F401 (before any test imports Ray: it says how workers start)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    folder = Path(os.environ.get("EXDD_SHARED", "../shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: set EXDD_SHARED to the folder with real images and weights")
    return folder.resolve()
