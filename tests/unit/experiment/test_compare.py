"""Finished runs side by side, from their folders alone."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_inputs import DETECTORS, make_results, write_run

from exdd_ray.cli.main import main
from exdd_ray.errors import ArtifactError, ConfigError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.result import TrialResult
from exdd_ray.experiment.tested import contents_of
from exdd_ray.metrics.difference import Measured, Run, difference
from exdd_ray.metrics.evaluate import image_metrics
from exdd_ray.metrics.influence import Scored
from exdd_ray.metrics.table import influence_on
from exdd_ray.report.compare_page import compare, write_comparison
from exdd_ray.report.run_folder import read_runs

WEAK, STRONG = DETECTORS


def scored(result: TrialResult, right: float, seed: int) -> TrialResult:
    """The result with scores that are the labels up to noise: the larger `right`, the better."""
    labels = np.array([row.label for row in result.predictions.rows])
    scores = right * labels + np.random.default_rng(seed).normal(size=len(labels))
    image = image_metrics(labels, scores, resamples=20, seed=0)
    fields = {name: getattr(result.trial.config, name) for name in ExperimentConfig.model_fields}
    trial = Trial(result.trial.name, ExperimentConfig.model_validate(fields))
    return replace(result, trial=trial, predictions=replace(result.predictions, scores=scores), image=image)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs on monday's images, and one on tuesday's, which have the same names."""
    place = tmp_path_factory.mktemp("runs")
    found = {}
    for name, right, day in (("weak", 0.0, "monday"), ("strong", 6.0, "monday"), ("elsewhere", 6.0, "tuesday")):
        detector = STRONG if name == "strong" else WEAK
        counts = (8, 9) if day == "monday" else (9, 8)  # which draws other images
        results = make_results(place / day, categories=("ceramic",), counts=counts, detectors=(detector,))
        results = [scored(result, right, i) for i, result in enumerate(results)]
        found[name] = write_run(place / name, results, name)
    for day in ("monday", "tuesday"):
        shutil.rmtree(place / day)
    return found


def test_runs_on_the_same_images_are_tested(folders: dict[str, Path]) -> None:
    found = compare(read_runs([folders["weak"], folders["strong"]]))
    assert [entry.name for entry in found.entries] == ["weak", "strong"]
    assert dict(found.keys)["detector.system"] == ("patchcore", "exdd")
    assert "seed" not in dict(found.keys)
    value = found.points[1].values["image_auroc"]
    rows = [pq.read_table(folders[name] / "trials.parquet").to_pydict()["image_auroc"] for name in ("weak", "strong")]
    assert value.mean == pytest.approx(np.mean(rows[1]))
    assert value.difference == pytest.approx(np.mean(rows[1]) - np.mean(rows[0]))
    assert value.unmeasured is None
    assert found.points[1].values["pixel_ap"].unmeasured == "images"
    assert found.images == (
        "8 normal, 9 defective, seeds 0, 1",
        "8 normal, 9 defective, seeds 0, 1; the same as the first's",
    )


def test_runs_are_named_by_what_tells_them_apart(folders: dict[str, Path], tmp_path: Path) -> None:
    copies = [tmp_path / name for name in ("2026-11-27_23-33-37_seed=1", "2026-11-27_23-34-21_seed=2")]
    for copy in copies:
        shutil.copytree(folders["weak"], copy)
    assert [entry.name for entry in read_runs(copies)] == ["seed=1", "seed=2"]
    other = tmp_path / "2026-11-28_09-00-00_seed=1"
    shutil.copytree(folders["weak"], other)
    assert [entry.name for entry in read_runs([copies[0], other])] == [copies[0].name, other.name]


def test_other_images_under_the_same_names_are_not(folders: dict[str, Path]) -> None:
    tables = [pq.read_table(folders[name] / "predictions.parquet") for name in ("weak", "elsewhere")]
    assert set(tables[0]["id"].to_pylist()) & set(tables[1]["id"].to_pylist())
    found = compare(read_runs([folders["weak"], folders["elsewhere"]]))
    assert found.points[1].values["image_auroc"].difference is None
    assert found.images[1] == "9 normal, 8 defective, seeds 0, 1; 0 of the first's 17: not tested"


