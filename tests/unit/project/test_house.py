"""The shape of the package: what a method or a synthesizer is made of is known in its own folder alone."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def house(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield import_module("leaks")
    sys.modules.pop("leaks", None)


def test_no_module_names_a_system_of_which_it_is_no_part(house):
    assert house.leaks() == {}


def test_what_one_system_builds_on_is_known(house):
    """DiffusionAD trains on per-region synthesis; nothing else takes anything from another."""
    named = house.builds_on()
    assert {place.rpartition("/")[0] for place in named} == {"methods/diffusionad"}
    assert {system for systems in named.values() for system in systems} == {"synthesizers/per_region"}


def test_a_leak_is_found(house, tmp_path):
    for folder in ("methods/mine", "synthesizers/theirs", "experiment"):
        (tmp_path / folder).mkdir(parents=True)
    for value in ("methods/mine/method.py", "synthesizers/theirs/synthesizer.py"):
        (tmp_path / value).write_text("")
    (tmp_path / "experiment" / "plan.py").write_text("from exdd_ray.methods.mine.config import MineConfig\n")
    (tmp_path / "experiment" / "share.py").write_text("def ask(kind):\n    return kind == 'theirs'\n")
    assert house.leaks(tmp_path) == {
        "experiment/plan.py": ["methods/mine"],
        "experiment/share.py": ["synthesizers/theirs"],
    }
