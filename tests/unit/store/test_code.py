"""Code is part of what names a number."""

import importlib
import sys

import pytest

from exdd_ray.errors import ConfigError
from exdd_ray.methods.table import methods
from exdd_ray.store.code import code_digest, code_of


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "scored_by_this"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "rule.py").write_text("def rule(near, far):\n    return near - far\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield folder
    sys.modules.pop("scored_by_this", None)
    code_digest.cache_clear()


def test_another_formula_has_another_digest(package):
    before, alone = code_digest("scored_by_this"), code_digest("scored_by_this.rule")
    assert before != alone
    code_digest.cache_clear()
    assert code_digest("scored_by_this") == before
    (package / "rule.py").write_text("def rule(near, far):\n    return far - near\n")
    code_digest.cache_clear()
    assert code_digest("scored_by_this") != before
    assert code_digest("scored_by_this.rule") != alone


def test_what_has_no_source_is_refused():
    with pytest.raises(ConfigError, match="no_such_module is no module"):
        code_digest("no_such_module")


def test_what_is_imported_counts_however_it_is_and_nothing_else(package):
    (package / "near.py").write_text("from . import far\n\n\ndef score():\n    from .deep import inner\n")
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .typed import T\n"
    (package / "far.py").write_text(f"import numpy\n{typed}")
    for name in ("typed", "other"):
        (package / f"{name}.py").write_text("")
    (package / "deep").mkdir()
    (package / "deep" / "__init__.py").write_text("from exdd_ray.store.hashes import digest\n")
    (package / "deep" / "inner.py").write_text("")
    found = {name for name in code_of("scored_by_this.near") if name.startswith("scored_by_this")}
    assert found == {"scored_by_this", *(f"scored_by_this.{name}" for name in ("near", "far", "deep", "deep.inner"))}
    assert "exdd_ray.store.hashes" in code_of("scored_by_this.near")


@pytest.mark.parametrize("kind", methods())
def test_a_results_code_is_all_that_makes_it(kind):
    """What reads images and masks, embeds, scores, measures and is common to methods; not what shows it."""
    found = code_of("exdd_ray.experiment.stored", methods()[kind].home)
    needed = [
        "data.masks",
        "data.split",
        "features.prepare",
        "banks.scoring.maps",
        "metrics.table",
        "methods.predictions",
    ]
    assert {f"exdd_ray.{name}" for name in needed} <= set(found)
    assert f"exdd_ray.methods.{kind}.config" in found
    others = {f"exdd_ray.{name}" for name in ("report", "cli", "tracking", "on_ray", "api")}
    assert not [name for name in found if ".".join(name.split(".")[:2]) in others]


def test_pixel_metrics_are_named_by_what_reads_the_masks():
    assert "exdd_ray.data.masks" in code_of("exdd_ray.experiment.trial")
    assert "exdd_ray.experiment.pixels" in code_of("exdd_ray.experiment.trial")
