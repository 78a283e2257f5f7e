"""The versions that were tested are pinned for whoever installs from a clone; they distribute tests as they should."""

import os
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
PINS = [Requirement(text) for text in PROJECT["tool"]["uv"]["constraint-dependencies"]]


def test_every_dependency_is_pinned_within_its_range() -> None:
    project = PROJECT["project"]
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    groups = [text for group in PROJECT["dependency-groups"].values() for text in group]
    every = map(Requirement, [*project["dependencies"], *extras, *groups])
    for wanted in (one for one in every if one.name != project["name"]):
        found = [pin for pin in PINS if pin.name == wanted.name]
        assert found, f"{wanted.name} is not pinned: run .ci/pin"
        assert all(wanted.specifier.contains(next(iter(pin.specifier)).version) for pin in found), wanted


def test_pins_are_exact() -> None:
    assert all([one.operator for one in pin.specifier] == ["=="] for pin in PINS)


def test_tests_that_are_handed_out_go_by_module(request: pytest.FixtureRequest) -> None:
    """Else each process would make what a module's tests share, and start a Ray cluster of its own."""
    assert "PYTEST_XDIST_WORKER" not in os.environ or request.node.nodeid.endswith("@test_pins")
