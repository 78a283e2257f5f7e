"""Code is part of what names a number."""

import importlib
import sys

import pytest

from exdd_ray.errors import ConfigError
from exdd_ray.store.code import code_digest


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
