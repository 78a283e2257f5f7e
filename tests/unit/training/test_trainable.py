"""Detectors that are trained, as `exdd run` runs them."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from report_inputs import make_results

from exdd_ray.cli.main import main
from exdd_ray.data.procedural.defects import add_defect
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.experiment.result import result_record
from exdd_ray.methods.classifier.config import ClassifierConfig
from exdd_ray.metrics.threshold import f1_max_point, point_at

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSIFIER = {
    "kind": "classifier",
    "features": {"layers": ["layer2"], "resize": [48, 48]},
    "batchnorm": "frozen",
    "epochs": 2,
    "training": {"batch": 4, "device": "cpu"},
}
DIFFUSIONAD = {
    "kind": "diffusionad",
    "scale": "small",
    "reconstruction": {"base": 8, "multipliers": [1, 2]},
    "segmentation": {"base": 4, "multipliers": [1, 2]},
    "steps": 3,
    "held_out": 0.3,
    "training": {"batch": 2, "device": "cpu"},
}
PAINTED = {"kind": "per_region", "count": 6}


@pytest.fixture
def images(tmp_path):
    """An MVTec-like folder: 10 + 4 normal images, 6 holes with masks."""
    root = tmp_path / "images"
    for part in ("train/good", "test/good", "test/hole", "ground_truth/hole"):
        (root / part).mkdir(parents=True)
    for part, count in (("train", 10), ("test", 4)):
        for i in range(count):
            surface = make_surface("ceramic", (64, 64), np.random.default_rng([i, len(part)]))
            Image.fromarray(surface).save(root / part / "good" / f"{i}.png")
    for i in range(6):
        rng = np.random.default_rng([i, 7])
        image, mask = add_defect(make_surface("ceramic", (64, 64), rng), "hole", rng)
        Image.fromarray(image).save(root / "test/hole" / f"{i}.png")
        Image.fromarray(mask).save(root / "ground_truth/hole" / f"{i}.png")
    return root


@pytest.fixture
def run(images, tmp_path, capsys, monkeypatch):
    """Runs `exdd run` on the folder with a detector; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(detector, *overrides, **config):
        dataset = {"name": "folder", "root": str(images), "split": {"defects": 0}}
        raw = {"name": "small", "dataset": dataset, "evaluation": {"bootstrap": 20}, "detector": detector, **config}
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(raw))
        code = main(["run", "small.yaml", "--json", *overrides])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def results(tmp_path):
    return pq.read_table(tmp_path / "runs/small/latest/trials.parquet").to_pylist()


def fails(result, *words):
    code, out, err = result
    assert code == 2, (out, err)
    (line,) = [line for line in err.splitlines() if line.startswith("exdd: ")]
    for word in words:
        assert word in line


def test_a_classifier_learns_zero_shot_from_synthetic_defects(run, tmp_path):
    code, out, err = run(CLASSIFIER, synthesizer=PAINTED)
    assert code == 0, err
    assert "after 3 steps: validation" in err
    (record,) = results(tmp_path)
    assert (record["detector"], record["preset"]) == ("classifier", "best")
    assert (record["train_normal"], record["train_defects"], record["train_synthetic"]) == (8, 0, 4)
    assert (record["negative_bank"], record["positive_bank"]) == (0, 0)
    assert record["pixel_auroc"] is not None
    scores = pq.read_table(tmp_path / "runs/small/latest/predictions.parquet").to_pylist()
    labels, values = np.array([row["label"] for row in scores]), np.array([row["score"] for row in scores])
    point = point_at(labels, values, record["held_out_threshold"])
    assert (record["held_out_precision"], record["held_out_recall"]) == (point.precision, point.recall)
    assert "at the F1-max threshold of held-out training images" in out
    page = (tmp_path / "runs/small/latest/report.html").read_text()
    assert "At a threshold" in page
    assert "classifier, preset best" in page
    again = run(CLASSIFIER, synthesizer=PAINTED)
    assert "0 artifacts made" in again[1]
    first, second = (json.loads(text.splitlines()[-1]) for text in (out, again[1]))
    del first["seconds"], second["seconds"]
    assert first == second


