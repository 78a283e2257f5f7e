import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# Before Torch: where more threads than cores work, they wait for each other, busily.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

import exdd_ray.on_ray  # noqa: F401 (before any test imports Ray: it says how workers start)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Generator[None, int, int]:
    """A process a core, four at most as each takes 3 GB; single files are tested in this one."""
    cores = yield
    whole_folders = any(Path(argument.partition("::")[0]).is_dir() for argument in config.args)
    return min(cores, 4) if whole_folders else 0


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A module's tests share a process, and with it what the module made.

    So do all tests of `tests/ray`, which share one Ray cluster, and all others that start clusters of their own, one
    after another. Those two groups take longest and are handed out first, then the other modules as they are collected:
    the long ones of `tests/e2e` before the short ones of `tests/unit`, so that the processes end at the same time.
    """
    items.sort(key=lambda item: _group(item) not in _ON_RAY)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


_ON_RAY = ("one cluster", "clusters")


def _group(item: pytest.Item) -> str:
    if item.path.parent.name == "ray":
        return _ON_RAY[0]
    return _ON_RAY[1] if item.get_closest_marker("cluster") is not None else item.path.stem


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
