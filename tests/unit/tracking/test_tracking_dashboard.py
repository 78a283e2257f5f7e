import sys
from pathlib import Path
from typing import Any

import pytest
from tracking_inputs import KEY, NAME, make_sweep

from exdd_ray.errors import ConfigError, UserError
from exdd_ray.tracking.dashboard import build_dashboard, save_dashboard
from exdd_ray.tracking.tracked import tracked_sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def spec(folder: Path) -> dict[str, Any]:
    """What would be sent to W&B."""
    view = build_dashboard(tracked_sweep(folder), "team", "defects")._to_model()
    assert (view.entity, view.project, view.display_name) == ("team", "defects", f"Sweep {NAME}")
    found: dict[str, Any] = view.spec.model_dump(mode="json", by_alias=True, exclude_none=True)["section"]
    return found


def panels(spec: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {section["name"]: section["panels"] for section in spec["panelBankConfig"]["sections"]}


def test_an_objective_is_plotted_against_every_setting(spec: dict[str, Any]) -> None:
    found = panels(spec)
    assert list(found) == ["All settings", "Image AUROC, validation", "Bank vectors", "Tables"]
    for title, metric in (("Image AUROC, validation", "validation_image_auroc"), ("Bank vectors", "bank_vectors")):
        by_title = {panel["config"]["chartTitle"]: panel for panel in found[title]}
        assert list(by_title) == [f"{title} by {key}" for key in ("variant", "synthesizer.count", "layers", "purify")]
        scatter = by_title[f"{title} by synthesizer.count"]
        assert scatter["viewType"] == "Scatter Plot"
        assert scatter["config"]["xAxis"] == "config:settings.value.synthesizer.count"
        assert scatter["config"]["yAxis"] == f"summary:{metric}"
        for key in ("variant", "layers", "purify"):
            bars = by_title[f"{title} by {key}"]
            assert bars["viewType"] == "Bar Chart"
            assert bars["config"]["metrics"] == [metric]
            assert bars["config"]["groupBy"] == f"settings.value.{key}"
            assert bars["config"]["groupAgg"] == "mean"


def test_parallel_coordinates_end_in_the_objectives(spec: dict[str, Any]) -> None:
    (parallel,) = panels(spec)["All settings"]
    assert parallel["viewType"] == "Parallel Coordinates Plot"
    columns = [(column["accessor"], column.get("inverted", False)) for column in parallel["config"]["columns"]]
    assert columns[1] == ("config:settings.value.synthesizer.count", False)
    assert columns[-2:] == [("summary:validation_image_auroc", False), ("summary:bank_vectors", True)]
    assert len(columns) == 6


def test_runs_are_the_sweeps_best_first(spec: dict[str, Any]) -> None:
    (runs,) = spec["runSets"]
    assert group_filter(runs) == NAME
    (order,) = runs["sort"]["keys"]
    assert (order["key"], order["ascending"]) == ({"section": "summary", "name": "validation_image_auroc"}, False)
    pinned = runs["runFeed"]["columnPinned"]
    assert "summary:bank_vectors" in pinned
    assert "config:settings.value.synthesizer.count" in pinned


def group_filter(runs: dict[str, Any]) -> str:
    (found,) = runs["filters"]["filters"]
    assert (found["key"], found["op"]) == ({"section": "run", "name": "group"}, "=")
    return str(found["value"])


@pytest.mark.parametrize("name", ["a=b, c>=d", "x == 'y' and z", 'a "b" \\ c', "größer < 5 µm"])
def test_any_name_finds_its_runs(tmp_path: Path, name: str) -> None:
    view = build_dashboard(tracked_sweep(make_sweep(tmp_path, name)), "team", "defects")._to_model()
    (runs,) = view.spec.model_dump(mode="json", by_alias=True, exclude_none=True)["section"]["runSets"]
    assert group_filter(runs) == name


def test_tables_of_the_summary_run_are_shown(spec: dict[str, Any]) -> None:
    shown = str(panels(spec)["Tables"])
    assert all(f"'{name}'" in shown for name in ("summary", "categories", "mistakes"))


def test_saving_needs_a_project_a_key_and_a_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="say which"):
        save_dashboard(folder)
    with pytest.raises(ConfigError, match="needs WANDB_API_KEY"):
        save_dashboard(folder, "defects")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9") as refused:
        save_dashboard(folder, "defects")
    assert KEY not in str(refused.value)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(ConfigError, match=r"pip install .exdd-ray\[dashboard\]"):
        save_dashboard(folder, "defects")
