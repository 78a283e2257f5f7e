"""A report's page: complete in itself, escaped, without what a run does not have."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import report_inputs
from report_inputs import DETECTORS, Run, make_results, write_run

from exdd_ray.errors import ArtifactError
from exdd_ray.metrics.table import METRICS
from exdd_ray.report.numbers import columns, group_by_category, summarize
from exdd_ray.report.page import headline, render_report, write_run_report
from exdd_ray.report.sweep_tables import metric_cell

made = report_inputs.made


@pytest.fixture(scope="module")
def page(made: Run) -> str:
    return render_report(*made)


def test_page_needs_nothing_from_outside(page: str) -> None:
    targets = re.findall(r"(?:\bhref|\bsrc|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", page)
    assert len(targets) > 20
    assert {target for target in targets if not target.startswith(("#", "data:"))} == set()
    assert "://" not in re.sub(r"data:[^\"]*", "", page)


def test_page_escapes_names_of_files_and_trials(page: str) -> None:
    assert "<real>" not in page
    assert "&lt;real&gt;" in page
    assert "<title>contrast &amp; &lt;noise&gt;" in page
    assert re.search(r"scratch <\d", page) is None
    assert re.search(r"scratch &lt;\d", page)


def test_page_prints_the_table_the_flags_and_the_configs(made: Run, page: str) -> None:
    summaries = summarize(made[1])
    for summary in summaries:
        for metric in columns(summaries):
            cell = summary.metrics[metric.key]
            assert cell is not None
            assert f"{cell.mean:.3f}<span" in page
    assert '<li class="leakage">' in page
    assert "4 training defects were taken from the test split" in page
    assert page.count("preset: best") == len(DETECTORS)
    assert "2 trials, each with 2 seeds, on procedural (2 categories)" in page


def test_report_of_one_result_without_masks(tmp_path: Path) -> None:
    (result,) = make_results(tmp_path, categories=("textile",), seeds=(0,), size=(120, 48), detectors=DETECTORS[:1])
    rows = tuple(replace(row, mask=None) for row in result.predictions.rows)
    bare = replace(result, pixel=None, predictions=replace(result.predictions, rows=rows))
    folder = write_run(tmp_path / "results", [bare])
    write_run_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert bare.image is not None
    interval = bare.image.intervals["image_auroc"]
    assert f"{interval.low:.3f} – {interval.high:.3f}" in page
    assert "No test defect has a mask" in page
    assert "no mask" in page
    assert 'class="best"' not in page
    assert 'class="flags"' not in page
    assert "Against the first trial" not in page
    assert len(page) < 400_000


def test_page_compares_each_trial_with_the_first(made: Run, page: str) -> None:
    run, _ = made
    section = page[page.index("Against the first trial") :]
    (point,) = [point for point in run.points if not point.baseline]
    cell = metric_cell(point, METRICS["image_auroc"])
    assert cell.below
    assert f'<span class="below">{cell.below}</span>' in section


def test_page_says_what_failed(made: Run) -> None:
    run, results = made
    failed = {**run.rows[0], "state": "failed", "error": "no <memory>"}
    page = render_report(replace(run, rows=(failed, *run.rows[1:])), results[1:])
    assert "<strong>Failed</strong> <span>1 × no &lt;memory&gt;</span>" in page


def test_page_is_made_again_without_the_images(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "results", make_results(tmp_path / "images", categories=("wood",), seeds=(0,)))
    shutil.rmtree(tmp_path / "images")
    write_run_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "the images cannot be read any more" in page
    assert "<image id=" not in page
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(ArtifactError, match="is not here"):
        write_run_report(folder)


def test_headline_of_images_without_labels(made: Run) -> None:
    found = summarize(made[1]), group_by_category(made[1])
    assert "tested on 3 normal and 2 defective images." in headline(*found, ("3", "2"))
    assert headline(*found, ("0", "0")).endswith(": scores of images without labels.")
