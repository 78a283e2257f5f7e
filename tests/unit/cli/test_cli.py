"""What a user types: mistakes end in one line that names file and reason, exit code 2, and no half-written result."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from exdd_ray.cli.main import main
from exdd_ray.data.procedural.defects import add_defect
from exdd_ray.data.procedural.surfaces import make_surface

SIZE = (64, 64)
FAST = ("features.resize=[64,64]", "evaluation.bootstrap=50", "scoring.calibration=4")


@pytest.fixture
def images(tmp_path):
    """A small MVTec-like folder: 6 + 4 normal images, 4 scratches with masks."""
    root = tmp_path / "images"
    for part, count in (("train/good", 6), ("test/good", 4), ("test/scratch", 4), ("ground_truth/scratch", 4)):
        (root / part).mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng([i, part.startswith("train")])
            image = make_surface("ceramic", SIZE, rng)
            if "scratch" in part:
                image, mask = add_defect(image, "scratch", np.random.default_rng(i))
                image = mask.astype(np.uint8) * 255 if part.startswith("ground") else image
            Image.fromarray(image).save(root / part / f"{i}.png")
    return root


@pytest.fixture
def run(images, tmp_path, capsys, monkeypatch):
    """Runs `exdd run` on the small folder; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(
        f"name: small\ndataset: {{name: folder, root: {images}, split: {{defects: 1}}}}\n"
    )

    def call(*arguments, fast=FAST):
        code = main(["run", "small.yaml", *fast, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_run_writes_everything_and_its_last_line_is_json(run, tmp_path):
    code, out, err = run("--json")
    assert code == 0, err
    metrics = json.loads(out.splitlines()[-1])
    assert set(metrics) >= {"image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro", "seconds"}
    assert {path.name for path in (tmp_path / "runs/small/latest").iterdir()} == {
        "config.yaml",
        "plan.json",
        "predictions.parquet",
        "report.html",
        "resolved.yaml",
        "summary.json",
        "summary.parquet",
        "trials.parquet",
    }
    assert "note: training defects (1) were taken from the dataset's test split and are not tested" in out


def test_a_second_run_takes_everything_from_the_store_bit_by_bit(run):
    first, second = run("--json"), run("--json")
    assert "0 artifacts made" in second[1]
    one, other = (json.loads(out.splitlines()[-1]) for _, out, _ in (first, second))
    del one["seconds"], other["seconds"]
    assert one == other


def test_a_variant_that_fails_does_so_alone(run, tmp_path):
    code, out, err = run("grid={dataset.split.defects: [1, 500]}", "--json")
    assert code == 1, err
    (reason,) = re.findall("^1 failed: (.*)$", out, re.MULTILINE)
    assert "500 defects to train on" in reason
    found = json.loads(out.splitlines()[-1])
    assert found["trials"]["defects=1"]["runs"] == 1
    assert (found["trials"]["defects=500"]["image_auroc"], found["failed"]) == (None, 1)
    rows = pq.read_table(tmp_path / "runs/small/latest/trials.parquet").to_pylist()
    assert [(row["name"], row["state"]) for row in rows] == [("defects=1", "done"), ("defects=500", "failed")]
    assert reason in (tmp_path / "runs/small/latest/report.html").read_text()


def test_a_plan_makes_nothing(run, tmp_path):
    code, out, _ = run("--plan")
    assert code == 0
    assert "1 trials: " in " ".join(out.split())
    assert not (tmp_path / "runs").exists()


def test_the_page_of_a_run_is_made_again_from_its_folder_and_the_store(run, images, tmp_path, capsys):
    assert run()[0] == 0
    page = tmp_path / "runs/small/latest/report.html"
    first = page.read_text()
    page.unlink()
    assert main(["report", str(page.parent)]) == 0
    written = re.compile("<time.*</time>")
    assert written.sub("", page.read_text()) == written.sub("", first)
    assert main(["track", "log", "--tensorboard", str(page.parent)]) == 2
    assert "the results of a run, and trackers show sweeps" in capsys.readouterr().err


def fails(result, *words):
    code, out, err = result
    assert code == 2, (out, err)
    (line,) = [line for line in err.splitlines() if line.startswith("exdd: ")]
    for word in words:
        assert word in line
    assert "Traceback" not in err


def test_a_truncated_image_is_refused_or_left_out(run, images, tmp_path):
    broken = images / "train/good/3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    fails(run(), "1 of 14 images are unreadable", "max_unreadable=0 ", "3.png")
    assert not (tmp_path / "runs").exists()
    code, out, _ = run("max_unreadable=0.1")
    assert code == 0
    assert "1 unreadable images left out" in out


def test_a_mask_of_another_size(run, images):
    Image.new("L", (10, 10), 255).save(images / "ground_truth/scratch/0.png")
    Image.new("L", (10, 10), 255).save(images / "ground_truth/scratch/1.png")
    Image.new("L", (10, 10), 255).save(images / "ground_truth/scratch/2.png")
    Image.new("L", (10, 10), 255).save(images / "ground_truth/scratch/3.png")
    fails(run(), "10 x 10", "64 x 64", "ground_truth")


def test_no_normal_image(run, images):
    for path in (images / "train/good").iterdir():
        path.unlink()
    fails(run(), "no normal image")


def test_no_defect_for_a_dual_bank(run):
    fails(run("dataset.split.defects=0", "fusion=bonus"), "dual bank needs defects", "dataset.split.defects")
    code, out, _ = run("dataset.split.defects=0")
    assert code == 0
    assert "no defect to train on: what is normal decides alone" in out


def test_more_defects_than_there_are(run):
    fails(run("dataset.split.defects=9"), "9", "4")


def test_a_test_set_of_one_class(run, images):
    for path in (images / "test/good").iterdir():
        path.unlink()
    code, out, _ = run()
    assert code == 0
    assert "note: scores without metrics: the test images are all defective" in out


def test_odd_image_modes_are_read(run, images):
    folder = images / "test/good"
    grey = Image.open(folder / "0.png").convert("L")
    grey.save(folder / "0.png")
    Image.open(folder / "1.png").convert("RGBA").save(folder / "1.png")
    Image.open(folder / "2.png").convert("CMYK").save(folder / "2.jpg")
    (folder / "2.png").unlink()
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "3.png")
    code, _, err = run("--json")
    assert code == 0, err


FEW = ("procedural.materials=[wood]", "procedural.size=[64,64]", "procedural.normal_train=4")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "missing.yaml"], ["missing.yaml", "No such file"]),
        (["run", "bank.negativ.rate=0.1"], ["bank.negativ.rate", "did you mean"]),
        (["run", "dataset.name=magnetic_tyle"], ["magnetic_tyle", "did you mean 'magnetic_tile'"]),
        (["run", "dataset.name=ksdd2", "dataset.root=/no/such"], ["/no/such", "no such folder"]),
        (["run", "features.backbone=resnet51", *FEW], ["unknown backbone 'resnet51'", "did you mean"]),
        (["run", "dataset.name=procedual"], ["did you mean 'procedural'"]),
        (["run", "output=/proc/x/y"], ["cannot write the results"]),
        (["run", "store=/proc/x"], ["cannot write to the store"]),
        (["run", "features.weights=/no/weights.pth", *FEW], ["/no/weights.pth"]),
        (["run", "procedural.materials=[cheese]"], ["cheese"]),
        (["config", "seed=-1"], ["seed", "greater than or equal to 0"]),
    ],
)
def test_mistakes_get_one_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = main(arguments)
    fails((code, "", capsys.readouterr().err), *words)
    assert not (tmp_path / "runs").exists()