def test_a_classifier_keeps_defects_without_masks(run, images, tmp_path):
    for mask in (images / "ground_truth/hole").iterdir():
        mask.unlink()
    code, _, err = run(CLASSIFIER, "split.defects=3")
    assert code == 0, err
    (record,) = results(tmp_path)
    assert (record["train_defects"], record["test_defects"], record["pixel_auroc"]) == (2, 3, None)
    assert record["remarks"].startswith("training defects (3) were taken from the dataset's test split")


def test_a_classifier_without_defects_is_refused_before_anything_is_read(run, tmp_path):
    fails(run(CLASSIFIER), "a classifier needs defects to train on", "dataset.split.defects or a synthesizer")
    assert not (tmp_path / "runs").exists()


def test_released_says_that_labels_come_from_the_masks(run, tmp_path):
    released = {**CLASSIFIER, "preset": "released", "batchnorm": "frozen", "features": CLASSIFIER["features"]}
    released["features"] = {"backbone": "surface_resnet18", **released["features"]}
    code, out, err = run(released, synthesizer=PAINTED)
    assert code == 0, err
    assert "in the test too (labels=full_mask)" in out
    assert "leakage" not in out
    (record,) = results(tmp_path)
    assert record["held_out_threshold"] is None


def test_the_threshold_that_is_chosen_on_test_follows_the_detectors_rule(tmp_path):
    result = make_results(tmp_path, categories=("wood",), seeds=(0,))[0]
    labels = np.array([row.label for row in result.predictions.rows])
    found = {}
    for rule in ("score", "midpoint"):
        detector = ClassifierConfig(threshold=rule)
        config = result.trial.config.model_copy(update={"detector": detector})
        record = result_record(replace(result, trial=replace(result.trial, config=config)))
        point = f1_max_point(labels, result.predictions.scores, rule)
        names = ("image_threshold", "image_precision", "image_recall")
        assert tuple(record[name] for name in names) == (point.threshold, point.precision, point.recall)
        found[rule] = point.threshold
    assert found["midpoint"] < found["score"]


def test_precision_and_recall_are_given_where_nothing_is_held_out(run, tmp_path):
    code, out, err = run({**CLASSIFIER, "checkpoint": "last"}, synthesizer=PAINTED)
    assert code == 0, err
    (record,) = results(tmp_path)
    rows = pq.read_table(tmp_path / "runs/small/latest/predictions.parquet").to_pylist()
    labels, scores = np.array([row["label"] for row in rows]), np.array([row["score"] for row in rows])
    point = f1_max_point(labels, scores, "midpoint")
    names = ("image_threshold", "image_precision", "image_recall")
    assert tuple(record[name] for name in names) == (point.threshold, point.precision, point.recall)
    assert record["held_out_threshold"] is None
    said = f"precision {100 * point.precision:.2f} and recall {100 * point.recall:.2f}"
    assert f"small: {said}, at the F1-max threshold chosen on the test images" in out
    summary = json.loads((tmp_path / "runs/small/latest/summary.json").read_text())
    assert (summary["image_precision"], summary["image_recall"]) == (point.precision, point.recall)
    page = (tmp_path / "runs/small/latest/report.html").read_text()
    assert "it is chosen on test" in page
    assert "Held-out threshold" not in page
    assert f"<td>{point.threshold:.4g}</td><td>{point.precision:.3f}</td><td>{point.recall:.3f}</td>" in page


def test_what_a_classifier_holds_out_is_not_a_background_of_what_it_trains_on(run, images, tmp_path, monkeypatch):
    from exdd_ray.methods.classifier import classifier

    seen, hold_out = [], classifier.hold_out

    def watched(rows, share, seed, sources):
        parts = hold_out(rows, share, seed, sources)
        seen.append((rows, sources, parts))
        return parts

    monkeypatch.setattr(classifier, "hold_out", watched)
    code, _, err = run(CLASSIFIER, synthesizer={"kind": "per_region", "count": 20})
    assert code == 0, err
    ((rows, sources, parts),) = seen
    backgrounds = [{file for at in part for file in sources.get(rows[at].id, (rows[at].image,))} for part in parts]
    assert len(sources) > 10
    assert all(sources.values())
    assert not backgrounds[0] & backgrounds[1]
    assert any(rows[at].id in sources for at in parts[1])


