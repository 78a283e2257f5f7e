"""The table of synthesizers, and the door for those of other packages."""

from importlib.metadata import EntryPoint

import pytest
from pydantic import ValidationError

from exdd_ray.errors import ConfigError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.synthesizers import table


@pytest.fixture
def installed(monkeypatch):
    """Has the table made anew with an entry point."""

    def install(name: str, value: str) -> None:
        entry = EntryPoint(name, value, table.GROUP)
        monkeypatch.setattr(table, "entry_points", lambda group: [entry] if group == table.GROUP else [])

    table.synthesizers.cache_clear()
    yield install
    table.synthesizers.cache_clear()


def test_those_of_the_package_are_named_as_their_folders_are():
    assert tuple(table.synthesizers())[: len(table.BUILT_IN)] == table.BUILT_IN


def test_an_entry_point_adds_one(installed):
    installed("spots", "example_synthesizer:SYNTHESIZER")
    assert tuple(table.synthesizers()) == (*table.BUILT_IN, "spots")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("exdd_ray.synthesizers.table:GROUP", "is not a Synthesizer"),
        ("exdd_ray.synthesizers.cutpaste.synthesizer:SYNTHESIZER", "is a second 'cutpaste'"),
        ("exdd_ray.synthesizers.table:NONE", "cannot be loaded: AttributeError"),
        ("there_is_no_such_module:SYNTHESIZER", "cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_what_is_no_synthesizer_is_refused_in_one_line(installed, value, reason):
    installed("mine", value)
    with pytest.raises(ConfigError, match=reason) as caught:
        table.synthesizers()
    assert "the entry point mine" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_kind_names_those_that_there_are():
    with pytest.raises(ValidationError, match="'per_region', 'cutpaste', 'inpaint'"):
        ExperimentConfig.model_validate({"synthesizer": {"kind": "nothing"}})