def test_a_folder_with_anything_else_is_never_replaced(run, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    fails(run(f"output={tmp_path}/precious"), "thesis.txt", "another folder")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years of work"


def test_runs_of_one_experiment_are_kept_side_by_side(run, tmp_path):
    done = [run(*more) for more in ((), ("scoring.bonus=0.25",), ("scoring.bonus=0.25",))]
    assert [code for code, *_ in done] == [0, 0, 0], done
    folders = [Path(re.search("report: (.*)/report.html", out)[1]) for _, out, _ in done]
    assert len(set(folders)) == 3
    assert all((folder / "trials.parquet").exists() for folder in folders)
    assert [folder.name.count("scoring.bonus=0.25") for folder in folders] == [0, 1, 1]
    assert (tmp_path / "runs/small/latest").resolve() == folders[-1]
    assert "<code>scoring.bonus=0.25</code>" in (folders[1] / "report.html").read_text()


def test_a_folder_of_results_is_not_overwritten(run, tmp_path):
    assert run("output=mine")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "mine").iterdir()}
    fails(run("output=mine"), "mine", "nothing is overwritten", "output=")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "mine").iterdir()} == before
    assert not (tmp_path / "runs").exists()


def test_the_written_config_runs_again_to_the_same_result(run, capsys):
    code, out, _ = run("--json", "detector.scoring.bonus=0.25")
    assert code == 0
    assert main(["run", "runs/small/latest/config.yaml", "--json", "output=again"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["image_auroc"] == json.loads(out.splitlines()[-1])["image_auroc"]


def test_two_folders_with_the_same_file_names_keep_their_own_masks(images, run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(images, other)
    for path in (other / "ground_truth/scratch").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(mask[::-1, ::-1]).save(path)
    (tmp_path / "both.yaml").write_text(
        f"dataset: {{name: folder, root: {images}}}\ndetector: {{system: patchcore}}\n"
        f"variants: {{a: {{dataset.root: {images}}}, b: {{dataset.root: {other}}}}}\nname: both\n"
    )
    assert main(["run", "both.yaml", *FAST]) == 0
    results = pq.read_table(tmp_path / "runs/both/latest/trials.parquet").to_pylist()
    assert results[0]["pixel_ap"] != results[1]["pixel_ap"]
    assert results[0]["image_auroc"] == results[1]["image_auroc"]


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from exdd_ray.errors import ConfigError

    with pytest.raises(ConfigError):
        main(["run", "missing.yaml", "--debug"])


def test_a_results_folder_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    fails(run(f"output={tmp_path}/file/inside"), "cannot write the results")


def test_help_lists_the_keys(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help", "all"])
    assert "detector.bank.negative.rate=" in capsys.readouterr().out


def test_config_prints_what_a_run_would_use(capsys):
    import yaml

    assert main(["config", "bank.negative.rate=0.125"]) == 0
    trials = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [trial["detector"]["bank"]["negative"]["rate"] for trial in trials] == [0.125] * 3


def test_help_takes_less_than_a_second():
    def once():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "exdd_ray.cli.main", "--help"], check=True, capture_output=True)
        return time.perf_counter() - started

    assert min(once() for _ in range(3)) < 1.0