def test_lines_of_progress_leave_out_what_an_earlier_run_had_done(capsys, monkeypatch):
    from exdd_ray.cli import progress

    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.terminal_progress("training", 1000) as advance:
        advance(900)  # resumed
        now = 30.0
        advance(3)
        now = 60.0
        advance(3)
    assert capsys.readouterr().err.splitlines() == [
        "training: 903/1000, 30 s, 0.1/s, 970 s left",
        "training: 906/1000, 60 s, 0.1/s, 940 s left",
    ]


def test_diffusionad_trains_on_normal_images_alone(run, tmp_path):
    code, out, err = run(DIFFUSIONAD, "split.defects=2")
    assert code == 0, err
    assert "after 3 steps: validation" in err
    assert "leakage" not in out
    (record,) = results(tmp_path)
    assert record["detector"] == "diffusionad"
    assert (record["train_normal"], record["train_defects"], record["train_synthetic"]) == (7, 0, 0)
    assert record["test_defects"] == 4
    assert record["held_out_threshold"] is not None
    assert record["pixel_auroc"] is not None
    assert "0 artifacts made" in run(DIFFUSIONAD, "split.defects=2")[1]


def test_an_unreadable_image_is_refused_or_left_out(run, images):
    broken = images / "train/good/3.png"
    broken.write_bytes(broken.read_bytes()[:100])
    fails(run(DIFFUSIONAD), "1 of 20 images are unreadable", "3.png")
    code, out, err = run(DIFFUSIONAD, "max_unreadable=0.1")
    assert code == 0, err
    assert "1 unreadable images left out" in out


def test_fewer_images_than_a_batch(run):
    fails(run({**DIFFUSIONAD, "training": {"batch": 16}}), "7 training images are fewer than a batch of 16")
    fails(run({**CLASSIFIER, "training": {"batch": 16}}, synthesizer=PAINTED), "fewer than a batch of 16")


def test_a_loss_that_is_not_finite_names_the_step_and_the_last_good_checkpoint(run, tmp_path):
    bursting = {**CLASSIFIER, "learning_rate": 1e30, "training": {"batch": 4, "checkpoint_every": 1}}
    result = run({**bursting, "checkpoint": "last"}, synthesizer=PAINTED)
    fails(result, "the last good checkpoint is", "step-0000000")
    assert list((tmp_path / "store/unfinished").glob("*/step-*/weights.safetensors"))


def test_several_workers_need_a_cluster(run):
    fails(run({**DIFFUSIONAD, "training": {"batch": 2, "workers": 2}}), "training.workers=2 needs a Ray cluster: --ray")


def test_banks_and_trained_detectors_share_a_report(run, tmp_path):
    bank = {"system": "patchcore", "features": {"resize": [64, 64]}}
    variants = {
        "bank": {},
        "labels": {"detector": CLASSIFIER, "synthesizer": PAINTED},
        "noise": {"detector": DIFFUSIONAD},
    }
    code, _, err = run(bank, variants=variants)
    assert code == 0, err
    assert [record["detector"] for record in results(tmp_path)] == ["patch_bank", "classifier", "diffusionad"]
    page = (tmp_path / "runs/small/latest/report.html").read_text()
    for words in ("patchcore, preset best", "classifier, preset best", "diffusionad, preset best"):
        assert words in page


def test_zero_shot_masks_are_those_that_the_dataset_has_in_train(tmp_path):
    from exdd_ray.data.catalog import CatalogRow, build_catalog, select_rows
    from exdd_ray.experiment.assign import mask_donors
    from exdd_ray.experiment.config import ExperimentConfig
    from exdd_ray.experiment.dataset import split_universe

    def row(name, split, label):
        return CatalogRow(id=name, dataset="d", category="c", split=split, label=label, defect="x", image=name)

    universe = build_catalog([row("n", "train", 0), row("p", "train", 1), row("q", "train", 1), row("t", "test", 1)])
    for defects, expected in ((0, {"p", "q"}), (1, None), (None, {"p", "q"})):
        config = ExperimentConfig.model_validate({"dataset": {"split": {"defects": defects}}})
        train = select_rows(split_universe(config, universe), split="train")
        givers = set(mask_donors(config, universe, train)["id"].to_pylist())
        assert givers == expected if expected else len(givers) == 1
