"""A detector leaves the lab: run, export, score; and what is refused on the way."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from exdd_ray.cli.main import main
from exdd_ray.line.detector import Detector
from exdd_ray.report.sweep_data import read_sweep, read_trials

pytestmark = pytest.mark.slow
SMALL = (
    "dataset.category=ceramic",
    "dataset.procedural={size: [48, 48], normal_train: 8, normal_test: 4, defects_per_kind: 2}",
    "dataset.split.defects=3",
    "detector.features.resize=[48, 48]",
    "synthesizer=null",
    "evaluation.bootstrap=0",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The results of one bank and two, and the two exported."""
    folder = tmp_path_factory.mktemp("lab")
    places = [f"store={folder / 'store'}", f"output={folder / 'run'}"]
    assert main(["run", "demo", *SMALL, *places]) == 0
    assert main(["export", str(folder / "run"), str(folder / "model"), "--trial", "dual bank, real defects"]) == 0
    return folder


def test_what_is_scored_is_what_was_evaluated(lab, tmp_path):
    """Files of another folder, which the store has never seen."""
    sweep = read_sweep(lab / "run")
    (result,) = read_trials(sweep, [row for row in sweep.rows if row["name"] == "dual bank, real defects"])
    for number, row in enumerate(result.rows):
        shutil.copy(row.image, tmp_path / f"{number:03d}.png")
    assert main(["score", str(tmp_path), "--model", str(lab / "model"), "--csv", str(tmp_path / "scores.csv")]) == 0
    with (tmp_path / "scores.csv").open() as file:
        scored = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["score"]) for row in scored], result.scores, rtol=1e-4, atol=1e-5)
    verdicts = [row["defective"] == "True" for row in scored]
    assert verdicts == (result.scores >= result.chosen_on_test.threshold).tolist()


def test_pixels_are_scored_as_files_are_in_any_number_at_once(lab):
    detector = Detector.load(lab / "model")
    pixels = [np.random.default_rng(seed).integers(0, 256, (60, 50, 3), dtype=np.uint8) for seed in range(5)]
    one_by_one = [one.score for one in detector.predict(pixels, batch=1)]
    together = [one.score for one in detector.predict(pixels, batch=500)]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-5)
    (first, *_) = detector.predict(pixels)
    assert first.map.shape == (48, 48)
    assert first.margin == pytest.approx(first.score - detector.manifest.threshold.value)
    assert first.defective == (first.margin >= 0)


def test_unreadable_files_are_named_and_the_others_scored(lab, tmp_path, capsys):
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(tmp_path / "c.png")
    maps = tmp_path / "maps"
    assert main(["score", str(tmp_path), "--model", str(lab / "model"), "--maps", str(maps)]) == 1
    printed = capsys.readouterr()
    rows = list(csv.DictReader(printed.out.splitlines()))
    assert [row["error"] != "" for row in rows] == [False, True, False]
    assert "1 of 3 files could not be read" in printed.err
    assert rows[0]["score"] == rows[2]["score"], "grey and RGB of the same values"
    assert [Image.open(file).size for file in sorted(maps.iterdir())] == [(48, 48)] * 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "{lab}/run", "{tmp}/m"], "say which --trial: single bank, dual bank"),
        (["export", "{lab}/run", "{tmp}/m", "--trial", "none"], "no trial 'none': single bank"),
        (["export", "{lab}/run", "{lab}/model", "--trial", "single bank"], "is there already"),
        (["export", "{tmp}", "{tmp}/m"], "not the results of a run or a sweep"),
        (["export", "{lab}/run", "/proc/no/m", "--trial", "single bank"], "cannot write the results"),
        (["score", "{tmp}", "--model", "{lab}/model"], "no image in this folder"),
        (["score", "{tmp}/x.png", "--model", "{lab}/model"], "no such file or folder"),
        (["score", "{tmp}", "--model", "{lab}/run"], "no exported detector"),
    ],
)
def test_mistakes_end_in_one_line(words, said, lab, tmp_path, capsys):
    assert main([word.format(lab=lab, tmp=tmp_path) for word in words]) == 2
    text = capsys.readouterr().err
    assert said in text
    assert not (tmp_path / "m").exists()


def test_a_model_that_was_altered_is_refused(lab, tmp_path, capsys):
    shutil.copytree(lab / "model", tmp_path / "model")
    with (tmp_path / "model" / "weights.safetensors").open("r+b") as file:
        file.truncate(1000)
    assert main(["score", str(lab), "--model", str(tmp_path / "model")]) == 2
    assert "weights.safetensors: altered or cut short" in capsys.readouterr().err
