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
    """A module's tests share a process, and with it what the module made; so do all tests that start a Ray cluster.

    Those take longest and are handed out first, then the other modules as they are collected: the long ones of
    `tests/e2e` before the short ones of `tests/unit`, so that the processes end at the same time.
    """
    items.sort(key=lambda item: not _on_ray(item))
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if _on_ray(item) else item.path.stem))


def _on_ray(item: pytest.Item) -> bool:
    return item.path.parent.name == "ray" or item.get_closest_marker("cluster") is not None


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