def test_command_line(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert main(["compare", *map(str, folders.values()), "--page", str(page)]) == 0
    out = capsys.readouterr().out
    assert "detector.system" in out
    assert "strong: tested on 8 normal, 9 defective" in out
    text = page.read_text(encoding="utf-8")
    assert "3 trials side by side" in text
    assert "What differs in the configs" in text
    assert main(["report", str(folders["weak"])]) == 0
    assert capsys.readouterr().out == f"report: {folders['weak'] / 'report.html'}\n"
    assert main(["compare", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("not the results of a run or a sweep (it has no trials.parquet)")


def test_damaged_folders_are_said(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["weak"], tmp_path / "broken")
    (tmp_path / "broken" / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="damaged results"):
        read_runs([tmp_path / "broken"])
    (tmp_path / "broken" / "resolved.yaml").unlink()
    with pytest.raises(ConfigError, match="it has no resolved.yaml"):
        write_comparison(tmp_path / "page.html", [tmp_path / "broken"])


def test_predictions_know_their_images_by_content(tmp_path: Path) -> None:
    (result,) = make_results(tmp_path, categories=("wood",), seeds=(0,), detectors=DETECTORS[:1])
    rows = result.predictions.rows
    before = contents_of(rows)
    assert len(set(before)) == len(before)
    Path(rows[0].image).write_bytes(Path(rows[1].image).read_bytes())
    assert contents_of(rows)[0] == before[1]


def test_remarks_are_told_apart_whatever_they_say(tmp_path: Path) -> None:
    said = ("2 unreadable images left out; the first: a.png", "leakage: the split is random")
    results = make_results(tmp_path / "images", categories=("ceramic",), detectors=(WEAK,))
    write_run(tmp_path / "run", [replace(scored(result, 6.0, i), remarks=said) for i, result in enumerate(results)])
    flags = compare(read_runs([tmp_path / "run"])).flags
    assert [(flag.text, flag.leakage) for flag in flags] == [(said[1], True), (said[0], False)]


def test_other_labels_of_the_same_images_are_another_test(folders: dict[str, Path], tmp_path: Path) -> None:
    """As a classifier has that goes by full mask pixels (labels=full_mask)."""
    shutil.copytree(folders["strong"], tmp_path / "faded")
    file = tmp_path / "faded" / "predictions.parquet"
    rows = pq.read_table(file).to_pylist()
    faded = next(row["id"] for row in rows if row["label"])
    rows = [{**row, "label": 0 if row["id"] == faded else row["label"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), file)
    found = compare(read_runs([folders["weak"], tmp_path / "faded"]))
    assert found.points[1].values["image_auroc"].difference is None
    assert found.images[1].endswith("the same as the first's, but under other labels: not tested")


def test_defects_that_all_seeds_test_are_the_same_noise_in_all(folders: dict[str, Path], tmp_path: Path) -> None:
    """As where normal images are split at random and all defects are tested."""
    runs = {}
    for name in ("weak", "strong"):
        shutil.copytree(folders[name], tmp_path / name)
        file = tmp_path / name / "predictions.parquet"
        rows = pq.read_table(file).to_pylist()
        for row in rows:
            row["content"] += "" if row["label"] else f" {row['seed']}"
        pq.write_table(pa.Table.from_pylist(rows), file)
        runs[name] = {}
        for seed in (0, 1):
            mine = [row for row in rows if row["seed"] == seed]
            labels, scores = (np.array([row[key] for row in mine]) for key in ("label", "score"))
            images = Scored(tuple(row["content"] for row in mine), labels, scores)
            value = image_metrics(labels, scores, resamples=0, seed=0).detection.auroc
            runs[name][Run(seed, "one place", images.key)] = Measured(value, influence_on("image_auroc", images))
    wanted = difference(runs["strong"], runs["weak"], of_images=True)
    value = compare(read_runs([tmp_path / "weak", tmp_path / "strong"])).points[1].values["image_auroc"]
    assert value.difference == pytest.approx(wanted.mean.value)
    assert value.difference_half == pytest.approx(wanted.mean.half)
    assert value.p == pytest.approx(wanted.p)
