"""The tables of methods and synthesizers, and the door for those of other packages."""

from importlib.metadata import EntryPoint

import pytest
from pydantic import ValidationError

from exdd_ray.config import systems
from exdd_ray.errors import ConfigError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.methods import table as methods
from exdd_ray.synthesizers import table as synthesizers

FAMILIES = {
    "Method": (methods.methods, methods.BUILT_IN, "exdd_ray.methods", "example_method:METHOD", "other"),
    "Synthesizer": (
        synthesizers.synthesizers,
        synthesizers.BUILT_IN,
        "exdd_ray.synthesizers",
        "example_synthesizer:SYNTHESIZER",
        "spots",
    ),
}


@pytest.fixture
def installed(monkeypatch):
    """Has the tables made anew with an entry point."""

    def install(package: str, value: str) -> None:
        entry = EntryPoint("mine", value, package)
        monkeypatch.setattr(systems, "entry_points", lambda group: [entry] if group == package else [])

    for listed, *_ in FAMILIES.values():
        listed.cache_clear()
    yield install
    for listed, *_ in FAMILIES.values():
        listed.cache_clear()


@pytest.mark.parametrize("family", FAMILIES)
def test_those_of_the_package_are_named_as_their_folders_are(family):
    listed, built_in, *_ = FAMILIES[family]
    assert tuple(listed())[: len(built_in)] == built_in
    assert all(isinstance(one.kind, str) and name == one.kind for name, one in listed().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_an_entry_point_adds_one(installed, family):
    listed, built_in, package, example, kind = FAMILIES[family]
    installed(package, example)
    assert tuple(listed()) == (*built_in, kind)


@pytest.mark.parametrize(
    ("family", "value", "reason"),
    [
        ("Synthesizer", "exdd_ray.synthesizers.table:BUILT_IN", "is not a Synthesizer"),
        ("Synthesizer", "exdd_ray.synthesizers.cutpaste.synthesizer:SYNTHESIZER", "is a second 'cutpaste'"),
        ("Synthesizer", "exdd_ray.synthesizers.table:NONE", "cannot be loaded: AttributeError"),
        ("Method", "exdd_ray.synthesizers.cutpaste.synthesizer:SYNTHESIZER", "is not a Method"),
        ("Method", "exdd_ray.methods.padim.method:METHOD", "is a second 'padim'"),
        ("Method", "there_is_no_such_module:METHOD", "cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_what_is_none_is_refused_in_one_line(installed, family, value, reason):
    listed, _, package, *_ = FAMILIES[family]
    installed(package, value)
    with pytest.raises(ConfigError, match=reason) as caught:
        listed()
    assert "the entry point mine" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["detector", "synthesizer"])
def test_an_unknown_kind_names_those_that_there_are(key):
    known = {"detector": "'patch_bank', 'padim'", "synthesizer": "'per_region', 'cutpaste', 'inpaint'"}
    with pytest.raises(ValidationError, match=known[key]):
        ExperimentConfig.model_validate({key: {"kind": "nothing"}})
