"""A sweep's report: read from its folder alone, complete in itself, whatever the sweep lacks."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_inputs import path_points
from sweep_inputs import ERROR, LEAKAGE, make_sweep

from exdd_ray.cli.main import main
from exdd_ray.errors import ArtifactError, ConfigError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.stored import stored_trial
from exdd_ray.metrics.table import METRICS
from exdd_ray.report.sweep_axes import round_numbers, spread_scale, value_scale
from exdd_ray.report.sweep_charts import curves, pareto_figures
from exdd_ray.report.sweep_data import Point, SweepFolder, Value, read_sweep, setting_text
from exdd_ray.report.sweep_gallery import mistakes
from exdd_ray.report.sweep_page import render_sweep_report, write_sweep_report
from exdd_ray.report.sweep_parallel import parallel
from exdd_ray.report.sweep_tables import headline, heats, metric_cell, ranked, verdict
from exdd_ray.store.artifact import Store

AUROC = METRICS["image_auroc"]
ONE = {"space": {}, "seeds": (0,), "categories": ("ceramic",), "objectives": ("image_auroc",)}
BARE = {**ONE, "stored": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("sweep") / "results", failed=(3,), remarks=LEAKAGE)


@pytest.fixture(scope="module")
def sweep(folder: Path) -> SweepFolder:
    return read_sweep(folder)


@pytest.fixture(scope="module")
def page(sweep: SweepFolder) -> str:
    return render_sweep_report(sweep)


def test_page_needs_nothing_from_outside_and_escapes(page: str) -> None:
    targets = re.findall(r"(?:\bhref|\bsrc|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", page)
    assert len(targets) > 20
    assert {target for target in targets if not target.startswith(("#", "data:"))} == set()
    assert "://" not in re.sub(r"data:[^\"]*", "", page)
    for raw in ("<rate>", "<blend>", "<test>", "<defective>", "scratch <0"):
        assert raw not in page
        assert raw.replace("<", "&lt;").replace(">", "&gt;") in page


def test_page_says_what_was_swept_chosen_and_shared(sweep: SweepFolder, page: str) -> None:
    assert headline(sweep) == (
        "16 points of variant (2 values) × synthesizer count (4 values) × negative rate (2 values), "
        "each with 3 seeds, on procedural (2 categories): 96 trials."
    )
    chosen = sweep.chosen
    assert chosen is not None
    value = chosen.values["image_auroc"]
    assert value.half is not None
    said = verdict(sweep)
    assert f"{100 * value.mean:.2f} ± {100 * value.half:.2f} % on the test images" in said.chosen
    assert "best on the validation images" in said.chosen
    assert said.words.startswith("perhaps better")  # three seeds, sixteen points
    assert (
        "Embedding: 96 trials asked for 5,040 slices of images; 74 were computed, 10 were in the store before" in page
    )
    assert f"2 × {ERROR.replace('<', '&lt;').replace('>', '&gt;')}" in page
    assert '<li class="leakage"><strong>Leakage' in page
    assert "Chosen on test" not in page
    assert "preset: best" in page


def test_table_prints_the_summary_best_first(sweep: SweepFolder, page: str) -> None:
    validation = sweep.objectives()[0]
    assert validation.key == "validation_image_auroc"
    means = [point.mean(validation) for point in ranked(sweep)]
    assert means == sorted(means, reverse=True)  # type: ignore[type-var]
    for point in sweep.points:
        for metric in sweep.metrics():
            assert metric_cell(point, metric).text in page
    assert page.count('<span class="tag failed">2 failed</span>') == 1
    assert "milliseconds" not in {metric.key for metric in sweep.metrics()}


@pytest.mark.parametrize(
    ("value", "cost", "words"),
    [
        (Value(0.9, 0.01, 0.02, 0.03, 0.4, True), False, "within noise"),
        (Value(0.9, 0.01, 0.02, 0.01, 0.01, False), False, "better"),
        (Value(0.9, 0.01, 0.02, 0.01, 0.2, True), False, "perhaps better"),
        (Value(0.9, 0.01, -0.02, 0.01, 0.01, False), False, "worse"),
        (Value(0.9, 0.01, 0.02, 0.01, 0.01, True, "images"), False, "better on these images"),
        (Value(0.9, 0.01, -0.02, 0.01, 0.01, True, "seeds"), False, "worse on one seed"),
        (Value(0.9, 0.01, -0.02, 0.03, 0.4, True, "seeds"), False, "within noise"),
        (Value(900, 1, -20, 1, 0.01, False), True, "less"),
        (Value(900, 1, 20, 1, 0.01, False), True, "more"),
        (Value(900, 0, 20, 0, 0.25, True), True, "more"),
        (Value(900, None, 0, None, None, True), True, "the same"),
        (Value(900, 1, 20, 30, 0.4, True), True, "within noise"),
        (Value(900, 0, 0, 0, 1.0, True), True, "the same"),
        (Value(0.9, None, 0.02, None, None, True), False, "one run"),
    ],
)
def test_difference_in_words(value: Value, cost: bool, words: str) -> None:
    metric = METRICS["bank_vectors"] if cost else AUROC
    cell = metric_cell(Point(1, "a", {}, 3, 0, False, False, False, {metric.key: value}), metric)
    assert cell.verdict == words
    assert cell.meaning == {"better": "right", "worse": "wrong"}.get(words, "")


def test_missing_values_are_dashes(sweep: SweepFolder) -> None:
    point = Point(1, "a", {}, 0, 3, False, False, False)
    cell = metric_cell(point, AUROC)
    assert (cell.text, cell.sort) == ("–", "")


def test_curves_pass_through_the_means(sweep: SweepFolder) -> None:
    (figure,) = [f for f in curves(sweep) if f.metric == AUROC and f.title == "synthesizer count"]
    assert len(figure.series) == 4
    frame, series = figure.frame, figure.series[0]
    points = path_points(series.path)
    up = frame.y[0] + (frame.bottom - points[:, 1]) / (frame.bottom - frame.top) * (frame.y[1] - frame.y[0])
    wanted = [p for p in sweep.points if p.settings["variant"] == "painted <blend>" and p.settings["rate"] == 0.01]
    np.testing.assert_allclose(up, [100 * p.values["image_auroc"].mean for p in wanted], atol=0.02)
    assert series.band
    assert [tick.label for tick in figure.ticks[0]] == ["0", "50", "100", "150"]


def test_many_combinations_are_averaged_and_drawn_points_are_dots(tmp_path: Path) -> None:
    space: dict[str, Any] = {"variant": [f"v{i}" for i in range(9)], "count": [0, 50]}
    few = {"seeds": (0, 1), "categories": ("ceramic",), "stored": False}
    averaged = read_sweep(make_sweep(tmp_path / "results", space=space, **few))
    (figure,) = [f for f in curves(averaged) if f.metric == AUROC]
    assert figure.note == "Averaged over variant (9 combinations)."
    names = {point.name for point in averaged.points if point.settings["count"] == 50}
    values = [row["image_auroc"] for row in averaged.rows if row["name"] in names]
    assert f"50 → {100 * np.mean(values):.4g} ±" in figure.series[0].dots[1].text
    apart = [replace(p, settings={"variant": f"v{i}", "count": 10 * i}) for i, p in enumerate(averaged.points[:9])]
    diagonal = replace(averaged, points=tuple(apart))
    (figure,) = [f for f in curves(diagonal) if f.metric == AUROC]
    assert (figure.series[0].path, len(figure.series[0].dots)) == ("", 9)
    assert figure.note == "Each dot is a point; variant varies too."


def test_front_and_parallel_hold_every_point(sweep: SweepFolder) -> None:
    (figure,) = pareto_figures(sweep)
    assert figure.axes[0] == "Bank vectors (less is better)"
    dots = {dot.number: dot.kind for dot in figure.series[0].dots}
    assert {number for number, kind in dots.items() if "pareto" in kind} == {p.number for p in sweep.points if p.pareto}
    assert len(dots) == 16
    drawn = parallel(sweep)
    assert drawn is not None
    assert len(drawn.strands) == 16
    assert drawn.strands[-1].point == sweep.chosen
    assert {strand.shade for strand in drawn.strands} >= {0, 100}


def test_categories_are_means_over_seeds(sweep: SweepFolder) -> None:
    titles, tables = heats(sweep)
    assert titles == ("ceramic", "wood")
    (table,) = [table for table in tables if table.metric == AUROC]
    point, cells = table.rows[0]
    values = [r["image_auroc"] for r in sweep.rows if r["name"] == point.name and r["category"] == "wood"]
    assert cells[1][0] == f"{100 * np.mean(values):.2f}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (BARE, "1 point on procedural: 1 trial."),
        ({**BARE, "seeds": (0, 1), "failed": (0,)}, "No point could be chosen"),
        ({**BARE, "failed": (0,)}, "every trial failed"),
        ({**BARE, "select": "test"}, "Chosen on test"),
        ({**BARE, "seeds": (0, 1), "space": {"count": [5]}}, "synthesizer count (1 value)"),
        (
            {**BARE, "space": {"synthesizer": [None, {"kind": "cut<paste>", "count": 5}]}},
            "kind: cut&lt;paste&gt;, count: 5",
        ),
        ({**BARE, "space": {"backbone": ["a", None, True, 3.0, [1, 2]]}}, "[1, 2]"),
        ({**BARE, "space": {"count": [None, 0, 10, 10_000]}}, "no number (1)"),
        ({**BARE, "space": {"count": [0, 1]}, "without": ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")}, "–"),
        ({**BARE, "space": {"count": [0, 1]}, "objectives": ("bank_vectors", "milliseconds", "image_ap")}, "Pareto"),
        ({**BARE, "space": {"count": [0, 1]}, "stages": ()}, "the plan names no stage"),
    ],
)
def test_odd_sweeps(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    made = make_sweep(tmp_path / "results", **changes)
    write_sweep_report(made)
    page = (made / "report.html").read_text(encoding="utf-8")
    assert said in page
    assert "None" not in re.sub(r"data:[^\"]*", "", page)


def test_ties_are_told(sweep: SweepFolder) -> None:
    assert "equally good" not in verdict(sweep).chosen
    assert sweep.chosen is not None
    twice = replace(sweep, points=(*sweep.points, replace(sweep.chosen, number=99, name="again", chosen=False)))
    assert "the first of 2 that are equally good" in verdict(twice).chosen


def test_single_run_gives_the_bootstrap_interval(tmp_path: Path) -> None:
    said = verdict(read_sweep(make_sweep(tmp_path / "results", **BARE)))
    assert "over resampled images" in said.chosen
    assert (said.against, said.words) == ("", "")


def test_gallery_shows_the_worst_of_the_first_seed(sweep: SweepFolder) -> None:
    shown = mistakes(sweep)
    assert {(panel.trial, panel.group, panel.result.trial.config.seed) for panel in shown.panels} == {
        (t, g, 0) for t in (0, 1) for g in (0, 1)
    }
    assert shown.notes == ()
    for panel in shown.panels:
        weak, loud = [tile.score for tile in panel.weakest], [tile.score for tile in panel.alarms]
        assert weak == sorted(weak)
        assert loud == sorted(loud, reverse=True)
        assert all(tile.row.label and tile.picture.outline and tile.heat for tile in panel.weakest)
        assert 99.0 not in loud  # which is of a validation image


def test_report_without_store_or_images(tmp_path: Path) -> None:
    made = make_sweep(tmp_path / "results", **ONE)
    shutil.rmtree(tmp_path / "images")
    assert "the images cannot be read any more" in render_sweep_report(read_sweep(made))
    shutil.rmtree(tmp_path / "store" / "trial")
    assert "no longer has the trial" in render_sweep_report(read_sweep(made))
    shutil.rmtree(tmp_path / "store")
    page = render_sweep_report(read_sweep(made))
    assert "is not here" in page
    assert "<image id=" not in page


def test_maps_of_a_trial_are_read_from_its_artifact_alone(tmp_path: Path) -> None:
    procedural = {"materials": ["wood"], "size": [64, 64], "normal_train": 4, "normal_test": 3, "defects_per_kind": 1}
    config = ExperimentConfig.model_validate(
        {"dataset": {"procedural": procedural}, "detector": {"system": "patchcore"}, "evaluation": {"bootstrap": 0}}
    )
    store = tmp_path / "store"
    session = Session(Store(store))
    made = make_sweep(tmp_path / "results", **{**ONE, "categories": ("wood",)})
    trial = Trial("only <one>", config)
    artifact = stored_trial(trial, session.categories(config.dataset)["wood"], session)
    for stage in store.iterdir():
        if stage.name not in ("trial", "procedural"):
            shutil.rmtree(stage, ignore_errors=True)
    whole = read_sweep(made)
    real = replace(whole, rows=({**whole.rows[0], "artifact": artifact.key},))
    shown = mistakes(real)
    assert shown.notes == ()
    assert all(tile.heat for tile in shown.panels[0].weakest)
    assert "anomaly map of" in render_sweep_report(real)


def test_axes() -> None:
    assert spread_scale([0.001, 0.01, 0.1], 0).log
    assert not spread_scale([0, 50, 100, 150], 0).log
    assert not spread_scale([50, 100, 200, 400], 0).log
    flat = value_scale([97.0, 97.0], 0.5, (0, 100))
    assert (flat.low, flat.high) == (96.75, 97.25)
    top = value_scale([100.0, 99.9], 0.5, (0, 100))
    assert top.high == 100
    assert round_numbers(top)[-1] == pytest.approx(100)


def test_settings_on_one_line() -> None:
    assert [setting_text(v) for v in (None, True, 0.05, 7, "a")] == ["null", "true", "0.05", "7", "a"]
    assert setting_text({"a": {"b": [1, 2]}, "c": None}) == "a: {b: [1, 2]}, c: null"


def test_command_writes_the_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"report: {folder / 'report.html'}\n"
    assert (folder / "report.html").stat().st_size < 1_000_000


def test_folder_that_is_no_sweep_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (tmp_path, tmp_path / "absent"):
        assert main(["report", str(wrong)]) == 2
        said = "not the results of a run or a sweep (it has no trials.parquet)"
        assert capsys.readouterr().err == f"exdd: {wrong}: {said}\n"
    made = make_sweep(tmp_path / "results", **ONE)
    (made / "plan.json").write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        read_sweep(made)
    (made / "sweep.yaml").write_text("objectives: [beauty]")
    with pytest.raises(ConfigError, match="sweep.yaml: objectives"):
        read_sweep(made)
